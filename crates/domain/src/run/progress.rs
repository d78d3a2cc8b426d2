/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunProgress {
    /// The whole, 0..=1; never falls within an attempt.
    pub value: f64,
    /// How many nodes are done, those that the backend had cached included.
    pub nodes_done: u32,
    /// How many nodes the graph has.
    pub nodes_total: u32,
    /// The node that the backend works on.
    pub current_node: Option<String>,
    /// Steps done within that node.
    pub step: Option<u32>,
    /// Steps that the node has.
    pub steps: Option<u32>,
    /// How much of the LoRAs that the backend lacked is on its disk by now, in
    /// bytes; `None` where nothing had to be copied.
    pub lora_bytes_done: Option<u64>,
    /// How much had to be copied, in bytes.
    pub lora_bytes_total: Option<u64>,
}

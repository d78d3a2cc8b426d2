//! Graphs in ComfyUI's API format.

use serde_json::{Value, json};

/// The checkpoint that the simulator offers.
pub const CHECKPOINT: &str = "sim-sd15.safetensors";

/// `EmptyImage` to `SaveImage`: needs no model, makes `pictures` pictures.
pub fn without_models(pictures: u32) -> Value {
    json!({
        "1": {"class_type": "EmptyImage",
              "inputs": {"width": 16, "height": 16, "batch_size": pictures, "color": 255}},
        "2": {"class_type": "SaveImage",
              "inputs": {"images": ["1", 0], "filename_prefix": "square"}}
    })
}

/// Stable Diffusion 1.5 as it is.
pub fn without_lora() -> Value {
    let mut graph = with_lora("");
    graph["3"]["inputs"]["model"] = json!(["4", 0]);
    graph["6"]["inputs"]["clip"] = json!(["4", 1]);
    graph["7"]["inputs"]["clip"] = json!(["4", 1]);
    graph.as_object_mut().expect("a graph").remove("10");
    graph
}

/// A graph with this node as `10`, which other nodes want as a LoRA loader.
pub fn with_node(class_type: &str, inputs: &Value) -> Value {
    let mut graph = with_lora("x.safetensors");
    graph["10"] = json!({"class_type": class_type, "inputs": inputs});
    graph
}

/// Stable Diffusion 1.5 with one LoRA, `lora_name`, in node `10`.
pub fn with_lora(lora_name: &str) -> Value {
    json!({
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 42, "steps": 4, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal",
            "denoise": 1.0, "model": ["10", 0], "positive": ["6", 0], "negative": ["7", 0],
            "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}},
        "5": {"class_type": "EmptyLatentImage",
              "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode",
              "inputs": {"text": "a photo of a cat", "clip": ["10", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "bad", "clip": ["10", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage",
              "inputs": {"images": ["8", 0], "filename_prefix": "picture"}},
        "10": {"class_type": "LoraLoader", "inputs": {
            "model": ["4", 0], "clip": ["4", 1], "lora_name": lora_name,
            "strength_model": 1.0, "strength_clip": 1.0}}
    })
}

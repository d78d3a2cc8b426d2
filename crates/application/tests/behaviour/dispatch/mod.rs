//! What becomes of runs.

mod attendance;
mod cancelling;
mod caretaking;
mod cleaning;
mod deadlines;
mod endings;
mod following;
mod lora_syncing;
mod observation;
mod orphans;
mod outputs;
mod placing;
mod submitting;
mod survival;
mod uploads;

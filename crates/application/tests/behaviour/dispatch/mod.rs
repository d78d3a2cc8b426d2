//! What becomes of runs.

mod attendance;
mod cancelling;
mod cleaning;
mod deadlines;
mod endings;
mod following;
mod lora_syncing;
mod outputs;
mod submitting;
mod survival;

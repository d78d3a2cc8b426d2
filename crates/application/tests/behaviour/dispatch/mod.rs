//! What becomes of runs.

mod cancelling;
mod cleaning;
mod endings;
mod following;
mod lora_syncing;
mod outputs;
mod submitting;
mod survival;

//! LoRAs over real server processes: whose they are, and how they get to where ComfyUI loads them.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops at the first surprise"
)]

mod accepted;
mod contents;
mod conventions;
mod damage;
mod deletion;
mod disks;
mod doors;
mod neighbours;
mod one_copy;
mod orphans;
mod reached;
mod room;
mod tricks;
mod workshop;

/// The server as it ships.
pub(crate) const ATELIER: &str = env!("CARGO_BIN_EXE_atelier-under-test");

//! The client against a simulated ComfyUI of both versions, on real sockets.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what these stumble over is a failed test"
)]

mod cancel;
mod events;
mod fronts;
mod inputs;
mod offers;
mod prompts;
mod scripted;
mod support;

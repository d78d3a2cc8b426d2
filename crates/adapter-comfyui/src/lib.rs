//! ComfyUI: its HTTP and WebSocket interface behind the
//! [`ComfyClient`](atelier_domain::ports::ComfyClient) port, and its folder of
//! LoRAs behind [`LoraFolder`](atelier_domain::ports::LoraFolder).
//!
//! What ComfyUI really does, and why this crate does what it does, stands in
//! `reference/comfyui/PROTOCOL.md`. Versions from 0.3.44 on are supported, the
//! jobs API is used where there is one, and nothing that a backend says in its
//! own words gets into an error.

mod client;
mod events;
mod lora_folder;
mod options;
mod transport;

pub use client::ComfyHttp;
pub use lora_folder::{LoraFolderOptions, MountedLoraFolder};
pub use options::{ComfyCredentials, ComfyOptions, ComfyOptionsError};

//! A backend's LoRA folder, mounted on this machine.

mod directory;
mod feed;
mod folder;
mod install;
mod record;
mod sweep;
mod temporary;

pub use folder::MountedLoraFolder;

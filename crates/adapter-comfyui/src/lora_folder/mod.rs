//! A backend's LoRA folder, mounted on this machine.

mod clean;
mod directory;
mod feed;
mod folder;
mod install;
mod part;
mod record;
mod room;
mod root;
mod verify;

pub use folder::MountedLoraFolder;
pub use root::LoraFolderOptions;

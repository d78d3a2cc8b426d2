//! The model folders as the server sees them (`reference/comfyui/PROTOCOL.md` section 9).

mod listing;
mod safetensors;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use listing::Listing;
pub(crate) use safetensors::check as check_safetensors;

use crate::options::{SimulatorOptions, Version};

/// The folder names of `GET /models`, in the order of the current version.
const FOLDERS: [&str; 27] = [
    "checkpoints",
    "configs",
    "loras",
    "vae",
    "text_encoders",
    "diffusion_models",
    "clip_vision",
    "style_models",
    "embeddings",
    "diffusers",
    "vae_approx",
    "controlnet",
    "gligen",
    "upscale_models",
    "latent_upscale_models",
    "custom_nodes",
    "datasets",
    "hypernetworks",
    "photomaker",
    "classifiers",
    "model_patches",
    "audio_encoders",
    "background_removal",
    "frame_interpolation",
    "geometry_estimation",
    "optical_flow",
    "detection",
];

/// The folders that 0.3.64 does not have yet.
const CURRENT_FOLDERS: [&str; 7] = [
    "latent_upscale_models",
    "datasets",
    "background_removal",
    "frame_interpolation",
    "geometry_estimation",
    "optical_flow",
    "detection",
];

/// The folders whose models may also lie below `output/`, where the saving nodes put them.
const ALSO_IN_OUTPUT: [&str; 4] = ["checkpoints", "loras", "vae", "diffusion_models"];

/// All model folders and what was last seen in them.
#[derive(Debug)]
pub(crate) struct Models {
    folders: Vec<&'static str>,
    base_dir: PathBuf,
    loras_dir: PathBuf,
    virtual_checkpoints: Vec<String>,
    listings: Mutex<HashMap<&'static str, Listing>>,
}

impl Models {
    pub(crate) fn new(options: &SimulatorOptions) -> Self {
        let known = |folder: &&str| {
            options.version != Version::V0_3_64 || !CURRENT_FOLDERS.contains(folder)
        };
        Self {
            folders: FOLDERS.into_iter().filter(known).collect(),
            base_dir: options.base_dir.clone(),
            loras_dir: options.loras_dir(),
            virtual_checkpoints: options.checkpoints.clone(),
            listings: Mutex::default(),
        }
    }

    /// The folder names of `GET /models`.
    pub(crate) fn folders(&self) -> &[&'static str] {
        &self.folders
    }

    /// The directories behind a folder name; `None` for an unknown folder.
    pub(crate) fn roots(&self, folder: &str) -> Option<Vec<PathBuf>> {
        let folder = self.folders.iter().find(|known| **known == folder)?;
        let first = match *folder {
            "loras" => self.loras_dir.clone(),
            "custom_nodes" => self.base_dir.join("custom_nodes"),
            other => self.base_dir.join("models").join(other),
        };
        let mut roots = vec![first];
        if ALSO_IN_OUTPUT.contains(folder) {
            roots.push(self.base_dir.join("output").join(folder));
        }
        Some(roots)
    }

    /// The files of a folder: relative names with forward slashes, sorted. `None` for an unknown folder.
    pub(crate) fn list(&self, folder: &str) -> Option<Vec<String>> {
        let roots = self.roots(folder)?;
        let key = self.folders.iter().find(|known| **known == folder)?;
        let mut listings = self.listings.lock().unwrap_or_else(PoisonError::into_inner);
        let listing = listings.entry(key).or_default();
        listing.refresh(&roots);
        let mut names = listing.names().to_vec();
        if folder == "checkpoints" {
            names.extend(self.virtual_checkpoints.iter().cloned());
            names.sort();
            names.dedup();
        }
        Some(names)
    }

    /// Whether this checkpoint needs no file.
    pub(crate) fn is_virtual(&self, checkpoint: &str) -> bool {
        self.virtual_checkpoints
            .iter()
            .any(|name| name == checkpoint)
    }

    /// The file behind a listed name, looked up on disk now; `None` if it is gone.
    pub(crate) fn path(&self, folder: &str, name: &str) -> Option<PathBuf> {
        self.roots(folder)?
            .into_iter()
            .map(|root| root.join(name))
            .find(|path| path.is_file())
    }

    /// Size in bytes and modification time of a listed file, for `GET /experiment/models/{folder}`.
    pub(crate) fn metadata(&self, folder: &str, name: &str) -> Option<(usize, std::fs::Metadata)> {
        let roots = self.roots(folder)?;
        roots.iter().enumerate().find_map(|(index, root)| {
            std::fs::metadata(root.join(name))
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|metadata| (index, metadata))
        })
    }
}

/// Whether a file name has one of the listed extensions, in any case.
fn is_model_file(path: &Path) -> bool {
    const EXTENSIONS: [&str; 8] = [
        "bin",
        "ckpt",
        "pkl",
        "pt",
        "pt2",
        "pth",
        "safetensors",
        "sft",
    ];
    // A name that is nothing but an extension, such as `.pt`, has none.
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| {
            EXTENSIONS
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
        })
}

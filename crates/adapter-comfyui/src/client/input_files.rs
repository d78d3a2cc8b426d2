//! Which inputs name a file of ComfyUI's input folder, by what `object_info` says.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The core class that offers every picture directly in that folder.
const LOADER: (&str, &str) = ("LoadImage", "image");

/// The flags by which a class says that its input takes uploads: `image_upload`, `video_upload`,
/// `audio_upload`, `file_upload`, and whatever else ends so.
const UPLOAD: &str = "upload";

/// Where uploads go, where that is not the input folder.
const OTHER_FOLDERS: [&str; 2] = ["output", "temp"];

/// Tells whether inputs name such files.
pub(super) struct InputFiles<'a> {
    /// What is offered where all pictures of the folder are.
    pictures: BTreeSet<&'a str>,
}

impl<'a> InputFiles<'a> {
    pub(super) fn of(classes: &'a Map<String, Value>) -> Self {
        let (class_type, input) = LOADER;
        let options = classes
            .get(class_type)
            .and_then(|class| class.get("input")?.get("required")?.get(input))
            .and_then(super::offered::options);
        let pictures = options.into_iter().flatten().filter_map(Value::as_str);
        Self {
            pictures: pictures.collect(),
        }
    }

    /// Whether an input with this specification does: it takes uploads, or it offers all that
    /// the core loader offers.
    pub(super) fn has(&self, specification: &Value) -> bool {
        takes_uploads(specification) || self.offers_the_folder(specification)
    }

    fn offers_the_folder(&self, specification: &Value) -> bool {
        let Some(options) = super::offered::options(specification) else {
            return false;
        };
        let offered: BTreeSet<&str> = options.iter().filter_map(Value::as_str).collect();
        !self.pictures.is_empty() && self.pictures.is_subset(&offered)
    }
}

fn takes_uploads(specification: &Value) -> bool {
    let Some(details) = specification.get(1).and_then(Value::as_object) else {
        return false;
    };
    let folder = details.get("image_folder").and_then(Value::as_str);
    if folder.is_some_and(|folder| OTHER_FOLDERS.contains(&folder)) {
        return false;
    }
    details.iter().any(|(name, value)| {
        let says_so = name == UPLOAD || name.ends_with(&format!("_{UPLOAD}"));
        says_so && !matches!(value, Value::Null | Value::Bool(false))
    })
}

//! What is really on a disk: files, sizes, bytes.

use std::path::{Path, PathBuf};

use atelier_testkit::build::sha256_of;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::traces::files_below;
use serde_json::{Value, json};

/// A file with so many bytes of weights, and other ones for each seed.
pub(crate) fn weights(size: usize, seed: u8) -> LoraFile {
    let metadata = json!({"seed": seed.to_string()});
    LoraFile::new(&metadata, &[("weights", &[size])], |at| {
        let [first, second, third, ..] = at.to_le_bytes();
        first ^ second.wrapping_mul(31) ^ third.wrapping_mul(17) ^ seed
    })
}

/// The files in a backend's LoRA folder that are somebody's, relative to it and in order; what is
/// known of them, below `.atelier`, is left out.
pub(crate) fn names_in(loras: &Path) -> Vec<String> {
    let mut names: Vec<String> = files_below(loras)
        .iter()
        .map(|file| relative(file, loras))
        .filter(|name| !name.starts_with(".atelier/"))
        .collect();
    names.sort();
    names
}

fn relative(file: &Path, folder: &Path) -> String {
    let relative = file.strip_prefix(folder).expect("it is below the folder");
    relative.to_str().expect("our names are text").to_owned()
}

/// The files that are being installed, or were when somebody died.
pub(crate) fn parts_in(loras: &Path) -> Vec<PathBuf> {
    let mut files = files_below(loras);
    files.retain(|file| file.extension().is_some_and(|end| end == "part"));
    files
}

/// Fails unless a file has exactly these bytes.
#[track_caller]
pub(crate) fn assert_is(path: &Path, file: &LoraFile) {
    let bytes = std::fs::read(path).expect("it is there");
    assert_eq!(bytes.len(), file.bytes.len(), "{}", path.display());
    assert!(
        sha256_of(&bytes) == sha256_of(&file.bytes),
        "{} has other bytes",
        path.display()
    );
}

/// What a backend answers to a GET.
pub(crate) async fn ask(backend: &Backend, path: &str) -> Value {
    let client = reqwest::Client::builder().no_proxy().build();
    let request = client
        .expect("a client without TLS settings")
        .get(format!("{}{path}", backend.url()));
    let answer = request.send().await.expect("it answers");
    let body = answer.bytes().await.expect("a whole body");
    serde_json::from_slice(&body).expect("JSON")
}

/// What a backend lists, and so would load.
pub(crate) async fn listed(backend: &Backend) -> Vec<String> {
    let list = ask(backend, "/models/loras").await;
    serde_json::from_value(list).expect("a list of names")
}

//! One folder's file list, scanned again only when a directory's modification time changed.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::is_model_file;

/// Deeper nesting than this is a symbolic link that leads back up.
const MAX_DEPTH: usize = 40;

/// The names that were found, and the directories they were found in.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    names: Vec<String>,
    directories: Vec<(PathBuf, SystemTime)>,
}

impl Listing {
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// Scans again unless every directory has the modification time it had at the last scan. A file that was added behind a restored
    /// modification time therefore stays unseen.
    pub(crate) fn refresh(&mut self, roots: &[PathBuf]) {
        let unchanged = self
            .directories
            .iter()
            .all(|(directory, seen)| modified(directory).as_ref() == Some(seen));
        let complete = roots
            .iter()
            .all(|root| !root.is_dir() || self.directories.iter().any(|(seen, _)| seen == root));
        if unchanged && complete && !self.directories.is_empty() {
            return;
        }
        *self = Self::default();
        for root in roots {
            self.scan(root, "", 0);
        }
        self.names.sort();
        self.names.dedup();
    }

    fn scan(&mut self, directory: &Path, prefix: &str, depth: usize) {
        // The time is taken before reading: a change in between is seen at the next refresh.
        let Some(time) = modified(directory) else {
            return;
        };
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        self.directories.push((directory.to_owned(), time));
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if path.is_dir() {
                if depth < MAX_DEPTH {
                    self.scan(&path, &format!("{prefix}{name}/"), depth + 1);
                }
            } else if is_model_file(&path) {
                self.names.push(format!("{prefix}{name}"));
            }
        }
    }
}

fn modified(directory: &Path) -> Option<SystemTime> {
    std::fs::metadata(directory)
        .and_then(|metadata| metadata.modified())
        .ok()
}

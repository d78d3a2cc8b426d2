//! Where a saving node puts its files: prefix, subfolder and counter (`reference/comfyui/PROTOCOL.md` section 5).

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use chrono::{DateTime, Local};

/// A place for the files of one saving node.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    /// Relative to the root, with forward slashes, empty for the root itself.
    pub(crate) subfolder: String,
    pub(crate) stem: String,
    /// The first free number.
    pub(crate) counter: u64,
}

/// Why there is no place for the files.
#[derive(Debug)]
pub(crate) enum PlaceError {
    /// The prefix leaves the root.
    Outside {
        folder: PathBuf,
    },
    Io(io::Error),
}

impl Place {
    /// Expands the prefix below `root` and finds the first free number; the folder exists afterwards.
    pub(crate) fn find(
        root: &Path,
        prefix: &str,
        width: u32,
        height: u32,
    ) -> Result<Self, PlaceError> {
        let prefix = normalize(&expand(prefix, width, height));
        let (subfolder, stem) = prefix.rsplit_once('/').unwrap_or(("", &prefix));
        let absolute = prefix.starts_with('/');
        if absolute || subfolder == ".." || subfolder.starts_with("../") {
            let folder = if absolute {
                PathBuf::from(subfolder)
            } else {
                root.join(subfolder)
            };
            return Err(PlaceError::Outside {
                folder: PathBuf::from(normalize(&folder.to_string_lossy())),
            });
        }
        let folder = if subfolder.is_empty() {
            root.to_owned()
        } else {
            root.join(subfolder)
        };
        std::fs::create_dir_all(&folder).map_err(PlaceError::Io)?;
        let counter = highest(&folder, stem).map_err(PlaceError::Io)? + 1;
        Ok(Self {
            folder,
            subfolder: subfolder.to_owned(),
            stem: stem.to_owned(),
            counter,
        })
    }

    /// The name of the file with this position in the batch.
    pub(crate) fn file_name(&self, position: u64) -> String {
        let stem = self.stem.replace("%batch_num%", &position.to_string());
        format!("{stem}_{:05}_.png", self.counter + position)
    }
}

/// Replaces `%width%`, `%height%` and the parts of the local time.
fn expand(prefix: &str, width: u32, height: u32) -> String {
    if !prefix.contains('%') {
        return prefix.to_owned();
    }
    let now: DateTime<Local> = SystemTime::now().into();
    [
        ("%width%", width.to_string()),
        ("%height%", height.to_string()),
        ("%year%", now.format("%Y").to_string()),
        ("%month%", now.format("%m").to_string()),
        ("%day%", now.format("%d").to_string()),
        ("%hour%", now.format("%H").to_string()),
        ("%minute%", now.format("%M").to_string()),
        ("%second%", now.format("%S").to_string()),
    ]
    .iter()
    .fold(prefix.to_owned(), |text, (name, value)| {
        text.replace(name, value)
    })
}

/// Removes `.` and empty segments and resolves `..` without looking at the disk.
pub(crate) fn normalize(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if segments.last().is_some_and(|last| *last != "..") => {
                segments.pop();
            }
            ".." if absolute => {}
            other => segments.push(other),
        }
    }
    let joined = segments.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The highest number among the files `{stem}_{number}_…` in the folder, 0 if there is none.
fn highest(folder: &Path, stem: &str) -> io::Result<u64> {
    let mut highest = 0;
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(rest) = name
            .to_str()
            .and_then(|name| name.strip_prefix(stem))
            .and_then(|rest| rest.strip_prefix('_'))
        else {
            continue;
        };
        let digits = rest.split('_').next().unwrap_or_default();
        highest = highest.max(digits.parse().unwrap_or(0));
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::{Place, PlaceError, normalize};

    #[test]
    fn the_counter_follows_the_highest_existing_number() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("img_00007_.png"), b"").unwrap();
        std::fs::write(root.path().join("imgother_00009_.png"), b"").unwrap();
        let place = Place::find(root.path(), "img", 8, 8).unwrap();
        assert_eq!(place.file_name(0), "img_00008_.png");
        assert_eq!(place.file_name(1), "img_00009_.png");
    }

    #[test]
    fn a_prefix_makes_subfolders_and_knows_the_size() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::find(root.path(), "a/./b/%width%x%height%", 16, 9).unwrap();
        assert_eq!(
            (place.subfolder.as_str(), place.stem.as_str()),
            ("a/b", "16x9")
        );
        assert!(root.path().join("a/b").is_dir());
    }

    #[test]
    fn a_prefix_cannot_leave_the_root() {
        let root = tempfile::tempdir().unwrap();
        for prefix in ["../x", "a/../../x", "/etc/x", "../../etc/x"] {
            assert!(
                matches!(
                    Place::find(root.path(), prefix, 1, 1),
                    Err(PlaceError::Outside { .. })
                ),
                "{prefix}"
            );
        }
    }

    #[test]
    fn normalization_is_lexical() {
        assert_eq!(normalize("a//b/../c/."), "a/c");
        assert_eq!(normalize("../../x"), "../../x");
        assert_eq!(normalize("/../x"), "/x");
    }
}

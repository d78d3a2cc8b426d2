use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use atelier_domain::lora::LoraPath;
use bytes::Bytes;

/// Where a mounted folder's records are, below it.
const RECORDS: &str = ".atelier";

/// How tests reach into a LoRA folder past its port, as a person with a shell
/// would.
pub trait FolderBackdoor: Send + Sync {
    /// Writes a file under a path, in place of what is there.
    fn overwrite(&self, path: &LoraPath, bytes: &[u8]);

    /// Deletes the file under a path, if there is one; what was recorded of it
    /// stays.
    fn lose(&self, path: &LoraPath);

    /// Deletes everything that was recorded; the files stay.
    fn lose_records(&self);

    /// The files that a backend would list, by their relative names: all
    /// `.safetensors` files, at any depth.
    fn listed(&self) -> BTreeMap<String, Bytes>;

    /// The files that stood at a path and were moved out of the way, oldest
    /// first.
    fn set_aside(&self, path: &LoraPath) -> Vec<Bytes>;
}

/// The backdoor of a real directory.
#[derive(Clone, Debug)]
pub struct DirectoryBackdoor(PathBuf);

impl DirectoryBackdoor {
    /// Reaches into `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    fn collect(&self, directory: &Path, found: &mut BTreeMap<String, Bytes>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.collect(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "safetensors")
            {
                let name = path.strip_prefix(&self.0).unwrap();
                let name = name.to_str().unwrap().replace('\\', "/");
                found.insert(name, fs::read(&path).unwrap().into());
            }
        }
    }
}

impl FolderBackdoor for DirectoryBackdoor {
    fn overwrite(&self, path: &LoraPath, bytes: &[u8]) {
        fs::create_dir_all(self.0.join(path.folder())).unwrap();
        fs::write(self.0.join(path.to_string()), bytes).unwrap();
    }

    fn lose(&self, path: &LoraPath) {
        let file = self.0.join(path.to_string());
        if file.exists() {
            fs::remove_file(file).unwrap();
        }
    }

    fn lose_records(&self) {
        let records = self.0.join(RECORDS);
        if records.exists() {
            fs::remove_dir_all(records).unwrap();
        }
    }

    fn listed(&self) -> BTreeMap<String, Bytes> {
        let mut found = BTreeMap::new();
        self.collect(&self.0, &mut found);
        found
    }

    fn set_aside(&self, path: &LoraPath) -> Vec<Bytes> {
        let file = self.0.join(path.to_string());
        (1..)
            .map_while(|number| fs::read(format!("{}.foreign-{number}", file.display())).ok())
            .map(Bytes::from)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_id;
    use atelier_domain::ids::UserId;

    #[test]
    fn a_directory_lists_what_a_backend_would_at_any_depth() {
        let directory = tempfile::tempdir().unwrap();
        let backdoor = DirectoryBackdoor::new(directory.path());
        let owner = UserId::new(random_id());
        let path = LoraPath::parse(&format!("user-{owner}/a.safetensors")).unwrap();
        assert_eq!(backdoor.listed(), BTreeMap::new());

        backdoor.overwrite(&path, b"old");
        backdoor.overwrite(&path, b"new");
        fs::write(directory.path().join("b.safetensors.part"), b"unfinished").unwrap();

        let expected = BTreeMap::from([(path.to_string(), Bytes::from_static(b"new"))]);
        assert_eq!(backdoor.listed(), expected);
        backdoor.lose(&path);
        backdoor.lose(&path);
        assert_eq!(backdoor.listed(), BTreeMap::new());
    }
}

//! Folders for files that nobody wants to keep.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::guard::Guard;

struct Scratch {
    root: PathBuf,
    _removes_it: Guard,
}

/// A new folder, gone with the test process: what lies in a `static` is never dropped.
pub fn folder(name: &str) -> PathBuf {
    static SCRATCH: OnceLock<Scratch> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);

    let scratch = SCRATCH.get_or_init(|| {
        let root = tempfile::Builder::new()
            .prefix("atelier-tests-")
            // Where we are root, the private Postgres runs as somebody else and passes through.
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .expect("the system has room for temporary files")
            .keep();
        Scratch {
            _removes_it: Guard::new(r#"rm -rf -- "$0""#, &root.display().to_string()),
            root,
        }
    });
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = scratch.root.join(format!("{number}-{name}"));
    fs::create_dir(&folder).expect("the folder is new");
    folder
}

//! The LoRA folder on a real file system.

#![expect(
    clippy::unwrap_used,
    reason = "what these stumble over is a failed test"
)]

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atelier_comfyui::MountedLoraFolder;
use atelier_domain::ids::UserId;
use atelier_domain::lora::{LoraFilename, LoraPath};
use atelier_domain::ports::{LoraFile, LoraFolder, LoraFolderError, LoraPresence};
use atelier_testkit::build::sha256_of;
use atelier_testkit::conformance::lora_folder::Harness;
use atelier_testkit::{DirectoryBackdoor, random_id};
use bytes::Bytes;
use tempfile::TempDir;

fn harness() -> Harness {
    let directory = tempfile::tempdir().unwrap();
    Harness {
        folder: Arc::new(MountedLoraFolder::new(directory.path().to_owned())),
        backdoor: Arc::new(DirectoryBackdoor::new(directory.path())),
        keep_alive: Arc::new(directory),
    }
}

atelier_testkit::lora_folder_conformance!(std::future::ready(harness()));

struct Mounted {
    directory: TempDir,
    folder: MountedLoraFolder,
    path: LoraPath,
}

impl Mounted {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self {
            folder: MountedLoraFolder::new(directory.path().to_owned()),
            directory,
            path: LoraPath::first(
                UserId::new(random_id()),
                &LoraFilename::parse("style.safetensors").unwrap(),
            ),
        }
    }

    fn file(&self, bytes: &Bytes) -> LoraFile {
        LoraFile {
            path: self.path.clone(),
            size_bytes: bytes.len() as u64,
            sha256: sha256_of(bytes),
        }
    }

    async fn install(&self, bytes: &Bytes) -> Result<(), LoraFolderError> {
        let mut install = self.folder.install(self.file(bytes)).await?;
        install.write(bytes.clone()).await?;
        install.finish().await
    }

    async fn is_verified(&self, bytes: &Bytes) -> bool {
        self.folder.presence(&self.file(bytes)).await.unwrap() == LoraPresence::Verified
    }

    fn on_disk(&self) -> PathBuf {
        self.directory.path().join(self.path.to_string())
    }

    fn record(&self) -> PathBuf {
        self.directory
            .path()
            .join(".atelier")
            .join(format!("{}.json", self.path))
    }

    /// The names in the user's folder, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.directory.path().join(self.path.folder()))
            .map(|entries| {
                entries
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }
}

fn bytes(seed: u8, length: usize) -> Bytes {
    (0..length)
        .map(|index| index.to_le_bytes()[0].wrapping_mul(31) ^ seed)
        .collect()
}

#[tokio::test]
async fn an_installed_file_can_be_read_by_everybody() {
    let folder = Mounted::new();

    folder.install(&bytes(1, 3_000_000)).await.unwrap();

    assert_eq!(
        fs::metadata(folder.on_disk()).unwrap().permissions().mode() & 0o777,
        0o644
    );
    let user = folder.directory.path().join(folder.path.folder());
    assert_eq!(
        fs::metadata(user).unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert!(fs::read(folder.on_disk()).unwrap() == bytes(1, 3_000_000));
    assert_eq!(folder.names(), ["style.safetensors"]);
}

#[tokio::test]
async fn an_empty_file_is_installed() {
    let folder = Mounted::new();

    folder.install(&Bytes::new()).await.unwrap();

    assert!(folder.is_verified(&Bytes::new()).await);
}

#[tokio::test]
async fn a_file_of_ours_survives_a_new_process() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();

    let restarted = MountedLoraFolder::new(folder.directory.path().to_owned());

    assert_eq!(
        restarted
            .presence(&folder.file(&bytes(1, 100)))
            .await
            .unwrap(),
        LoraPresence::Verified
    );
}

#[tokio::test]
async fn a_changed_file_is_moved_aside_and_kept() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    fs::write(folder.on_disk(), "somebody's own work").unwrap();

    folder.install(&bytes(1, 100)).await.unwrap();
    fs::write(folder.on_disk(), "and again").unwrap();
    folder.install(&bytes(1, 100)).await.unwrap();

    assert!(folder.is_verified(&bytes(1, 100)).await);
    assert_eq!(
        folder.names(),
        [
            "style.safetensors",
            "style.safetensors.foreign-1",
            "style.safetensors.foreign-2"
        ]
    );
    let aside = folder
        .on_disk()
        .with_file_name("style.safetensors.foreign-1");
    assert_eq!(fs::read_to_string(aside).unwrap(), "somebody's own work");
}

#[tokio::test]
async fn a_file_with_its_old_time_put_back_is_not_trusted_after_a_replacement() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    let modified = fs::metadata(folder.on_disk()).unwrap().modified().unwrap();

    let other = folder.on_disk().with_file_name("other");
    fs::write(&other, bytes(2, 100)).unwrap();
    File::options()
        .write(true)
        .open(&other)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    fs::rename(other, folder.on_disk()).unwrap();

    assert!(!folder.is_verified(&bytes(1, 100)).await);
}

#[tokio::test]
async fn a_crash_between_record_and_file_verifies_nothing() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    let record = fs::read(folder.record()).unwrap();
    folder.folder.remove(&folder.path).await.unwrap();

    fs::create_dir_all(folder.record().parent().unwrap()).unwrap();
    fs::write(folder.record(), &record).unwrap();
    assert!(!folder.is_verified(&bytes(1, 100)).await);

    fs::create_dir_all(folder.on_disk().parent().unwrap()).unwrap();
    fs::write(folder.on_disk(), bytes(1, 100)).unwrap();
    assert!(
        !folder.is_verified(&bytes(1, 100)).await,
        "the same bytes, but not the file that was checked"
    );
    folder.install(&bytes(1, 100)).await.unwrap();
    assert!(folder.is_verified(&bytes(1, 100)).await);
}

#[tokio::test]
async fn a_broken_record_verifies_nothing() {
    let folder = Mounted::new();
    for broken in [
        "",
        "{}",
        "[]",
        r#"{"size_bytes":"x"}"#,
        &"x".repeat(100_000),
    ] {
        folder.install(&bytes(1, 100)).await.unwrap();
        fs::write(folder.record(), broken).unwrap();
        assert!(!folder.is_verified(&bytes(1, 100)).await, "{broken:.20}");
        folder.folder.usage().await.unwrap();
    }
}

#[tokio::test]
async fn truncated_bytes_are_refused_with_what_came() {
    let folder = Mounted::new();
    let mut install = folder
        .folder
        .install(folder.file(&bytes(1, 100)))
        .await
        .unwrap();
    install.write(bytes(1, 60)).await.unwrap();

    let error = install.finish().await.unwrap_err();

    assert!(
        matches!(
            error,
            LoraFolderError::WrongBytes {
                expected_bytes: 100,
                received_bytes: 60,
                ..
            }
        ),
        "{error}"
    );
    assert!(folder.names().is_empty());
}

#[tokio::test]
async fn too_many_bytes_are_refused_and_do_not_fill_the_disk() {
    let folder = Mounted::new();
    let mut install = folder
        .folder
        .install(folder.file(&bytes(1, 100)))
        .await
        .unwrap();
    for _ in 0..50 {
        install.write(bytes(1, 1_000_000)).await.unwrap();
    }

    let written = fs::metadata(folder.on_disk().with_file_name(&folder.names()[0]))
        .unwrap()
        .len();
    let error = install.finish().await.unwrap_err();

    assert!(written <= 1_000_000, "{written}");
    assert!(
        matches!(
            error,
            LoraFolderError::WrongBytes {
                received_bytes: 50_000_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(folder.names().is_empty());
}

#[tokio::test]
async fn leftovers_of_a_crash_are_swept_once_they_are_old() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    let part = |digits: &str| {
        folder
            .on_disk()
            .with_file_name(format!("style.safetensors.{digits}.part"))
    };
    for name in [part("0123abcd"), part("fresh000"), part("ffffffff")] {
        fs::write(name, "half").unwrap();
    }
    let long_ago = SystemTime::now() - Duration::from_hours(2);
    for old in [part("0123abcd"), part("fresh000"), folder.on_disk()] {
        File::options()
            .write(true)
            .open(old)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }

    folder.folder.check().await.unwrap();

    let left = [
        "style.safetensors",
        "style.safetensors.ffffffff.part",
        "style.safetensors.fresh000.part",
    ];
    assert_eq!(
        folder.names(),
        left,
        "only what we would have named so, and only what is old"
    );
}

#[tokio::test]
async fn a_link_in_place_of_the_users_folder_is_refused() {
    let folder = Mounted::new();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(
        elsewhere.path(),
        folder.directory.path().join(folder.path.folder()),
    )
    .unwrap();

    let error = folder.install(&bytes(1, 100)).await.unwrap_err();

    assert!(
        matches!(error, LoraFolderError::Unwritable { .. }),
        "{error:?}"
    );
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    folder.folder.check().await.unwrap();
}

#[tokio::test]
async fn a_link_in_place_of_the_file_is_moved_and_not_followed() {
    let folder = Mounted::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, bytes(1, 100)).unwrap();
    fs::create_dir_all(folder.on_disk().parent().unwrap()).unwrap();
    symlink(&target, folder.on_disk()).unwrap();

    assert!(!folder.is_verified(&bytes(1, 100)).await);
    folder.install(&bytes(2, 100)).await.unwrap();

    assert!(fs::read(&target).unwrap() == bytes(1, 100));
    assert!(fs::symlink_metadata(folder.on_disk()).unwrap().is_file());
    assert_eq!(
        folder.names(),
        ["style.safetensors", "style.safetensors.foreign-1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_instances_may_install_the_same_file_at_once() {
    let folder = Mounted::new();
    let content = bytes(1, 300_000);
    let installing: Vec<_> = (0..8)
        .map(|_| {
            let instance = MountedLoraFolder::new(folder.directory.path().to_owned());
            let (file, content) = (folder.file(&content), content.clone());
            tokio::spawn(async move {
                let mut install = instance.install(file).await.unwrap();
                install.write(content).await.unwrap();
                install.finish().await.unwrap();
            })
        })
        .collect();
    for task in installing {
        task.await.unwrap();
    }

    assert!(folder.is_verified(&content).await);
    assert_eq!(folder.names(), ["style.safetensors"]);
}

#[tokio::test]
async fn a_file_that_cannot_fit_is_refused_before_it_begins() {
    let folder = Mounted::new();
    let free = folder.folder.usage().await.unwrap().free_bytes;
    let file = LoraFile {
        size_bytes: free.saturating_mul(2),
        ..folder.file(&Bytes::new())
    };

    let error = folder.folder.install(file).await.err().unwrap();

    assert!(matches!(error, LoraFolderError::Full { .. }), "{error:?}");
    assert!(folder.names().is_empty());
}

#[tokio::test]
async fn removing_leaves_no_empty_folders() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();

    folder.folder.remove(&folder.path).await.unwrap();
    folder.folder.remove(&folder.path).await.unwrap();

    assert!(!folder.on_disk().parent().unwrap().exists());
    assert!(!folder.record().parent().unwrap().exists());
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_reported_by_name() {
    let folder = MountedLoraFolder::new("/nowhere/models/loras".into());

    let error = folder.check().await.unwrap_err();

    assert!(
        matches!(&error, LoraFolderError::Unwritable { folder, .. } if folder == "/nowhere/models/loras")
    );
}

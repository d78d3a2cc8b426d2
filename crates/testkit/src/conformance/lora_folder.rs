//! What every [`LoraFolder`] must do.

mod cleaning;
mod records;
mod rooms;
mod turns;

pub use cleaning::*;
pub use records::*;
pub use rooms::*;
pub use turns::*;

use std::collections::BTreeMap;
use std::sync::Arc;

use atelier_domain::ids::UserId;
use atelier_domain::lora::{LoraFilename, LoraPath};
use atelier_domain::ports::{
    InstallStart, InstalledLora, LoraFile, LoraFolder, LoraFolderError, LoraInstall, LoraPresence,
};
use bytes::Bytes;

use super::KeepAlive;
use crate::build::{safetensors_bytes, sha256_of};
use crate::{FolderBackdoor, random_id};

/// A folder under test. It must be this harness's alone, and empty.
pub struct Harness {
    /// The folder under test.
    pub folder: Arc<dyn LoraFolder>,
    /// The way past it.
    pub backdoor: Arc<dyn FolderBackdoor>,
    /// How many bytes our files may have in it; at least 60 000, on a disk that
    /// has more.
    pub quota_bytes: u64,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

fn a_path(filename: &str) -> LoraPath {
    let filename = LoraFilename::parse(filename).expect("the case gives a good name");
    LoraPath::first(UserId::new(random_id()), &filename)
}

fn file_of(path: &LoraPath, bytes: &Bytes) -> LoraFile {
    LoraFile {
        path: path.clone(),
        size_bytes: bytes.len() as u64,
        sha256: sha256_of(bytes),
    }
}

impl Harness {
    /// Begins to install a file that is not there.
    async fn may_install(&self, file: &LoraFile) -> Box<dyn LoraInstall> {
        match self.folder.install(file.clone()).await.unwrap() {
            InstallStart::Begun(install) => install,
            InstallStart::AlreadyThere => panic!("{} is there already", file.path),
        }
    }

    async fn begun(&self, file: &LoraFile, bytes: &Bytes) -> Box<dyn LoraInstall> {
        let mut install = self.may_install(file).await;
        for chunk in bytes.chunks(777) {
            let chunk = Bytes::copy_from_slice(chunk);
            install.write(chunk).await.unwrap();
        }
        install
    }

    async fn installed(&self, path: &LoraPath, bytes: &Bytes) -> LoraFile {
        let file = file_of(path, bytes);
        let install = self.begun(&file, bytes).await;
        install.finish().await.unwrap();
        file
    }

    async fn is_present(&self, file: &LoraFile) -> bool {
        let presence = self.folder.presence(file).await.unwrap();
        presence == LoraPresence::Verified
    }

    async fn ours_bytes(&self) -> u64 {
        self.folder.usage().await.unwrap().ours_bytes
    }

    /// What is recorded of a path.
    async fn recorded(&self, path: &LoraPath) -> Option<InstalledLora> {
        let installed = self.folder.installed().await.unwrap();
        installed.into_iter().find(|known| known.file.path == *path)
    }

    fn listed_at(&self, path: &LoraPath) -> Option<Bytes> {
        self.backdoor.listed().remove(&path.to_string())
    }
}

/// The folder is there, can be written, and holds nothing of ours.
pub async fn the_folder_is_ready(h: &Harness) {
    h.folder.check().await.unwrap();

    let usage = h.folder.usage().await.unwrap();

    assert_eq!(usage.ours_bytes, 0);
    assert!(usage.free_bytes > 0);
    assert_eq!(h.backdoor.listed(), BTreeMap::new());
}

/// An installed file stands under its path with its bytes, and is present.
pub async fn an_installed_file_is_present(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = file_of(&path, &bytes);
    assert!(!h.is_present(&file).await);

    h.installed(&path, &bytes).await;

    assert!(h.is_present(&file).await);
    assert!(h.is_present(&file).await, "looking changes nothing");
    let expected = BTreeMap::from([(path.to_string(), bytes)]);
    assert_eq!(h.backdoor.listed(), expected);
}

/// Presence is that of the very bytes: another digest or size is absent.
pub async fn other_bytes_are_not_present(h: &Harness) {
    let path = a_path("a.safetensors");
    let file = h.installed(&path, &safetensors_bytes(1)).await;
    let other_digest = LoraFile {
        sha256: sha256_of(b"other"),
        ..file.clone()
    };
    let other_size = LoraFile {
        size_bytes: file.size_bytes + 1,
        ..file.clone()
    };
    let other_owner = LoraFile {
        path: a_path("a.safetensors"),
        ..file.clone()
    };

    assert!(!h.is_present(&other_digest).await);
    assert!(!h.is_present(&other_size).await);
    assert!(!h.is_present(&other_owner).await);
    assert!(h.is_present(&file).await);
}

/// Until it is whole and checked, a backend lists nothing of it.
pub async fn a_file_is_not_listed_before_it_is_whole(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = file_of(&path, &bytes);

    let install = h.begun(&file, &bytes).await;
    assert_eq!(h.backdoor.listed(), BTreeMap::new());
    assert!(!h.is_present(&file).await);
    install.finish().await.unwrap();

    assert_eq!(h.listed_at(&path), Some(bytes));
}

/// Wrong bytes are refused with both counts and digests, and nothing is left.
pub async fn wrong_bytes_are_refused_and_leave_nothing(h: &Harness) {
    let good = safetensors_bytes(1);
    let longer = Bytes::from([good.as_ref(), b"x"].concat());
    let shorter = good.slice(..good.len() - 1);
    for wrong in [safetensors_bytes(2), longer, shorter, Bytes::new()] {
        let path = a_path("a.safetensors");
        let file = file_of(&path, &good);

        let mut install = h.may_install(&file).await;
        // A folder may refuse too many bytes as soon as they come.
        let outcome = match install.write(wrong.clone()).await {
            Ok(()) => install.finish().await,
            Err(error) => {
                drop(install);
                Err(error)
            }
        };

        let Err(LoraFolderError::WrongBytes {
            path: refused,
            expected_bytes,
            expected,
            received_bytes,
            received,
        }) = outcome
        else {
            panic!("{outcome:?}");
        };
        assert_eq!(refused, path);
        assert_eq!((expected_bytes, expected), (file.size_bytes, file.sha256));
        assert_eq!(received_bytes, wrong.len() as u64);
        assert_eq!(received, sha256_of(&wrong));
        assert!(!h.is_present(&file).await);
        assert_eq!(h.backdoor.listed(), BTreeMap::new());
        assert_eq!(h.ours_bytes().await, 0);
    }
}

/// A failed installation keeps the good file that is there.
pub async fn wrong_bytes_leave_the_old_file(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;

    let other = file_of(&path, &safetensors_bytes(2));
    let install = h.begun(&other, &safetensors_bytes(3)).await;
    let outcome = install.finish().await;

    assert!(matches!(outcome, Err(LoraFolderError::WrongBytes { .. })));
    assert_eq!(h.listed_at(&path), Some(bytes));
    assert!(h.is_present(&file).await);
}

/// An installation that is dropped leaves nothing listed, and its path free.
pub async fn a_dropped_installation_leaves_nothing(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = file_of(&path, &bytes);

    drop(h.begun(&file, &bytes).await);

    assert_eq!(h.backdoor.listed(), BTreeMap::new());
    assert!(!h.is_present(&file).await);
    h.installed(&path, &bytes).await;
    assert!(h.is_present(&file).await);
}

/// Odd names are installed under exactly those names, each user's apart.
pub async fn odd_names_are_kept_apart(h: &Harness) {
    let longest = format!("{}.safetensors", "x".repeat(188));
    let names = [
        "with blank.safetensors",
        "100%.safetensors",
        "日本語 🙂.safetensors",
        "-dash.SAFETENSORS.safetensors",
        "a'b\"c$(d);e.safetensors",
        longest.as_str(),
    ];
    let mut files = Vec::new();
    for (fill, name) in (0_u8..).zip(names) {
        let path = a_path(name);
        files.push((h.installed(&path, &safetensors_bytes(fill)).await, fill));
    }
    for (file, fill) in files {
        assert!(h.is_present(&file).await, "{}", file.path);
        assert_eq!(h.listed_at(&file.path), Some(safetensors_bytes(fill)));
    }
}

/// Tests a `LoraFolder`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! lora_folder_conformance {
    ($harness:expr) => {
        $crate::__cases! { lora_folder in lora_folder_conformance, $harness;
            the_folder_is_ready,
            an_installed_file_is_present,
            other_bytes_are_not_present,
            a_file_is_not_listed_before_it_is_whole,
            wrong_bytes_are_refused_and_leave_nothing,
            wrong_bytes_leave_the_old_file,
            a_dropped_installation_leaves_nothing,
            odd_names_are_kept_apart,
            a_file_of_that_name_is_not_enough,
            a_replaced_file_is_not_trusted,
            installing_again_mends_a_replaced_file,
            what_is_not_ours_is_kept_aside,
            a_lost_record_is_made_anew,
            a_lost_file_is_not_present,
            installed_files_are_listed_with_their_use,
            what_has_no_record_is_listed,
            a_file_is_adopted_by_its_bytes,
            a_removed_file_is_gone,
            a_foreign_file_is_not_removed,
            an_unused_file_is_evicted,
            a_used_file_is_not_evicted,
            another_file_is_not_evicted,
            usage_counts_what_is_ours,
            a_file_beyond_the_quota_is_refused,
            room_is_kept_for_what_is_being_installed,
            installations_at_once_stay_within_the_quota,
            an_evicted_file_makes_room,
            a_file_that_is_there_is_not_installed_again,
            one_installs_and_the_others_wait,
            who_waits_takes_over_from_who_gave_up,
            who_gives_up_waiting_is_not_in_the_way,
            other_paths_do_not_wait,
        }
    };
}

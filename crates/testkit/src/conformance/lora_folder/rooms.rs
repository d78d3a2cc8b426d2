//! How much there is room for.

use std::sync::Arc;

use atelier_domain::ports::{InstallStart, LoraFile, LoraFolderError};
use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Harness, a_path, file_of};
use crate::build::{safetensors_bytes, sha256_of};

fn a_file(name: &str, size_bytes: u64) -> LoraFile {
    LoraFile {
        path: a_path(name),
        size_bytes,
        sha256: sha256_of(b"irrelevant"),
    }
}

impl Harness {
    /// How many bytes there is room for, as a file too large is told.
    async fn room_beyond(&self, needed_bytes: u64) -> u64 {
        let too_large = a_file("too-large.safetensors", needed_bytes);
        match self.folder.install(too_large).await {
            Err(LoraFolderError::Full {
                needed_bytes: needed,
                available_bytes,
            }) => {
                assert_eq!(needed, needed_bytes);
                available_bytes
            }
            other => panic!("{needed_bytes} bytes cannot fit: {other:?}"),
        }
    }
}

/// Usage counts what we installed, and nothing else.
pub async fn usage_counts_what_is_ours(h: &Harness) {
    let first = h
        .installed(&a_path("a.safetensors"), &safetensors_bytes(1))
        .await;
    let second = h
        .installed(&a_path("b.safetensors"), &safetensors_bytes(2))
        .await;
    assert_eq!(h.ours_bytes().await, first.size_bytes + second.size_bytes);
    let usage = h.folder.usage().await.unwrap();
    assert_eq!(usage.quota_bytes, Some(h.quota_bytes));

    h.backdoor.overwrite(&a_path("c.safetensors"), b"not ours");
    assert_eq!(h.ours_bytes().await, first.size_bytes + second.size_bytes);

    h.folder.remove(&first.path).await.unwrap();
    assert_eq!(h.ours_bytes().await, second.size_bytes);
}

/// What does not fit is refused with the numbers, before the first byte.
pub async fn a_file_beyond_the_quota_is_refused(h: &Harness) {
    assert_eq!(h.room_beyond(h.quota_bytes + 1).await, h.quota_bytes);
    let file = h
        .installed(&a_path("a.safetensors"), &safetensors_bytes(1))
        .await;

    let room = h.room_beyond(h.quota_bytes).await;

    assert_eq!(room, h.quota_bytes - file.size_bytes);
    assert_eq!(h.backdoor.listed().len(), 1);
    let fits = a_file("b.safetensors", room);
    drop(h.may_install(&fits).await);
}

/// Room for the whole file is kept from the first moment, and given back when
/// the installation ends.
pub async fn room_is_kept_for_what_is_being_installed(h: &Harness) {
    let large = a_file("a.safetensors", h.quota_bytes - 1_000);
    let install = h.may_install(&large).await;
    assert_eq!(h.ours_bytes().await, large.size_bytes);

    assert_eq!(h.room_beyond(1_001).await, 1_000);
    let small = a_file("b.safetensors", 1_000);
    let other = h.may_install(&small).await;
    assert_eq!(h.room_beyond(1).await, 0);

    drop(other);
    assert_eq!(h.room_beyond(1_001).await, 1_000);
    drop(install);
    assert_eq!(h.ours_bytes().await, 0);
    drop(h.may_install(&large).await);
}

/// However many begin at once, together they have no more than the quota.
pub async fn installations_at_once_stay_within_the_quota(h: &Harness) {
    let size = usize::try_from(h.quota_bytes / 3).unwrap();
    let mut begun = JoinSet::new();
    for fill in 0..10_u8 {
        let folder = Arc::clone(&h.folder);
        let bytes = Bytes::from(vec![fill; size]);
        let file = file_of(&a_path("a.safetensors"), &bytes);
        begun.spawn(async move { (folder.install(file).await, bytes) });
    }
    let mut installs = Vec::new();
    for (start, bytes) in begun.join_all().await {
        match start {
            Ok(InstallStart::Begun(install)) => installs.push((install, bytes)),
            Err(LoraFolderError::Full {
                available_bytes, ..
            }) => assert!(available_bytes < size as u64),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(installs.len(), 3);
    assert!(h.ours_bytes().await <= h.quota_bytes);

    for (mut install, bytes) in installs {
        install.write(bytes).await.unwrap();
        install.finish().await.unwrap();
    }

    assert_eq!(h.folder.installed().await.unwrap().len(), 3);
    assert_eq!(h.ours_bytes().await, 3 * size as u64);
}

/// What was evicted leaves its room to others.
pub async fn an_evicted_file_makes_room(h: &Harness) {
    let file = h
        .installed(&a_path("a.safetensors"), &safetensors_bytes(1))
        .await;
    h.room_beyond(h.quota_bytes).await;
    let seen = h.recorded(&file.path).await.unwrap();

    assert!(h.folder.evict(&seen).await.unwrap());

    let all = a_file("b.safetensors", h.quota_bytes);
    drop(h.may_install(&all).await);
}

//! What goes, and what stays.

use super::{Harness, a_path, file_of};
use crate::build::safetensors_bytes;

/// A removed file is gone and forgotten; one that is not there is removed
/// already; others stay.
pub async fn a_removed_file_is_gone(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;
    let neighbour = h
        .installed(&a_path("a.safetensors"), &safetensors_bytes(2))
        .await;

    h.folder.remove(&path).await.unwrap();

    assert!(!h.is_present(&file).await);
    assert_eq!(h.listed_at(&path), None);
    assert_eq!(h.recorded(&path).await, None);
    h.folder.remove(&path).await.unwrap();
    h.folder.remove(&a_path("b.safetensors")).await.unwrap();
    assert!(h.is_present(&neighbour).await);
}

/// A file that we did not install is not ours to remove, nor one that was
/// changed since.
pub async fn a_foreign_file_is_not_removed(h: &Harness) {
    let path = a_path("a.safetensors");
    h.backdoor.overwrite(&path, b"somebody's work");
    let changed = a_path("b.safetensors");
    let file = h.installed(&changed, &safetensors_bytes(1)).await;
    h.backdoor.overwrite(&changed, &safetensors_bytes(2));

    h.folder.remove(&path).await.unwrap();
    h.folder.remove(&changed).await.unwrap();

    let left = h.listed_at(&path);
    assert_eq!(left.as_deref(), Some(b"somebody's work".as_slice()));
    assert_eq!(h.listed_at(&changed), Some(safetensors_bytes(2)));
    assert!(!h.is_present(&file).await);
}

/// What nobody used since it was listed goes.
pub async fn an_unused_file_is_evicted(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;
    let neighbour = h
        .installed(&a_path("b.safetensors"), &safetensors_bytes(2))
        .await;
    let seen = h.recorded(&path).await.unwrap();

    assert!(h.folder.evict(&seen).await.unwrap());

    assert_eq!(h.listed_at(&path), None);
    assert_eq!(h.recorded(&path).await, None);
    assert_eq!(h.ours_bytes().await, neighbour.size_bytes);
    assert!(
        h.folder.evict(&seen).await.unwrap(),
        "what is gone stays gone"
    );
    h.installed(&path, &bytes).await;
    assert!(h.is_present(&file).await);
    assert!(!h.folder.evict(&seen).await.unwrap(), "this one is newer");
}

/// What was asked for since it was listed stays.
pub async fn a_used_file_is_not_evicted(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;
    for _ in 0..50 {
        let seen = h.recorded(&path).await.unwrap();
        assert!(h.is_present(&file).await);

        assert!(!h.folder.evict(&seen).await.unwrap());

        assert!(h.is_present(&file).await);
    }
}

/// What is another file by now stays, ours or not.
pub async fn another_file_is_not_evicted(h: &Harness) {
    let path = a_path("a.safetensors");
    h.installed(&path, &safetensors_bytes(1)).await;
    let seen = h.recorded(&path).await.unwrap();
    let other = h.installed(&path, &safetensors_bytes(2)).await;
    assert_eq!(other, file_of(&path, &safetensors_bytes(2)));

    assert!(!h.folder.evict(&seen).await.unwrap());
    assert!(h.is_present(&other).await);

    let seen = h.recorded(&path).await.unwrap();
    h.backdoor.overwrite(&path, b"of somebody else");
    assert!(!h.folder.evict(&seen).await.unwrap());
    assert!(h.listed_at(&path).is_some());
}

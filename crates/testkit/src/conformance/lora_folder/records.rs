//! What is trusted, and what becomes of files without a record.

use bytes::Bytes;

use super::{Harness, a_path, file_of};
use crate::build::{safetensors_bytes, sha256_of};

/// A file of the right name and size that somebody else put there is not
/// trusted: its bytes decide.
pub async fn a_file_of_that_name_is_not_enough(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = file_of(&path, &bytes);
    h.backdoor.overwrite(&path, &safetensors_bytes(2));

    assert!(!h.is_present(&file).await);
    assert!(!h.is_present(&file).await, "asking changes nothing");
    assert_eq!(h.recorded(&path).await, None);

    h.backdoor.overwrite(&path, &bytes);
    assert!(h.is_present(&file).await, "these are the very bytes");
}

/// A file that was replaced since is not trusted, even at the same size.
pub async fn a_replaced_file_is_not_trusted(h: &Harness) {
    let path = a_path("a.safetensors");
    let file = h.installed(&path, &safetensors_bytes(1)).await;
    for replacement in [
        safetensors_bytes(2),
        Bytes::from_static(b"short"),
        Bytes::new(),
    ] {
        h.backdoor.overwrite(&path, &safetensors_bytes(1));
        assert!(h.is_present(&file).await);

        h.backdoor.overwrite(&path, &replacement);

        assert!(!h.is_present(&file).await);
        assert_eq!(h.recorded(&path).await, None);
        assert_eq!(h.listed_at(&path), Some(replacement), "it stays");
    }
}

/// Installing again mends what was replaced.
pub async fn installing_again_mends_a_replaced_file(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;
    h.backdoor.overwrite(&path, b"damaged");

    h.installed(&path, &bytes).await;

    assert!(h.is_present(&file).await);
    assert_eq!(h.listed_at(&path), Some(bytes));
}

/// What stands at a path and is not ours is never deleted.
pub async fn what_is_not_ours_is_kept_aside(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    h.backdoor.overwrite(&path, b"somebody's work");
    h.installed(&path, &bytes).await;
    h.backdoor.overwrite(&path, b"and again");

    h.installed(&path, &bytes).await;

    assert_eq!(h.listed_at(&path), Some(bytes));
    let kept = h.backdoor.set_aside(&path);
    assert_eq!(kept, ["somebody's work", "and again"]);
    assert_eq!(h.backdoor.listed().len(), 1, "a backend lists none of it");
}

/// Where the records are lost, the bytes decide, and are recorded anew.
pub async fn a_lost_record_is_made_anew(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;
    h.backdoor.lose_records();
    assert_eq!(h.recorded(&path).await, None);

    assert!(h.is_present(&file).await);

    let known = h.recorded(&path).await.unwrap();
    assert_eq!(known.file, file);
    assert_eq!(h.ours_bytes().await, file.size_bytes);
}

/// A record without its file is worth nothing.
pub async fn a_lost_file_is_not_present(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;

    h.backdoor.lose(&path);

    assert!(!h.is_present(&file).await);
    assert_eq!(h.recorded(&path).await, None);
    assert_eq!(h.ours_bytes().await, 0);
    h.installed(&path, &bytes).await;
    assert!(h.is_present(&file).await);
}

/// Our files are listed with size, digest and last use; asking for one is a
/// use.
pub async fn installed_files_are_listed_with_their_use(h: &Harness) {
    let first = h
        .installed(&a_path("a.safetensors"), &safetensors_bytes(1))
        .await;
    let second = h
        .installed(&a_path("b.safetensors"), &safetensors_bytes(2))
        .await;
    h.backdoor
        .overwrite(&a_path("c.safetensors"), b"of somebody else");
    assert_eq!(h.folder.installed().await.unwrap().len(), 2);
    let (before, other) = (
        h.recorded(&first.path).await.unwrap(),
        h.recorded(&second.path).await.unwrap(),
    );
    assert_eq!((&before.file, &other.file), (&first, &second));
    assert!(before.last_used < other.last_used, "in the order of use");

    assert!(h.is_present(&first).await);

    let after = h.recorded(&first.path).await.unwrap();
    assert!(after.last_used > other.last_used);
    let untouched = h.recorded(&second.path).await.unwrap();
    assert_eq!(untouched, other, "one use is no other's");
}

/// What stands at paths of ours without a record is listed.
pub async fn what_has_no_record_is_listed(h: &Harness) {
    let known = h
        .installed(&a_path("a.safetensors"), &safetensors_bytes(1))
        .await;
    let strange = a_path("b.safetensors");
    h.backdoor.overwrite(&strange, b"of somebody else");
    let unrecorded = h.folder.unrecorded().await.unwrap();
    assert_eq!(unrecorded, std::slice::from_ref(&strange));

    h.backdoor.lose_records();

    let mut unrecorded = h.folder.unrecorded().await.unwrap();
    unrecorded.sort();
    let mut expected = [known.path, strange];
    expected.sort();
    assert_eq!(unrecorded, expected);
}

/// A file whose record was lost is ours again if it has the bytes that are
/// said to be there.
pub async fn a_file_is_adopted_by_its_bytes(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;
    h.backdoor.lose_records();

    let wrong = h.folder.adopt(&path, sha256_of(b"other")).await.unwrap();
    assert!(!wrong);
    assert_eq!(h.recorded(&path).await, None);

    assert!(h.folder.adopt(&path, file.sha256).await.unwrap());
    assert_eq!(h.recorded(&path).await.unwrap().file, file);
    assert!(
        h.folder.adopt(&path, file.sha256).await.unwrap(),
        "once more"
    );
    assert_eq!(h.folder.unrecorded().await.unwrap(), []);
    let absent = a_path("b.safetensors");
    assert!(!h.folder.adopt(&absent, file.sha256).await.unwrap());
}

//! What is true of the folder alone.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use atelier_blob::{BlobOptions, BlobOptionsError};
use atelier_domain::ports::{BlobError, BlobStore};
use bytes::Bytes;
use tokio::runtime::Handle;

use crate::support::{folder, get, key, pattern, put, wait_until};

#[tokio::test]
async fn the_folder_is_made_for_us_alone() {
    let harness = folder();

    let root = harness.folder.as_ref().unwrap().path().join("blobs");

    assert_eq!(
        fs::metadata(root).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[tokio::test]
async fn a_folder_that_everybody_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let url = format!("file://{}", folder.path().display());

    let refused = atelier_blob::open(
        BlobOptions {
            url,
            ..BlobOptions::default()
        },
        Handle::current(),
    );

    assert!(matches!(
        refused,
        Err(BlobOptionsError::FolderOpenToAll { .. })
    ));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_reported_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let url = format!("file://{}/file/below", folder.path().display());

    let refused = atelier_blob::open(
        BlobOptions {
            url,
            ..BlobOptions::default()
        },
        Handle::current(),
    );

    assert!(refused.unwrap_err().to_string().contains("file/below"));
}

#[tokio::test]
async fn an_object_survives_reopening() {
    let harness = folder();
    let (key, bytes) = (key("user-1/a#1"), pattern(5_000));
    put(&harness.blobs, &key, &bytes).await;
    let url = format!(
        "file://{}/blobs",
        harness.folder.as_ref().unwrap().path().display()
    );

    let reopened = crate::support::open(BlobOptions {
        url,
        ..BlobOptions::default()
    });

    assert!(get(&reopened, &key, None).await == bytes);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_swept_once_they_are_old() {
    let harness = folder();
    let key = key("user-1/a#1");
    put(&harness.blobs, &key, &Bytes::from_static(b"x")).await;
    let root = harness.folder.as_ref().unwrap().path().join("blobs");
    let (old, fresh) = (root.join("user-1/b#1"), root.join("user-1/b#2"));
    let object = root.join("user-1/a%231");
    for file in [&old, &fresh] {
        fs::write(file, "half").unwrap();
    }
    for file in [&old, &object] {
        let long_ago = SystemTime::now() - Duration::from_hours(48);
        fs::File::options()
            .write(true)
            .open(file)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
    }

    let url = format!("file://{}", root.display());
    let reopened = crate::support::open(BlobOptions {
        url,
        ..BlobOptions::default()
    });

    wait_until("the leftover is still there", || !old.exists()).await;
    assert!(fresh.exists());
    assert_eq!(get(&reopened, &key, None).await, b"x");
}

#[tokio::test]
async fn a_name_longer_than_file_systems_take_is_stored() {
    let harness = folder();
    let key = key(&format!("user-1/{}.png", "ö".repeat(125)));

    put(&harness.blobs, &key, &Bytes::from_static(b"x")).await;

    assert_eq!(get(&harness.blobs, &key, None).await, b"x");
}

#[tokio::test]
async fn a_folder_has_no_signed_addresses() {
    let harness = folder();

    let signed = harness
        .blobs
        .signed_url(&key("x"), Duration::from_mins(1))
        .await;

    assert_eq!(signed.unwrap(), None);
}

#[tokio::test]
async fn a_folder_that_went_away_fails_the_check() {
    let harness = folder();
    fs::remove_dir(harness.folder.as_ref().unwrap().path().join("blobs")).unwrap();

    assert!(matches!(
        harness.blobs.check().await,
        Err(BlobError::Refused(_))
    ));
}

#[tokio::test]
async fn what_is_no_object_is_not_listed() {
    let harness = folder();
    let key = key("user-1/a");
    put(&harness.blobs, &key, &Bytes::from_static(b"x")).await;
    let root = harness.folder.as_ref().unwrap().path().join("blobs");
    for name in ["b#1", "c%zz", "d%~"] {
        fs::write(root.join("user-1").join(name), "x").unwrap();
    }
    std::os::unix::fs::symlink(root.join("user-1/a"), root.join("user-1/link")).unwrap();
    std::os::unix::fs::symlink("/", root.join("everything")).unwrap();

    let listed = harness.blobs.list("", None, 100).await.unwrap();

    let keys: Vec<_> = listed.iter().map(|entry| &entry.key).collect();
    assert_eq!(keys, [&key]);
}

#[tokio::test]
async fn names_longer_than_file_systems_take_are_listed() {
    let harness = folder();
    let keys = [
        "%".repeat(255),
        "ö".repeat(127),
        format!("{}/x", "y".repeat(255)),
    ];
    for name in &keys {
        put(&harness.blobs, &key(name), &Bytes::from_static(b"x")).await;
    }

    let (mut listed, mut after) = (Vec::new(), None);
    while let [entry] = harness
        .blobs
        .list("", after.clone(), 1)
        .await
        .unwrap()
        .as_slice()
    {
        after = Some(entry.key.clone());
        listed.push(entry.key.to_string());
    }

    let [percents, umlauts, nested] = keys;
    assert_eq!(listed, [percents, nested, umlauts]);
}

//! What stands on the disk, and what is trusted.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use atelier_comfyui::MountedLoraFolder;
use atelier_domain::ports::{InstallStart, LoraFolder as _, LoraFolderError, LoraPresence};
use bytes::Bytes;

use crate::{Mounted, bytes, options};

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

    let restarted = folder.other_instance();

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
async fn a_file_changed_in_place_is_not_trusted_with_its_old_time_put_back() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    let before = fs::metadata(folder.on_disk()).unwrap();

    let mut file = File::options().write(true).open(folder.on_disk()).unwrap();
    file.write_all(&bytes(2, 100)).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();

    let after = fs::metadata(folder.on_disk()).unwrap();
    assert_eq!(
        (after.ino(), after.len(), after.modified().unwrap()),
        (before.ino(), before.len(), before.modified().unwrap())
    );
    assert!(!folder.is_verified(&bytes(1, 100)).await);
    assert!(folder.is_verified(&bytes(2, 100)).await, "what it is now");
}

#[tokio::test]
async fn a_file_that_only_got_another_owner_or_mode_is_still_ours() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    let touch = || {
        let mode = fs::metadata(folder.on_disk()).unwrap().permissions().mode();
        fs::set_permissions(folder.on_disk(), fs::Permissions::from_mode(mode ^ 0o020)).unwrap();
    };

    touch();
    assert!(folder.is_verified(&bytes(1, 100)).await);
    assert_eq!(folder.folder.installed().await.unwrap().len(), 1);
    touch();
    let start = folder.folder.install(folder.file(&bytes(1, 100))).await;
    assert!(matches!(start.unwrap(), InstallStart::AlreadyThere));
    touch();
    folder.folder.remove(&folder.path).await.unwrap();

    assert!(folder.names().is_empty());
}

#[tokio::test]
async fn a_crash_before_the_record_leaves_a_file_whose_bytes_decide() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    fs::remove_file(folder.record()).unwrap();

    let unrecorded = folder.folder.unrecorded().await.unwrap();
    assert_eq!(unrecorded, std::slice::from_ref(&folder.path));
    assert!(!folder.is_verified(&bytes(2, 100)).await);
    assert!(folder.is_verified(&bytes(1, 100)).await);

    assert_eq!(folder.folder.unrecorded().await.unwrap(), []);
    assert!(folder.record().exists());
}

#[tokio::test]
async fn a_broken_record_is_none() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    for broken in [
        "",
        "{}",
        "[]",
        r#"{"size_bytes":"x"}"#,
        &"x".repeat(100_000),
    ] {
        fs::write(folder.record(), broken).unwrap();
        assert_eq!(folder.folder.installed().await.unwrap(), []);
        assert_eq!(folder.folder.usage().await.unwrap().ours_bytes, 0);
        assert!(folder.is_verified(&bytes(1, 100)).await, "{broken:.20}");
        assert_eq!(folder.folder.installed().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn only_loras_of_users_are_unrecorded() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    fs::write(folder.on_disk(), "somebody's own work").unwrap();
    folder.install(&bytes(1, 100)).await.unwrap();
    let user = folder.directory.path().join(folder.path.folder());
    fs::create_dir_all(user.join("nested/deeper.safetensors")).unwrap();
    for name in ["notes.txt", "other.ckpt", ".hidden.safetensors"] {
        fs::write(user.join(name), "x").unwrap();
    }
    fs::write(folder.directory.path().join("system.safetensors"), "x").unwrap();
    let strange = folder.directory.path().join("user-1");
    fs::create_dir(&strange).unwrap();
    fs::write(strange.join("a.safetensors"), "x").unwrap();
    symlink(folder.on_disk(), user.join("link.safetensors")).unwrap();

    assert_eq!(folder.folder.unrecorded().await.unwrap(), []);
}

#[tokio::test]
async fn truncated_bytes_are_refused_with_what_came() {
    let folder = Mounted::new();
    let mut install = folder.begun(&bytes(1, 100)).await;
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
    let mut install = folder.begun(&bytes(1, 100)).await;
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
    let folder = MountedLoraFolder::new(options("/nowhere/models/loras"));

    let error = folder.check().await.unwrap_err();

    assert!(
        matches!(&error, LoraFolderError::Unwritable { folder, .. } if folder == "/nowhere/models/loras")
    );
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_reported_by_name() {
    let folder = Mounted::new();
    // Nobody may make files there, not even root.
    let read_only = MountedLoraFolder::new(options("/proc/sys"));

    let installed = read_only.install(folder.file(&bytes(1, 100))).await;
    let checked = read_only.check().await;

    for error in [installed.map(drop).unwrap_err(), checked.unwrap_err()] {
        assert!(
            matches!(&error, LoraFolderError::Unwritable { folder, .. } if folder == "/proc/sys"),
            "{error:?}"
        );
    }
}

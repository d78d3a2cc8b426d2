//! Several that install one file.

use std::sync::Arc;

use atelier_domain::ports::{InstallStart, LoraFile, LoraFolderError};
use futures_util::future::{BoxFuture, poll_immediate};
use tokio::time::timeout;

use super::{Harness, a_path, file_of};
use crate::PATIENCE;
use crate::build::safetensors_bytes;

type Waiting = BoxFuture<'static, Result<InstallStart, LoraFolderError>>;

impl Harness {
    /// Asks to install a file, until it is clear that this waits.
    async fn waits_for(&self, file: &LoraFile) -> Waiting {
        let (folder, file) = (Arc::clone(&self.folder), file.clone());
        let mut waiting: Waiting = Box::pin(async move { folder.install(file).await });
        // Some of its first steps may be on other threads.
        for _ in 0..100 {
            let start = poll_immediate(&mut waiting).await;
            assert!(start.is_none(), "it does not wait: {start:?}");
            tokio::task::yield_now().await;
        }
        waiting
    }
}

async fn in_time(waiting: Waiting) -> InstallStart {
    let start = timeout(PATIENCE, waiting).await;
    start.expect("it waited for too long").unwrap()
}

/// What is there already need not be sent.
pub async fn a_file_that_is_there_is_not_installed_again(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = h.installed(&path, &bytes).await;

    let start = h.folder.install(file.clone()).await.unwrap();

    assert!(matches!(start, InstallStart::AlreadyThere), "{start:?}");
    assert_eq!(h.listed_at(&path), Some(bytes));
    assert_eq!(h.ours_bytes().await, file.size_bytes);
}

/// Who comes second waits for the first, and need not send anything.
pub async fn one_installs_and_the_others_wait(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = file_of(&path, &bytes);
    let install = h.begun(&file, &bytes).await;
    let second = h.waits_for(&file).await;
    let third = h.waits_for(&file).await;

    install.finish().await.unwrap();

    for waiting in [second, third] {
        let start = in_time(waiting).await;
        assert!(matches!(start, InstallStart::AlreadyThere), "{start:?}");
    }
    assert!(h.is_present(&file).await);
    assert_eq!(h.listed_at(&path), Some(bytes));
    assert_eq!(h.ours_bytes().await, file.size_bytes);
}

/// Who waits for one that gives up installs the file itself.
pub async fn who_waits_takes_over_from_who_gave_up(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = file_of(&path, &bytes);
    let install = h.begun(&file, &bytes).await;
    let waiting = h.waits_for(&file).await;

    drop(install);

    let InstallStart::Begun(mut install) = in_time(waiting).await else {
        panic!("nobody installed it");
    };
    install.write(bytes.clone()).await.unwrap();
    install.finish().await.unwrap();
    assert!(h.is_present(&file).await);
    assert_eq!(h.listed_at(&path), Some(bytes));
}

/// Who gives up waiting is not in anybody's way.
pub async fn who_gives_up_waiting_is_not_in_the_way(h: &Harness) {
    let (path, bytes) = (a_path("a.safetensors"), safetensors_bytes(1));
    let file = file_of(&path, &bytes);
    let install = h.begun(&file, &bytes).await;

    drop(h.waits_for(&file).await);
    let waiting = h.waits_for(&file).await;
    drop(install);

    let start = in_time(waiting).await;
    assert!(matches!(start, InstallStart::Begun(_)), "{start:?}");
}

/// Files at other paths are installed meanwhile, also with the same bytes.
pub async fn other_paths_do_not_wait(h: &Harness) {
    let bytes = safetensors_bytes(1);
    let file = file_of(&a_path("a.safetensors"), &bytes);
    let install = h.begun(&file, &bytes).await;

    let other = h.installed(&a_path("a.safetensors"), &bytes).await;

    assert!(h.is_present(&other).await);
    assert!(!h.is_present(&file).await);
    install.finish().await.unwrap();
    assert!(h.is_present(&file).await);
}

//! How much fits.

use atelier_domain::ports::{LoraFile, LoraFolder as _, LoraFolderError};
use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{Mounted, begun, bytes};

fn of_size(folder: &Mounted, size_bytes: u64) -> LoraFile {
    LoraFile {
        size_bytes,
        ..folder.file(&Bytes::new())
    }
}

#[tokio::test]
async fn a_file_that_cannot_fit_is_refused_before_it_begins() {
    let folder = Mounted::new();
    let free = folder.folder.usage().await.unwrap().free_bytes;
    let needed = free.saturating_mul(2);

    let refused = folder.folder.install(of_size(&folder, needed)).await;

    let Err(LoraFolderError::Full {
        needed_bytes,
        available_bytes,
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(needed_bytes, needed);
    assert!(available_bytes < needed);
    assert!(folder.names().is_empty());
}

#[tokio::test]
async fn what_is_to_be_left_free_is_not_used() {
    let folder = Mounted::with(|options| options.keep_free_bytes = u64::MAX);

    let refused = folder.folder.install(of_size(&folder, 1)).await;

    assert!(
        matches!(
            refused,
            Err(LoraFolderError::Full {
                needed_bytes: 1,
                available_bytes: 0
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_room_of_a_file_is_taken_from_the_disk_at_once() {
    const SIZE: u64 = 64 << 20;
    let folder = Mounted::new();

    let install = begun(folder.folder.install(of_size(&folder, SIZE)).await.unwrap());

    let part = std::fs::metadata(folder.part()).unwrap();
    assert_eq!(part.len(), SIZE);
    assert_eq!(folder.folder.usage().await.unwrap().ours_bytes, SIZE);
    drop(install);
    assert!(!folder.part().exists());
    assert_eq!(folder.folder.usage().await.unwrap().ours_bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_processes_at_once_stay_within_the_quota() {
    const SIZE: usize = 100_000;
    let folder = Mounted::new();
    let mut installing = JoinSet::new();
    for seed in 0..10 {
        let user = Mounted::new();
        let content = bytes(seed, SIZE);
        let file = user.file(&content);
        let process = folder.other_instance_with_quota(350_000);
        installing.spawn(async move {
            let mut install = match process.install(file).await {
                Ok(start) => begun(start),
                Err(LoraFolderError::Full {
                    needed_bytes,
                    available_bytes,
                }) => {
                    assert_eq!(needed_bytes, SIZE as u64);
                    assert!(available_bytes < needed_bytes);
                    return 0;
                }
                Err(other) => panic!("{other:?}"),
            };
            install.write(content).await.unwrap();
            install.finish().await.unwrap();
            1
        });
    }

    let installed: u32 = installing.join_all().await.into_iter().sum();

    assert_eq!(installed, 3);
    assert_eq!(folder.folder.usage().await.unwrap().ours_bytes, 300_000);
}

#[tokio::test]
async fn leftovers_do_not_count() {
    let folder = Mounted::with(|options| options.quota_bytes = Some(1_000));
    folder.install(&bytes(1, 100)).await.unwrap();
    let left = folder
        .on_disk()
        .with_file_name("dead.safetensors.atelier.part");
    std::fs::write(&left, bytes(2, 900)).unwrap();

    let install = folder.folder.install(LoraFile {
        path: Mounted::new().path,
        ..of_size(&folder, 900)
    });
    begun(install.await.unwrap());

    assert!(!left.exists());
}

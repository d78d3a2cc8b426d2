//! Room in a backend's folder: who gets it, who has to go, and what is said
//! where there is none.

use std::sync::Arc;
use std::time::Duration;

use atelier_application::observation::NotObserved;
use atelier_application::sync::{CopyError, LoraSync, LoraSyncError, LoraSyncParts};
use atelier_domain::lora::Lora;
use atelier_domain::ports::{
    BackendReport, BlobError, BlobReader, ByteRange, CopyState, FolderUsage, InstallStart,
    InstalledLora, LoraCopies as _, LoraFile, LoraFolder, LoraFolderError, LoraPresence,
    MockBlobStore, MockLoraFolder, RunQueue as _,
};
use atelier_testkit::build::{EPOCH, safetensors_bytes};
use atelier_testkit::{FolderBackdoor as _, InMemoryLoraFolder};
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::{StreamExt as _, stream};

use crate::support::{House, lora_graph};

fn size() -> u64 {
    safetensors_bytes(1).len() as u64
}

fn file_of(lora: &Lora) -> LoraFile {
    let content = lora.content.as_ref().unwrap();
    LoraFile {
        path: content.comfyui_path.clone(),
        size_bytes: content.file_size,
        sha256: content.hashes.sha256,
    }
}

async fn bring(sync: &LoraSync, lora: &Lora) -> Result<(), LoraSyncError> {
    let plan = sync.plan(&[lora.id]).await?;
    sync.carry_out(&plan, &|_done| {}).await
}

/// A house whose folder has room for two files, with three LoRAs.
async fn full_house() -> (House, LoraSync, [Lora; 3]) {
    let house = House::new();
    house.folder.set_quota(Some(2 * size() + 10));
    let sync = house.sync(&house.folder, Arc::new(house.blobs.clone()));
    let loras = [
        house.lora("a.safetensors", 1).await,
        house.lora("b.safetensors", 2).await,
        house.lora("c.safetensors", 3).await,
    ];
    for lora in &loras[..2] {
        bring(&sync, lora).await.unwrap();
    }
    (house, sync, loras)
}

fn is_there(folder: &InMemoryLoraFolder, lora: &Lora) -> bool {
    let path = file_of(lora).path.to_string();
    folder.listed().contains_key(&path)
}

/// Has a run of this LoRA under way.
async fn use_in_a_run(house: &House, lora: &Lora) {
    let run = house.submit(&lora_graph(lora.filename.as_str())).await;
    assert_eq!(house.claimed().await.run_id, run.unwrap().id);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_for_longest_goes_first() {
    let (house, sync, [a, b, c]) = full_house().await;
    let used = |lora: &Lora, minutes| {
        let path = file_of(lora).path;
        let at = EPOCH + TimeDelta::minutes(minutes);
        house.folder.set_last_used(&path, at);
    };
    used(&a, 2);
    used(&b, 1);

    bring(&sync, &c).await.unwrap();

    assert!(is_there(&house.folder, &a));
    assert!(!is_there(&house.folder, &b));
    assert!(is_there(&house.folder, &c));
    assert_eq!(sync.evictions(), 1);
}

#[tokio::test(start_paused = true)]
async fn being_asked_for_is_use() {
    let (house, sync, [a, b, c]) = full_house().await;
    // It is there already: nothing is copied, and still it is wanted.
    assert!(sync.plan(&[a.id]).await.unwrap().is_complete());

    bring(&sync, &c).await.unwrap();

    assert!(is_there(&house.folder, &a));
    assert!(!is_there(&house.folder, &b));
}

#[tokio::test(start_paused = true)]
async fn what_a_run_needs_stays_however_old() {
    let (house, sync, [a, b, c]) = full_house().await;
    use_in_a_run(&house, &a).await;
    let path = file_of(&a).path;
    house
        .folder
        .set_last_used(&path, EPOCH - TimeDelta::days(9));

    bring(&sync, &c).await.unwrap();

    assert!(is_there(&house.folder, &a));
    assert!(!is_there(&house.folder, &b));
}

#[tokio::test(start_paused = true)]
async fn who_finds_only_what_runs_need_may_come_again() {
    let (house, sync, [a, b, c]) = full_house().await;
    use_in_a_run(&house, &a).await;
    use_in_a_run(&house, &b).await;

    let refused = bring(&sync, &c).await.unwrap_err();

    assert!(refused.is_transient());
    let LoraSyncError::Copy { cause, .. } = refused else {
        panic!("{refused:?}")
    };
    let CopyError::NoRoom {
        needed_bytes,
        available_bytes,
        in_use_bytes,
    } = *cause
    else {
        panic!("{cause:?}")
    };
    assert_eq!(
        (needed_bytes, available_bytes, in_use_bytes),
        (size(), 10, 2 * size())
    );
    assert_eq!(house.folder.installs(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_finds_only_what_is_just_being_installed_may_come_again() {
    let house = House::new();
    house.folder.set_quota(Some(size() + 10));
    let sync = house.sync(&house.folder, Arc::new(house.blobs.clone()));
    let a = house.lora("a.safetensors", 1).await;
    let b = house.lora("b.safetensors", 2).await;
    let underway = house.folder.install(file_of(&a)).await.unwrap();

    let refused = bring(&sync, &b).await.unwrap_err();

    assert!(refused.is_transient(), "{refused:?}");
    drop(underway);
    bring(&sync, &b).await.unwrap();
}

/// A folder that refuses every file for want of room, with one file in it.
fn crowded(evicts: bool, ours: [u64; 2]) -> MockLoraFolder {
    let mut folder = MockLoraFolder::new();
    folder
        .expect_presence()
        .returning(|_| Ok(LoraPresence::Absent));
    let mut usages = ours.into_iter();
    let mut ours_bytes = 0;
    folder.expect_usage().returning(move || {
        ours_bytes = usages.next().unwrap_or(ours_bytes);
        Ok(FolderUsage {
            ours_bytes,
            free_bytes: 10,
            quota_bytes: None,
        })
    });
    folder.expect_install().returning(|file| {
        Err(LoraFolderError::Full {
            needed_bytes: file.size_bytes,
            available_bytes: 10,
        })
    });
    folder.expect_installed().returning(|| {
        let owner = "11111111-2222-4333-8444-555555555555";
        Ok(vec![InstalledLora {
            file: LoraFile {
                path: format!("user-{owner}/x.safetensors").parse().unwrap(),
                size_bytes: size(),
                sha256: atelier_testkit::build::sha256_of(b"x"),
            },
            last_used: EPOCH,
        }])
    });
    folder.expect_evict().returning(move |_| Ok(evicts));
    folder
}

fn sync_into(house: &House, folder: MockLoraFolder) -> LoraSync {
    LoraSync::new(LoraSyncParts {
        backend: "main".to_owned(),
        loras: Arc::new(house.store.loras()),
        copies: Arc::new(house.store.copies()),
        blobs: Arc::new(house.blobs.clone()),
        folder: Arc::new(folder) as Arc<dyn LoraFolder>,
        telemetry: Arc::new(NotObserved),
    })
}

#[tokio::test(start_paused = true)]
async fn what_is_used_between_two_looks_is_in_use() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let sync = sync_into(&house, crowded(false, [size(), size()]));

    let refused = bring(&sync, &lora).await.unwrap_err();

    assert!(refused.is_transient(), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn room_that_others_take_each_time_is_not_a_lack_for_ever() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let sync = sync_into(&house, crowded(true, [size(), size()]));

    let refused = bring(&sync, &lora).await.unwrap_err();

    assert!(refused.is_transient(), "{refused:?}");
    assert!(sync.evictions() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_others_filled_is_a_lack_that_waiting_does_not_mend() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    // It would have fitted a moment ago.
    let sync = sync_into(&house, crowded(false, [size(), 0]));

    let refused = bring(&sync, &lora).await.unwrap_err();

    assert!(!refused.is_transient(), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn what_can_never_fit_is_told_with_numbers_before_anything_goes() {
    let (house, sync, [a, b, c]) = full_house().await;
    let plan = sync.plan(&[a.id, b.id, c.id]).await.unwrap();

    let refused = sync.carry_out(&plan, &|_done| {}).await.unwrap_err();

    let LoraSyncError::NeverFits {
        needed_bytes,
        capacity_bytes,
    } = refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!(
        (needed_bytes, capacity_bytes),
        (3 * size(), 2 * size() + 10)
    );
    assert!(is_there(&house.folder, &a) && is_there(&house.folder, &b));
    assert_eq!(sync.evictions(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_goes_is_told_to_be_gone() {
    let (house, sync, [a, b, c]) = full_house().await;
    let queue = house.store.queue();
    let report = BackendReport {
        backend: "main".to_owned(),
        worker: "w".to_owned(),
        answers: true,
        max_in_flight: 1,
        foreign_prompts: 0,
        checkpoint: None,
    };
    queue.tell_backend(report).await.unwrap();
    queue.tell_loras("main", vec![a.id, b.id]).await.unwrap();

    bring(&sync, &c).await.unwrap();

    let copies = house.store.copies();
    let states = copies.states(&house.actor, vec![a.id, b.id]).await.unwrap();
    let state_of = |lora: &Lora| {
        let copy = states.iter().find(|copy| copy.lora_id == lora.id);
        copy.unwrap().state
    };
    assert_eq!(state_of(&a), CopyState::Absent);
    assert_eq!(state_of(&b), CopyState::Present);
}

#[tokio::test(start_paused = true)]
async fn what_no_run_needs_yet_evicts_nothing() {
    let (house, sync, [a, b, c]) = full_house().await;

    assert!(!sync.prefetch(&c).await.unwrap());
    assert!(is_there(&house.folder, &a) && is_there(&house.folder, &b));
    assert!(sync.prefetch(&a).await.unwrap(), "it is there");
    house.folder.set_quota(None);
    assert!(sync.prefetch(&c).await.unwrap());
    assert!(is_there(&house.folder, &c));
    assert_eq!(sync.evictions(), 0);
}

/// An object whose first stream breaks off at each of these offsets in turn.
fn breaking(bytes: &Bytes, at: Vec<usize>) -> MockBlobStore {
    let mut blobs = MockBlobStore::new();
    let (bytes, mut at) = (bytes.clone(), at.into_iter());
    blobs.expect_reader().returning(move |_, range| {
        let whole = bytes.len();
        let begin = range.map_or(0, |ByteRange { start, end }| {
            assert_eq!(usize::try_from(end).unwrap(), whole);
            usize::try_from(start).unwrap()
        });
        let end = at.next().unwrap_or(whole);
        assert!(begin <= end, "asked from {begin} after a break at {end}");
        let mut parts = vec![Ok(bytes.slice(begin..end))];
        if end < whole {
            parts.push(Err(BlobError::Unavailable("cut".into())));
        }
        Ok(BlobReader {
            size_bytes: whole as u64,
            bytes: stream::iter(parts).boxed(),
        })
    });
    blobs
}

#[tokio::test(start_paused = true)]
async fn a_read_that_breaks_off_goes_on_where_it_was() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let bytes = safetensors_bytes(1);
    let blobs = breaking(&bytes, vec![1_000, 1_000, 4_000]);

    bring(&house.sync(&house.folder, Arc::new(blobs)), &lora)
        .await
        .unwrap();

    let path = file_of(&lora).path.to_string();
    assert_eq!(house.folder.listed()[&path], bytes);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_always_breaks_off_at_one_place_is_given_up_for_now() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let blobs = breaking(&safetensors_bytes(1), vec![1_000; 50]);
    let sync = house.sync(&house.folder, Arc::new(blobs));

    let failed = bring(&sync, &lora).await.unwrap_err();

    assert!(failed.is_transient(), "{failed:?}");
    assert!(house.folder.listed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_processes_that_need_one_file_copy_it_once() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let other = house.folder.install(file_of(&lora)).await.unwrap();
    let InstallStart::Begun(mut other) = other else {
        panic!("nobody installed it before")
    };
    // A reader would be a second copy.
    let sync = house.sync(&house.folder, Arc::new(MockBlobStore::new()));

    let (brought, ()) = tokio::join!(bring(&sync, &lora), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        other.write(safetensors_bytes(1)).await.unwrap();
        other.finish().await.unwrap();
    });

    brought.unwrap();
    assert_eq!(house.folder.installs(), 1);
}

//! What is looked after in a backend's LoRA folder.

use std::time::Duration;

use atelier_domain::lora::{Lora, LoraPath};
use atelier_domain::ports::{
    CopyState, InstallStart, LoraCopies as _, LoraFile, LoraFolder as _, LoraRepo as _,
    WriteOutcome,
};
use atelier_domain::run::RunStatus;
use atelier_testkit::build::{safetensors_bytes, sha256_of};
use atelier_testkit::{FolderBackdoor as _, random_id, wait_until};

use crate::support::{House, LONG, lora_graph};

fn path_of(lora: &Lora) -> LoraPath {
    lora.content.as_ref().unwrap().comfyui_path.clone()
}

fn is_there(house: &House, path: &LoraPath) -> bool {
    house.folder.listed().contains_key(&path.to_string())
}

async fn is_recorded(house: &House, path: &LoraPath) -> bool {
    let installed = house.folder.installed().await.unwrap();
    installed.iter().any(|lora| lora.file.path == *path)
}

async fn delete(house: &House, lora: &Lora) {
    let deleted = house.store.loras().delete(&house.actor, lora.id).await;
    assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));
}

/// Lets a worker look after the folder some times.
async fn look_after(house: &House) {
    let worker = house.start();
    tokio::time::sleep(Duration::from_mins(10)).await;
    worker.stop().await;
}

/// Installs a file past everybody.
async fn install(house: &House, path: &LoraPath, bytes: &[u8]) {
    let file = LoraFile {
        path: path.clone(),
        size_bytes: bytes.len() as u64,
        sha256: sha256_of(bytes),
    };
    let InstallStart::Begun(mut install) = house.folder.install(file).await.unwrap() else {
        panic!("it was there before")
    };
    install.write(bytes.to_vec().into()).await.unwrap();
    install.finish().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_is_made_again_without_a_copy() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    house.execute(&lora_graph("a.safetensors")).await;
    house.folder.lose_records();
    assert!(!is_recorded(&house, &path_of(&lora)).await);

    look_after(&house).await;

    assert!(is_recorded(&house, &path_of(&lora)).await);
    assert_eq!(house.folder.installs(), 1);
}

#[tokio::test(start_paused = true)]
async fn other_bytes_at_a_path_of_ours_and_files_nobody_knows_stay_strangers() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let unknown = format!("user-{}/b.safetensors", random_id());
    let unknown = LoraPath::parse(&unknown).unwrap();
    for path in [&path_of(&lora), &unknown] {
        house.folder.overwrite(path, b"somebody's own");
    }

    look_after(&house).await;

    for path in [&path_of(&lora), &unknown] {
        assert!(is_there(&house, path) && !is_recorded(&house, path).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_record_of_a_lora_that_is_gone_does_not_keep_its_copy() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    house.execute(&lora_graph("a.safetensors")).await;
    delete(&house, &lora).await;
    house.folder.lose_records();

    look_after(&house).await;

    assert!(!is_there(&house, &path_of(&lora)));
}

#[tokio::test(start_paused = true)]
async fn a_copy_stays_while_another_lora_stands_at_its_path() {
    let house = House::new();
    let first = house.lora("a.safetensors", 1).await;
    house.execute(&lora_graph("a.safetensors")).await;
    delete(&house, &first).await;
    let second = house.lora("a.safetensors", 1).await;
    assert_eq!(path_of(&first), path_of(&second), "the same bytes again");

    look_after(&house).await;

    assert!(is_recorded(&house, &path_of(&second)).await);
    let run = house.execute(&lora_graph("a.safetensors")).await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(house.folder.installs(), 1);
}

#[tokio::test(start_paused = true)]
async fn copies_of_versions_stay_until_their_lora_is_gone() {
    let house = House::new();
    let first = house.lora("a.safetensors", 1).await;
    house.execute(&lora_graph("a.safetensors")).await;
    let second = house.next_version("a.safetensors", 2).await;
    house.execute(&lora_graph("a.safetensors")).await;

    look_after(&house).await;
    assert!(is_there(&house, &path_of(&first)) && is_there(&house, &path_of(&second)));
    delete(&house, &second).await;
    look_after(&house).await;

    assert!(house.folder.listed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_another_database_installed_is_not_ours_to_remove() {
    let house = House::new();
    let path = LoraPath::parse(&format!("user-{}/b.safetensors", random_id())).unwrap();
    install(&house, &path, b"another Atelier's").await;
    // Nor is what it put where a LoRA of ours, gone by now, once stood.
    let lora = house.lora("a.safetensors", 1).await;
    delete(&house, &lora).await;
    install(&house, &path_of(&lora), b"other bytes").await;

    look_after(&house).await;

    assert!(is_there(&house, &path));
    assert!(is_there(&house, &path_of(&lora)));
}

#[tokio::test(start_paused = true)]
async fn a_lora_is_brought_before_a_run_needs_it_where_somebody_asks() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let worker = house.start();
    let copies = house.store.copies();
    let states = async || {
        let states = copies.states(&house.actor, vec![lora.id]).await.unwrap();
        states.iter().map(|copy| copy.state).collect::<Vec<_>>()
    };
    wait_until("the backend to be known", LONG, async || {
        states().await == [CopyState::Absent]
    })
    .await;

    let asked = copies.request(&house.actor, lora.id).await.unwrap();
    assert!(
        matches!(&asked, WriteOutcome::Done(states) if states[0].state == CopyState::Requested),
        "{asked:?}"
    );

    wait_until("the copy", LONG, async || {
        states().await == [CopyState::Present]
    })
    .await;
    worker.stop().await;
    assert_eq!(
        house.folder.listed()[&path_of(&lora).to_string()],
        safetensors_bytes(1)
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_told_to_be_there_is_told_anew_after_something_went() {
    let house = House::new();
    let size = safetensors_bytes(1).len() as u64;
    house.folder.set_quota(Some(size + 10));
    let a = house.lora("a.safetensors", 1).await;
    let b = house.lora("b.safetensors", 2).await;
    let worker = house.start();
    let copies = house.store.copies();
    let is_present = async |lora: &Lora| {
        let states = copies.states(&house.actor, vec![lora.id]).await.unwrap();
        states[0].state == CopyState::Present
    };
    for (here, gone) in [(&a, None), (&b, Some(&a)), (&a, Some(&b)), (&b, Some(&a))] {
        let graph = lora_graph(here.filename.as_str());
        let run = house.submit(&graph).await.unwrap();

        assert_eq!(house.ended(run.id).await.status, RunStatus::Completed);

        assert!(is_present(here).await, "{}", here.filename);
        if let Some(gone) = gone {
            assert!(!is_present(gone).await, "{}", gone.filename);
        }
    }
    worker.stop().await;
    assert_eq!(house.folder.installs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_run_waits_for_room_that_another_run_has() {
    let house = House::new();
    let size = safetensors_bytes(1).len() as u64;
    house.folder.set_quota(Some(size + 10));
    house.lora("a.safetensors", 1).await;
    house.lora("b.safetensors", 2).await;
    let holding = house.submit(&lora_graph("a.safetensors")).await.unwrap();
    // Somebody has it under way, with its LoRA on the disk.
    let claimed = house.claimed().await;
    assert_eq!(claimed.run_id, holding.id);
    let plan = house.sync(&house.folder, std::sync::Arc::new(house.blobs.clone()));
    let lacking = plan.plan(&claimed.lora_ids).await.unwrap();
    plan.carry_out(&lacking, &|_done| {}).await.unwrap();
    let waiting = house.submit(&lora_graph("b.safetensors")).await.unwrap();
    let worker = house.start();
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!house.run(waiting.id).await.status.is_final());
    assert!(house.comfy.submissions().is_empty());
    let queue: std::sync::Arc<dyn atelier_domain::ports::RunQueue> =
        std::sync::Arc::new(house.store.queue());

    let completed = queue.complete(claimed.run_id, claimed.token, Vec::new());
    completed.await.unwrap();

    assert_eq!(house.ended(waiting.id).await.status, RunStatus::Completed);
    worker.stop().await;
}

use atelier_domain::ports::{LoraRepo as _, WriteOutcome};
use atelier_testkit::{FolderBackdoor as _, PromptScript, Then, wait_until};

use crate::support::{House, LONG, lora_graph};

#[tokio::test(start_paused = true)]
async fn a_deleted_lora_goes_with_its_object_and_its_copies_once_no_run_needs_it() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&lora_graph("a.safetensors")).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    let deleted = house
        .store
        .loras()
        .delete(&house.actor, lora.id)
        .await
        .unwrap();
    assert_eq!(deleted, WriteOutcome::Done(()));

    tokio::time::sleep(std::time::Duration::from_secs(200)).await;
    assert_eq!(house.folder.listed().len(), 1, "a run needs the copy");
    // The backend forgets the prompt three times, which ends the run.
    for _ in 0..2 {
        house.comfy.script(PromptScript::taken(Then::Vanishes));
    }
    house.comfy.restart();
    house.ended(run.id).await;

    wait_until("the cleaning", LONG, async || {
        house.folder.listed().is_empty() && house.blobs.bytes_of(&lora.blob_key).is_none()
    })
    .await;
    wait_until("the row to be forgotten", LONG, async || {
        house
            .store
            .loras()
            .load_for_sync(vec![lora.id])
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_removed_now_goes_later() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    house.execute(&lora_graph("a.safetensors")).await;
    let deleted = house
        .store
        .loras()
        .delete(&house.actor, lora.id)
        .await
        .unwrap();
    assert_eq!(deleted, WriteOutcome::Done(()));
    house.folder.outage().begin();
    let worker = house.start();

    tokio::time::sleep(std::time::Duration::from_secs(200)).await;
    // Its path is remembered longer than its row.
    assert_eq!(house.blobs.bytes_of(&lora.blob_key), None);
    assert_eq!(house.folder.listed().len(), 1);
    house.folder.outage().end();

    wait_until("the cleaning", LONG, async || {
        house.folder.listed().is_empty()
    })
    .await;
    worker.stop().await;
}

//! What the [`FakeStore`] has beyond its ports: a clock to set, a switch to
//! throw, places in the queue.
#![expect(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::RunId;
use atelier_domain::lora::{LoraFilter, LoraStatus, NewLora};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{
    BlobError, BlobStore as _, ClaimOutcome, Clock, LoraCopies as _, LoraFolder as _,
    LoraFolderError, LoraRepo as _, LoraTransfers as _, LoraUploads as _, QueueError, RepoError,
    RunQueue as _, RunRepo as _, TransferClaim, WorkflowRepo as _,
};
use atelier_domain::run::{RunFilter, RunStatus};
use atelier_domain::workflow::WorkflowFilter;
use atelier_testkit::build::{
    a_claim, a_new_lora, a_new_run, a_transfer_claim, a_workflow, an_actor, an_import, import_terms,
};
use atelier_testkit::{
    ABANDONED_AFTER, FakeStore, InMemoryBlobs, InMemoryLoraFolder, ManualClock, claim, enqueue,
};

const SECOND: Duration = Duration::from_secs(1);

fn store_with_clock() -> (FakeStore, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let store_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    (FakeStore::with_clock(store_clock), clock)
}

async fn enqueued(store: &FakeStore, owner: &Actor) -> RunId {
    let workflow = store.workflows().create(owner, a_workflow()).await.unwrap();
    enqueue(&store.runs(), owner, a_new_run(workflow.id))
        .await
        .id
}

#[tokio::test]
async fn a_lease_runs_out_by_the_stores_clock() {
    let (store, clock) = store_with_clock();
    let (alice, queue) = (an_actor(), store.queue());
    let id = enqueued(&store, &alice).await;
    let request = a_claim("backend");
    queue.claim(request.clone()).await.unwrap();

    clock.advance(request.lease);
    assert_eq!(queue.recover_expired(10).await.unwrap(), []);
    clock.advance(SECOND);

    assert_eq!(queue.recover_expired(10).await.unwrap(), [id]);
    let run = store.runs().get(&alice, id).await.unwrap().unwrap();
    assert_eq!(run.status, RunStatus::Pending);
}

#[tokio::test]
async fn a_reservation_is_abandoned_by_the_stores_clock() {
    let (store, clock) = store_with_clock();
    let (alice, loras) = (an_actor(), store.loras());
    let new = a_new_lora("a.safetensors");
    loras.reserve(&alice, new.clone()).await.unwrap();

    clock.advance(ABANDONED_AFTER);
    assert_eq!(loras.due_for_cleaning(10).await.unwrap(), []);
    clock.advance(SECOND);

    let due = loras.due_for_cleaning(10).await.unwrap();
    let ids: Vec<_> = due.iter().map(|lora| lora.id).collect();
    assert_eq!(ids, [new.id]);
}

#[tokio::test]
async fn a_transfer_is_lost_and_given_back_by_the_stores_clock() {
    let (store, clock) = store_with_clock();
    let (alice, transfers) = (an_actor(), store.transfers());
    let new = an_import("a.safetensors");
    transfers.begin(&alice, new, import_terms()).await.unwrap();
    let claim = TransferClaim {
        lease: SECOND * 2,
        ..a_transfer_claim()
    };
    let first = transfers.claim(claim).await.unwrap().unwrap();
    clock.advance(SECOND);
    assert_eq!(transfers.claim(a_transfer_claim()).await.unwrap(), None);
    clock.advance(SECOND);
    let second = transfers.claim(a_transfer_claim()).await.unwrap().unwrap();
    assert_eq!((first.attempt, second.attempt), (1, 2));

    transfers
        .postpone(second.lora.id, second.token, SECOND * 2)
        .await
        .unwrap();
    clock.advance(SECOND);
    assert_eq!(transfers.claim(a_transfer_claim()).await.unwrap(), None);
    clock.advance(SECOND);
    assert!(transfers.claim(a_transfer_claim()).await.unwrap().is_some());
}

#[tokio::test]
async fn an_upload_expires_by_the_stores_clock() {
    let (store, clock) = store_with_clock();
    let (alice, uploads) = (an_actor(), store.uploads());
    let new = NewLora {
        bytes_total: Some(4),
        ..a_new_lora("a.safetensors")
    };
    let (id, until) = (new.id, clock.now() + SECOND);
    let created = uploads.create(&alice, new, String::new(), until).await;
    created.unwrap();

    clock.advance(SECOND);
    assert_eq!(uploads.finished(10).await.unwrap(), []);
    clock.advance(SECOND);

    let finished = uploads.finished(10).await.unwrap();
    assert_eq!(finished.len(), 1);
    let upload = uploads.get(&alice, id).await.unwrap().unwrap();
    assert_eq!(upload.status, LoraStatus::Failed);
}

#[tokio::test]
async fn a_queue_position_is_the_number_of_claims_to_come_first() {
    let store = FakeStore::new();
    let (alice, bob) = (an_actor(), an_actor());
    let mut runs = Vec::new();
    for owner in [&alice, &alice, &alice, &bob] {
        runs.push((owner, enqueued(&store, owner).await));
    }
    let mut positions = Vec::new();
    for (owner, id) in &runs {
        let run = store.runs().get(owner, *id).await.unwrap().unwrap();
        positions.push(run.queue_position.unwrap());
    }
    assert_eq!(positions, [0, 2, 3, 1], "one of each user's in turn");

    let mut claimed = Vec::new();
    while let Some(run) = claim(&store.queue(), a_claim("backend")).await {
        claimed.push(run.run_id);
    }
    for ((_, id), position) in runs.iter().zip(positions) {
        assert_eq!(claimed[usize::try_from(position).unwrap()], *id);
    }
}

#[tokio::test]
async fn an_outage_makes_every_repository_unavailable_and_passes() {
    let store = FakeStore::new();
    let (alice, first) = (an_actor(), PageRequest::default());
    store.outage().begin();

    let workflows = store.workflows();
    let listed = workflows.list(&alice, WorkflowFilter::default(), first);
    assert!(matches!(listed.await, Err(RepoError::Unavailable(_))));
    let runs = store.runs();
    let listed = runs.list(&alice, RunFilter::default(), first);
    assert!(matches!(listed.await, Err(RepoError::Unavailable(_))));
    let loras = store.loras();
    let listed = loras.list(&alice, LoraFilter::default(), first);
    assert!(matches!(listed.await, Err(RepoError::Unavailable(_))));
    let claimed = store.queue().claim(a_claim("backend")).await;
    assert!(matches!(claimed, Err(QueueError::Unavailable(_))));
    let claimed = store.transfers().claim(a_transfer_claim()).await;
    assert!(matches!(claimed, Err(RepoError::Unavailable(_))));
    let finished = store.uploads().finished(10).await;
    assert!(matches!(finished, Err(RepoError::Unavailable(_))));
    let states = store.copies().states(&alice, Vec::new()).await;
    assert!(matches!(states, Err(RepoError::Unavailable(_))));

    store.outage().end();
    let claimed = store.queue().claim(a_claim("backend")).await;
    assert_eq!(claimed.unwrap(), ClaimOutcome::Nothing);
}

#[tokio::test]
async fn an_outage_reaches_objects_and_folders() {
    let (blobs, folder) = (InMemoryBlobs::new(), InMemoryLoraFolder::new());
    blobs.outage().begin();
    folder.outage().begin();

    let checked = blobs.check().await;
    assert!(matches!(checked, Err(BlobError::Unavailable(_))));
    let checked = folder.check().await;
    assert!(matches!(checked, Err(LoraFolderError::Unwritable { .. })));
}

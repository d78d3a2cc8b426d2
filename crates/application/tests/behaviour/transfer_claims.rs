//! Who carries a transfer out, and when it is let go.

use std::time::Duration;

use atelier_domain::lora::LoraStatus;
use atelier_domain::ports::{LoraRepo as _, WriteOutcome};
use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::wait_until;

use crate::support::{Depot, LONG};

const FILE: &str = "1AbCdEfGhIjKlMnOp";
const HELD_AT: u64 = 2_042;

/// A file of which the first bytes come, and no more until they are released.
fn halting() -> Depot {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    depot.drive.hold_downloads_at(HELD_AT);
    depot
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_owner_sees_how_far_it_is() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let serving = depot.serve();

    wait_until("progress", LONG, async || {
        depot.lora(lora.id).await.bytes_done == HELD_AT
    })
    .await;

    let total = safetensors_bytes(1).len() as u64;
    assert_eq!(depot.lora(lora.id).await.bytes_total, Some(total));
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lora_that_its_owner_deletes_comes_no_further() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let serving = depot.serve();
    depot.downloads(1).await;
    let deleted = depot.store.loras().delete(&depot.actor, lora.id).await;
    assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));
    pass(5).await;

    depot.drive.release();
    pass(60).await;

    serving.stop().await;
    assert!(depot.blobs.keys().is_empty());
    assert_eq!(depot.offsets(), [0]);
    assert!(depot.transfers.ends().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_transfer_whose_claim_is_lost_stops_and_says_nothing() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let serving = depot.serve();
    depot.downloads(1).await;

    depot.transfers.lose_claims();
    pass(5).await;
    depot.drive.release();
    pass(5).await;

    serving.stop().await;
    assert!(depot.blobs.keys().is_empty());
    assert!(depot.transfers.ends().is_empty());
    assert_eq!(depot.lora(lora.id).await.status, LoraStatus::Importing);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_for_less_than_the_lease_does_no_harm() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let (one, other) = (depot.serve(), depot.serve());
    depot.downloads(1).await;
    depot.store.outage().begin();
    pass(20).await;
    depot.store.outage().end();
    depot.drive.release();

    let ready = depot.settled(lora.id).await;

    one.stop().await;
    other.stop().await;
    assert_eq!(ready.status, LoraStatus::Ready);
    assert_eq!(depot.offsets(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_whole_file_waits_for_the_database() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let serving = depot.serve();
    depot.downloads(1).await;
    depot.store.outage().begin();
    depot.drive.release();
    pass(20).await;
    assert!(depot.transfers.ends().contains(&"complete"));
    depot.store.outage().end();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_eq!(ready.status, LoraStatus::Ready);
    assert_eq!(depot.offsets(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_for_longer_than_the_lease_ends_the_attempt() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let serving = depot.serve();
    depot.downloads(1).await;
    depot.store.outage().begin();
    // By now somebody else might have it.
    pass(45).await;
    depot.drive.release();
    pass(5).await;
    assert!(depot.blobs.keys().is_empty());
    depot.store.outage().end();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_eq!(ready.status, LoraStatus::Ready);
    assert_eq!(depot.offsets(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_is_given_back_at_once_where_somebody_stops() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let first = depot.serve();
    depot.downloads(1).await;
    first.stop().await;
    assert_eq!(depot.transfers.pauses(), [0]);
    depot.drive.release();
    let second = depot.serve();

    wait_until("the end", Duration::from_secs(4), async || {
        depot.lora(lora.id).await.status == LoraStatus::Ready
    })
    .await;

    second.stop().await;
    assert_eq!(depot.offsets(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_of_somebody_who_died_is_taken_up_after_its_lease() {
    let depot = halting();
    let lora = depot.import(FILE).await;
    let first = depot.serve();
    depot.downloads(1).await;
    first.kill().await;
    depot.drive.release();
    let second = depot.serve();
    pass(20).await;
    assert_eq!(depot.offsets(), [0], "taken from somebody who may be alive");

    let ready = depot.settled(lora.id).await;

    second.stop().await;
    assert_eq!(ready.status, LoraStatus::Ready);
    assert_eq!(depot.offsets(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_is_never_carried_out_by_two() {
    let depot = Depot::new();
    let files = [
        "1AbCdEfGhIjKlMnO1",
        "1AbCdEfGhIjKlMnO2",
        "1AbCdEfGhIjKlMnO3",
    ];
    let workers = [depot.serve(), depot.serve(), depot.serve()];
    let mut loras = Vec::new();
    for (number, file) in files.into_iter().enumerate() {
        let name = format!("{number}.safetensors");
        depot.drive.put(file, &name, safetensors_bytes(1));
        loras.push(depot.import(file).await);
    }

    for lora in loras {
        assert_eq!(depot.settled(lora.id).await.status, LoraStatus::Ready);
    }

    for worker in workers {
        worker.stop().await;
    }
    let mut downloads: Vec<String> = depot
        .drive
        .downloads()
        .into_iter()
        .map(|(reference, _)| reference)
        .collect();
    downloads.sort();
    assert_eq!(downloads, files);
    assert_eq!(depot.transfers.ends(), ["complete"; 3]);
}

#[tokio::test(start_paused = true)]
async fn two_transfers_go_on_at_once_and_the_third_waits() {
    let depot = Depot::new();
    depot.drive.hold_downloads_at(HELD_AT);
    let serving = depot.serve();
    for number in 0..3 {
        let reference = format!("1AbCdEfGhIjKlMnO{number}");
        let name = format!("{number}.safetensors");
        depot.drive.put(&reference, &name, safetensors_bytes(1));
        depot.import(&reference).await;
    }
    pass(30).await;
    assert_eq!(depot.offsets(), [0, 0]);

    depot.drive.release();

    assert_eq!(depot.downloads(3).await, [0, 0, 0]);
    serving.stop().await;
}

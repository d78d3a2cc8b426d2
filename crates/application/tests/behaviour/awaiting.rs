use std::sync::Arc;
use std::time::Duration;

use atelier_application::runs::AwaitRun;
use atelier_domain::ports::{MockRunSignals, RunSignals};
use atelier_domain::run::RunStatus;
use atelier_testkit::build::an_actor;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::support::{House, plain_graph};

fn awaiting(house: &House, signals: impl RunSignals + 'static) -> AwaitRun {
    AwaitRun {
        runs: Arc::new(house.store.runs()),
        signals: Arc::new(signals),
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_run() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap();
    let waits = awaiting(&house, house.store.signals());
    let begun = Instant::now();

    let (waited, ()) = tokio::join!(
        waits.execute(&house.actor, run.id, Duration::from_mins(1)),
        async {
            tokio::time::advance(Duration::from_millis(300)).await;
            house.complete_next().await;
        }
    );

    assert_eq!(waited.unwrap().unwrap().status, RunStatus::Completed);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_without_signals_too() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap();
    let mut signals = MockRunSignals::new();
    signals
        .expect_watch()
        .returning(|_| stream::empty().boxed());
    let begun = Instant::now();
    let waits = awaiting(&house, signals);

    let (waited, _) = tokio::join!(
        waits.execute(&house.actor, run.id, Duration::from_mins(1)),
        house.complete_next()
    );

    assert_eq!(waited.unwrap().unwrap().status, RunStatus::Completed);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap();
    let begun = Instant::now();

    let waited = awaiting(&house, house.store.signals())
        .execute(&house.actor, run.id, Duration::from_secs(30))
        .await;

    assert_eq!(waited.unwrap().unwrap().status, RunStatus::Pending);
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_run_is_not_waited_for() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap();
    let begun = Instant::now();

    let waited = awaiting(&house, house.store.signals())
        .execute(&an_actor(), run.id, Duration::from_secs(30))
        .await;

    assert_eq!(waited.unwrap(), None);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

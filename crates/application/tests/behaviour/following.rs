use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atelier_application::runs::{FollowRun, Following, RunEvents};
use atelier_domain::ids::RunId;
use atelier_domain::ports::{
    ClaimedRun, MockRunRepo, MockRunSignals, RunQueue as _, RunRepo, RunReport, RunSignals,
    RunTopic, SignalStream,
};
use atelier_domain::run::{RunEvent, RunProgress};
use atelier_testkit::build::an_actor;
use atelier_testkit::{FakeRunSignals, random_id, wait_until};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::support::{House, LONG, plain_graph};

fn following(house: &House) -> FollowRun {
    with(house.store.runs(), house.store.signals())
}

fn with(runs: impl RunRepo + 'static, signals: impl RunSignals + 'static) -> FollowRun {
    FollowRun::new(Arc::new(runs), Arc::new(signals), Handle::current())
}

async fn follow(house: &House, follows: &FollowRun, run: RunId, known: i64) -> RunEvents {
    match follows.execute(&house.actor, run, known).await.unwrap() {
        Following::Events(events) => events,
        other => panic!("no events: {other:?}"),
    }
}

async fn next(events: &mut RunEvents) -> Arc<RunEvent> {
    timeout(LONG, events.next()).await.unwrap().unwrap()
}

/// Everything up to the end.
async fn rest(events: RunEvents) -> Vec<i64> {
    timeout(LONG, events.map(|event| event.sequence).collect())
        .await
        .unwrap()
}

/// Makes the run tell of each of these steps.
async fn tell(house: &House, claimed: &ClaimedRun, steps: std::ops::Range<u32>) {
    for step in steps {
        let progress = RunProgress {
            step: Some(step),
            ..RunProgress::default()
        };
        let report = RunReport {
            progress: Some(progress),
            ..RunReport::default()
        };
        let queue = house.store.queue();
        queue
            .report(claimed.run_id, claimed.token, report)
            .await
            .unwrap();
    }
}

async fn complete(house: &House, claimed: &ClaimedRun) {
    let queue = house.store.queue();
    queue
        .complete(claimed.run_id, claimed.token, Vec::new())
        .await
        .unwrap();
}

fn sequences(from: i64, to: i64) -> Vec<i64> {
    (from..=to).collect()
}

/// Counts how often events are read.
fn counted(house: &House) -> (MockRunRepo, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let (count, store) = (Arc::clone(&reads), house.store.clone());
    let mut runs = MockRunRepo::new();
    runs.expect_events()
        .returning(move |actor, id, after, limit| {
            count.fetch_add(1, Ordering::SeqCst);
            let fake = store.runs();
            fake.events(actor, id, after, limit).now_or_never().unwrap()
        });
    (runs, reads)
}

#[tokio::test(start_paused = true)]
async fn what_was_is_told_then_what_happens_then_the_end() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let follows = following(&house);
    let mut events = follow(&house, &follows, run, 0).await;

    assert_eq!(next(&mut events).await.data["status"], "pending");
    assert_eq!(next(&mut events).await.data["status"], "running");
    assert!(events.next().now_or_never().is_none());
    tell(&house, &claimed, 0..1).await;
    assert_eq!(next(&mut events).await.data["step"], 0);
    complete(&house, &claimed).await;
    assert_eq!(next(&mut events).await.data["status"], "completed");
    assert!(timeout(LONG, events.next()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_again_gets_the_rest() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    tell(&house, &claimed, 0..5).await;
    let follows = following(&house);

    let before_the_end = follow(&house, &follows, run, 4).await;
    complete(&house, &claimed).await;
    let after_the_end = follow(&house, &follows, run, 7).await;

    assert_eq!(rest(before_the_end).await, [5, 6, 7, 8]);
    assert_eq!(rest(after_the_end).await, [8]);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_seen_the_end_is_told_so() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    house.complete_next().await;

    for known in [3, 4, 1_000, i64::MAX] {
        let told = following(&house).execute(&house.actor, run, known).await;
        assert!(matches!(told, Ok(Following::Over)), "{known}: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_claims_to_know_the_future_is_told_what_happens_from_now_on() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let follows = following(&house);
    for known in [3, 1_000_000, i64::MAX] {
        let mut events = follow(&house, &follows, run, known).await;
        assert!(events.next().now_or_never().is_none(), "{known}");
    }

    let early = follow(&house, &follows, run, i64::MAX).await;
    let all = follow(&house, &follows, run, 0).await;
    complete(&house, &claimed).await;

    assert_eq!(rest(early).await, [3]);
    assert_eq!(rest(all).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_run_is_as_absent_as_none() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;

    for (actor, id, known) in [
        (an_actor(), run, 0),
        (an_actor(), run, 1),
        (an_actor(), run, 99),
        (house.actor.clone(), RunId::new(random_id()), 0),
    ] {
        let told = following(&house).execute(&actor, id, known).await;
        assert!(matches!(told, Ok(Following::Absent)), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_many_follow_is_read_once() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let (runs, reads) = counted(&house);
    let follows = with(runs, house.store.signals());
    let mut all = Vec::new();
    for _ in 0..50 {
        let mut events = follow(&house, &follows, run, 0).await;
        assert_eq!(next(&mut events).await.sequence, 1);
        assert_eq!(next(&mut events).await.sequence, 2);
        assert!(events.next().now_or_never().is_none());
        all.push(events);
    }
    assert_eq!(follows.followed(), 1);
    let before = reads.load(Ordering::SeqCst);

    for step in 0..10 {
        tell(&house, &claimed, step..step + 1).await;
        for events in &mut all {
            assert_eq!(next(events).await.sequence, i64::from(3 + step));
        }
    }

    // The first look of the feed, and one for each signal.
    let read = reads.load(Ordering::SeqCst) - before;
    assert!((1..=11).contains(&read), "{read}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_falls_far_behind_misses_nothing() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let follows = following(&house);
    let mut slow = follow(&house, &follows, run, 2).await;
    let mut quick = follow(&house, &follows, run, 2).await;
    assert!(slow.next().now_or_never().is_none());

    for step in 3..=1_502 {
        tell(&house, &claimed, step..step + 1).await;
        assert_eq!(next(&mut quick).await.sequence, i64::from(step));
    }
    complete(&house, &claimed).await;

    assert_eq!(rest(quick).await, [1_503]);
    assert_eq!(rest(slow).await, sequences(3, 1_503));
}

#[tokio::test(start_paused = true)]
async fn a_long_history_comes_whole() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    tell(&house, &claimed, 0..998).await;
    let follows = following(&house);
    let before_the_end = follow(&house, &follows, run, 0).await;
    complete(&house, &claimed).await;

    assert_eq!(rest(before_the_end).await, sequences(1, 1_001));
    let later = follow(&house, &follows, run, 400).await;
    assert_eq!(rest(later).await, sequences(401, 1_001));
}

#[tokio::test(start_paused = true)]
async fn an_outage_only_makes_followers_wait() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    tell(&house, &claimed, 0..300).await;
    let follows = following(&house);
    let mut at_the_front = follow(&house, &follows, run, 302).await;
    let in_the_history = follow(&house, &follows, run, 0).await;
    assert!(at_the_front.next().now_or_never().is_none());

    house.store.outage().begin();
    let refused = follows.execute(&house.actor, run, 0).await;
    let waited = timeout(Duration::from_mins(2), at_the_front.next()).await;
    let history = tokio::spawn(rest(in_the_history));
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(!history.is_finished());
    house.store.outage().end();
    complete(&house, &claimed).await;

    assert!(refused.is_err(), "{refused:?}");
    assert!(waited.is_err(), "{waited:?}");
    assert_eq!(rest(at_the_front).await, [303]);
    assert_eq!(history.await.unwrap(), sequences(1, 303));
}

#[tokio::test(start_paused = true)]
async fn a_feed_ends_with_its_last_follower() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let (runs, reads) = counted(&house);
    let follows = with(runs, house.store.signals());
    let mut first = follow(&house, &follows, run, 2).await;
    let mut second = follow(&house, &follows, run, 2).await;
    assert!(first.next().now_or_never().is_none());
    assert!(second.next().now_or_never().is_none());

    drop(first);
    tell(&house, &claimed, 0..1).await;
    assert_eq!(next(&mut second).await.sequence, 3);
    assert_eq!(follows.followed(), 1);
    drop(second);
    wait_until("nobody is followed", LONG, async || follows.followed() == 0).await;

    let before = reads.load(Ordering::SeqCst);
    tell(&house, &claimed, 1..4).await;
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(reads.load(Ordering::SeqCst), before);
}

#[tokio::test(start_paused = true)]
async fn a_feed_ends_with_its_run() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let follows = following(&house);
    let mut events = follow(&house, &follows, run, 2).await;
    assert!(events.next().now_or_never().is_none());

    complete(&house, &claimed).await;

    wait_until("nobody is followed", LONG, async || follows.followed() == 0).await;
    assert_eq!(rest(events).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn without_signals_events_come_all_the_same() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let mut deaf = MockRunSignals::new();
    deaf.expect_watch().returning(|_| stream::pending().boxed());
    let mut ended = MockRunSignals::new();
    ended.expect_watch().returning(|_| stream::empty().boxed());
    let deaf = with(house.store.runs(), deaf);
    let ended = with(house.store.runs(), ended);
    let mut deaf = follow(&house, &deaf, run, 2).await;
    let mut ended = follow(&house, &ended, run, 2).await;
    assert!(deaf.next().now_or_never().is_none());
    assert!(ended.next().now_or_never().is_none());

    tokio::task::yield_now().await;
    complete(&house, &claimed).await;

    assert_eq!(rest(deaf).await, [3]);
    assert_eq!(rest(ended).await, [3]);
}

/// Kills the first reader that asks to be woken.
struct FatalOnce {
    watched: AtomicUsize,
    signals: FakeRunSignals,
}

impl RunSignals for FatalOnce {
    fn watch(&self, topic: RunTopic) -> SignalStream {
        let earlier = self.watched.fetch_add(1, Ordering::SeqCst);
        assert!(earlier > 0, "the first reader dies");
        self.signals.watch(topic)
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_dies_is_replaced() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    let claimed = house.claimed().await;
    let signals = FatalOnce {
        watched: AtomicUsize::new(0),
        signals: house.store.signals(),
    };
    let follows = with(house.store.runs(), signals);
    let events = follow(&house, &follows, run, 2).await;

    let all = tokio::spawn(rest(events));
    tokio::time::sleep(Duration::from_secs(1)).await;
    complete(&house, &claimed).await;

    assert_eq!(all.await.unwrap(), [3]);
}

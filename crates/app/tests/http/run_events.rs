//! Streams of events. Time stands still here, and jumps when nothing else is
//! to be done.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody as _};
use actix_web::http::Method;
use actix_web::test::TestRequest;
use atelier_domain::ports::{
    ClaimedRun, PreviewFormat, PreviewImage, RunPreviews as _, RunQueue as _, RunReport,
};
use atelier_domain::run::{RunPhase, RunProgress};
use atelier_testkit::build::{a_workflow, an_output};
use atelier_testkit::{random_id, wait_until};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::support::{Answer, Server, World, as_user, serve, workflow_path};

/// Longer than any stream lasts.
const LONG: Duration = Duration::from_hours(10);

/// A world whose clock stands still, with a run that was claimed.
async fn running() -> (World, Server, ClaimedRun) {
    tokio::time::pause();
    let world = World::new();
    let server = world.server().await;
    let workflow = world.keep(&world.alice, a_workflow()).await.id;
    let path = format!("{}/run", workflow_path(workflow));
    assert_eq!(server.post(&path, &json!({})).await.status, 202);
    let claimed = world.claim_next().await;
    (world, server, claimed)
}

fn events_of(run: &ClaimedRun, query: &str) -> TestRequest {
    let path = format!("/runs/{}/events{query}", run.run_id);
    as_user("alice", Method::GET, &path)
}

async fn complete(world: &World, claimed: &ClaimedRun) {
    let queue = world.store.queue();
    let outputs = vec![an_output(claimed.run_id, 0)];
    queue
        .complete(claimed.run_id, claimed.token, outputs)
        .await
        .unwrap();
}

async fn report(world: &World, claimed: &ClaimedRun, report: RunReport) {
    let queue = world.store.queue();
    queue
        .report(claimed.run_id, claimed.token, report)
        .await
        .unwrap();
}

fn preview(fill: u8) -> PreviewImage {
    PreviewImage {
        content_type: PreviewFormat::Png,
        bytes: vec![fill; 3].into(),
    }
}

/// One block of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Block {
    id: Option<String>,
    event: Option<String>,
    data: Value,
    /// What is no event: comments and the time to wait.
    other: Vec<String>,
}

impl Block {
    fn read(text: &str) -> Self {
        let mut block = Self {
            id: None,
            event: None,
            data: Value::Null,
            other: Vec::new(),
        };
        for line in text.lines() {
            match line.split_once(": ") {
                Some(("id", id)) => block.id = Some(id.to_owned()),
                Some(("event", event)) => block.event = Some(event.to_owned()),
                Some(("data", data)) => block.data = serde_json::from_str(data).unwrap(),
                _ => block.other.push(line.to_owned()),
            }
        }
        block
    }

    fn is_heartbeat(&self) -> bool {
        self.event.is_none() && self.other.iter().any(|line| line.starts_with(':'))
    }
}

/// Somebody who reads a stream.
struct Reading {
    body: Pin<Box<BoxBody>>,
    text: String,
}

impl Reading {
    async fn open(server: &Server, request: TestRequest) -> (Answer, Self) {
        let (answer, body) = server.open(request).await;
        let reading = Self {
            body: Box::pin(body),
            text: String::new(),
        };
        (answer, reading)
    }

    /// The same, of a stream that there is, after the time to wait.
    async fn begin(server: &Server, request: TestRequest) -> Self {
        let (answer, mut reading) = Self::open(server, request).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let opening = reading.next().await.expect("an opening");
        assert_eq!(opening.other, ["retry: 2000"]);
        reading
    }

    /// The next block; `None` at the end.
    async fn next(&mut self) -> Option<Block> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                return Some(Block::read(block.trim_end()));
            }
            let chunk = poll_fn(|context| self.body.as_mut().poll_next(context));
            let chunk = timeout(LONG, chunk).await.expect("something in time")?;
            let chunk = chunk.expect("no error").to_vec();
            self.text.push_str(&String::from_utf8(chunk).unwrap());
        }
    }

    /// The next block that is no heartbeat; `None` at the end.
    async fn event(&mut self) -> Option<Block> {
        loop {
            let block = self.next().await?;
            if !block.is_heartbeat() {
                return Some(block);
            }
        }
    }

    /// The ids of all that comes.
    async fn ids(mut self) -> Vec<Option<String>> {
        let mut ids = Vec::new();
        while let Some(event) = self.event().await {
            ids.push(event.id);
        }
        ids
    }
}

/// Ids as numbers, and then an event without one.
fn ids(numbers: &[i64]) -> Vec<Option<String>> {
    let numbers = numbers.iter().map(|number| Some(number.to_string()));
    numbers.chain([None]).collect()
}

#[actix_web::test]
async fn a_run_is_followed_from_its_beginning_to_its_end() {
    let (world, server, run) = running().await;

    let (answer, mut reading) = Reading::open(&server, events_of(&run, "")).await;

    assert_eq!(answer.status, 200, "{answer:?}");
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(reading.next().await.unwrap().other, ["retry: 2000"]);
    let at = "2026-01-01T00:00:00.000000Z";
    let expect = async |reading: &mut Reading, id: i64, event: &str, data: Value| {
        let block = reading.event().await.expect("an event");
        assert_eq!(block.id, Some(id.to_string()), "{block:?}");
        assert_eq!(block.event.as_deref(), Some(event), "{block:?}");
        assert_eq!(block.data, data);
    };
    let pending = json!({"status": "pending", "attempt": 0, "created_at": at});
    expect(&mut reading, 1, "status", pending).await;
    let begun = json!({"status": "running", "attempt": 1, "created_at": at});
    expect(&mut reading, 2, "status", begun).await;
    let executing = RunReport {
        phase: Some(RunPhase::Executing),
        ..RunReport::default()
    };
    report(&world, &run, executing).await;
    let phase = json!({"phase": "executing", "created_at": at});
    expect(&mut reading, 3, "phase", phase).await;
    complete(&world, &run).await;
    let output = reading.event().await.expect("an output");
    assert_eq!(output.event.as_deref(), Some("output"));
    assert_eq!(output.data["index"], 0);
    let over = json!({"status": "completed", "attempt": 1, "created_at": at});
    expect(&mut reading, 5, "status", over).await;
    let end = reading.event().await.expect("an end");
    assert_eq!((end.id, end.event.as_deref()), (None, Some("end")));
    assert_eq!(end.data, json!({"status": "completed"}));
    assert_eq!(reading.next().await, None);
}

#[actix_web::test]
async fn whoever_comes_again_gets_what_is_behind_the_last_event() {
    let (world, server, run) = running().await;
    complete(&world, &run).await;
    let with_header =
        |query: &str, id: &str| events_of(&run, query).insert_header(("Last-Event-ID", id));

    let whole = Reading::begin(&server, events_of(&run, "")).await;
    assert_eq!(whole.ids().await, ids(&[1, 2, 3, 4]));
    for request in [
        with_header("", "2"),
        events_of(&run, "?last_event_id=2"),
        with_header("?last_event_id=0", "2"),
        with_header("?last_event_id=2", ""),
    ] {
        let rest = Reading::begin(&server, request).await;
        assert_eq!(rest.ids().await, ids(&[3, 4]));
    }
    for id in ["4", "5", "9223372036854775807"] {
        let (answer, _) = Reading::open(&server, with_header("", id)).await;
        assert_eq!(answer.status, 204, "{id}: {answer:?}");
    }
}

#[actix_web::test]
async fn who_knows_more_than_there_is_waits_for_what_comes() {
    let (world, server, run) = running().await;
    let request = events_of(&run, "").insert_header(("Last-Event-ID", "1000"));

    let mut reading = Reading::begin(&server, request).await;
    assert!(reading.next().await.unwrap().is_heartbeat());
    complete(&world, &run).await;

    assert_eq!(reading.ids().await, ids(&[3, 4]));
}

#[actix_web::test]
async fn what_cannot_be_followed_is_told_before_the_stream_begins() {
    let (world, server, run) = running().await;
    for id in [
        "a",
        "-1",
        "1.0",
        "+1",
        " ",
        "99999999999999999999",
        "caf\u{e9}",
    ] {
        let request = events_of(&run, "").insert_header(("Last-Event-ID", id));
        let answer = server.send(request).await;
        answer.is_problem(400, "bad-request", &["Last-Event-ID"]);
    }
    let answer = server.send(events_of(&run, "?last_event_id=x")).await;
    answer.is_problem(400, "bad-request", &["?last_event_id"]);
    // The header counts, and the address is read all the same.
    let both = events_of(&run, "?last_event_id=-1").insert_header(("Last-Event-ID", "1"));
    let answer = server.send(both).await;
    answer.is_problem(400, "bad-request", &["?last_event_id"]);
    let answer = server.send(events_of(&run, "?previews=yes&wait=1")).await;
    answer.is_problem(422, "validation", &["?previews", "?wait"]);
    let path = format!("/runs/{}/events", run.run_id);
    for id in ["", "0", "2", "99"] {
        let bobs = as_user("bob", Method::GET, &path).insert_header(("Last-Event-ID", id));
        let answer = server.send(bobs).await;
        answer.is_problem(404, "run-not-found", &[]);
    }
    let nothing = server.get(&format!("/runs/{}/events", random_id())).await;
    nothing.is_problem(404, "run-not-found", &[]);
    let posted = server.post(&path, &json!({})).await;
    posted.is_problem(405, "method-not-allowed", &[]);
    world.store.outage().begin();
    let answer = server.send(events_of(&run, "")).await;
    answer.is_problem(503, "unavailable", &[]);
}

#[actix_web::test]
async fn a_silent_stream_says_something_every_fifteen_seconds() {
    let (_world, server, run) = running().await;
    let mut reading = Reading::begin(&server, events_of(&run, "?last_event_id=2")).await;
    let begun = Instant::now();

    for count in 1..=4 {
        let block = reading.next().await.unwrap();
        assert!(block.is_heartbeat(), "{block:?}");
        let waited = begun.elapsed();
        let expected = Duration::from_secs(15) * count;
        assert!(
            waited >= expected && waited < expected + Duration::from_secs(1),
            "{waited:?}"
        );
    }
}

#[actix_web::test]
async fn a_stream_outlives_an_outage() {
    let (world, server, run) = running().await;
    let mut reading = Reading::begin(&server, events_of(&run, "?last_event_id=2")).await;

    world.store.outage().begin();
    for _ in 0..8 {
        assert!(reading.next().await.unwrap().is_heartbeat());
    }
    world.store.outage().end();
    complete(&world, &run).await;

    assert_eq!(reading.ids().await, ids(&[3, 4]));
}

#[actix_web::test]
async fn a_stream_lasts_an_hour_at_the_most() {
    let (_world, server, run) = running().await;
    let begun = Instant::now();

    let reading = Reading::begin(&server, events_of(&run, "?last_event_id=2")).await;

    assert_eq!(reading.ids().await, []);
    let lasted = begun.elapsed();
    assert!(
        lasted > Duration::from_mins(59) && lasted < Duration::from_mins(61),
        "{lasted:?}"
    );
}

#[actix_web::test]
async fn a_server_that_stops_ends_its_streams_at_once() {
    let (world, server, run) = running().await;
    let mut reading = Reading::begin(&server, events_of(&run, "?last_event_id=2")).await;
    let begun = Instant::now();

    let stop = async { world.stopping.cancel() };
    let (told, ()) = futures_util::join!(reading.next(), stop);

    // No end is told: whoever connects again, after that time, goes on elsewhere.
    let told = told.unwrap();
    assert_eq!((told.id, told.event), (None, None));
    let retry = told
        .other
        .iter()
        .find_map(|line| line.strip_prefix("retry: "));
    let pause_ms: u64 = retry.unwrap().parse().unwrap();
    assert!((250..1_750).contains(&pause_ms), "{pause_ms}");
    assert_eq!(reading.next().await, None);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[actix_web::test]
async fn a_stream_that_nobody_reads_any_more_leaves_nothing_behind() {
    tokio::time::pause();
    let world = World::new();
    let api = world.api();
    let server = serve(actix_web::web::Data::clone(&api)).await;
    let workflow = world.keep(&world.alice, a_workflow()).await.id;
    let path = format!("{}/run", workflow_path(workflow));
    server.post(&path, &json!({})).await;
    let run = world.claim_next().await;
    let follow = async || {
        let mut reading =
            Reading::begin(&server, events_of(&run, "?last_event_id=2&previews=1")).await;
        assert!(reading.next().await.unwrap().is_heartbeat());
        reading
    };
    let (first, second) = (follow().await, follow().await);
    assert_eq!(api.follow_run().followed(), 1);
    assert!(world.previews.is_wanted(run.run_id));

    drop(first);
    drop(second);

    wait_until("nothing is followed", LONG, async || {
        api.follow_run().followed() == 0
    })
    .await;
    assert!(!world.previews.is_wanted(run.run_id));
}

#[actix_web::test]
async fn previews_come_to_those_who_ask_for_them() {
    let (world, server, run) = running().await;
    let mut asked = Reading::begin(&server, events_of(&run, "?last_event_id=2&previews=1")).await;
    let not_asked = Reading::begin(&server, events_of(&run, "?last_event_id=2&previews=0")).await;

    // Of several that come before one is taken, the latest is sent.
    for fill in [1, 2] {
        let published = world.previews.publish(run.run_id, preview(fill)).await;
        published.unwrap();
    }
    let shown = asked.event().await.unwrap();
    assert_eq!((shown.id, shown.event.as_deref()), (None, Some("preview")));
    assert_eq!(
        shown.data,
        json!({"content_type": "image/png", "image": "AgIC"})
    );
    complete(&world, &run).await;

    assert_eq!(asked.ids().await, ids(&[3, 4]));
    assert_eq!(not_asked.ids().await, ids(&[3, 4]));
}

#[actix_web::test]
async fn a_client_that_reads_slowly_gets_everything_in_pieces() {
    let (world, server, run) = running().await;
    for step in 0..2_000 {
        let progress = RunProgress {
            step: Some(step),
            steps: Some(2_000),
            ..RunProgress::default()
        };
        let going_on = RunReport {
            progress: Some(progress),
            ..RunReport::default()
        };
        report(&world, &run, going_on).await;
    }
    complete(&world, &run).await;
    let (_, mut reading) = Reading::open(&server, events_of(&run, "")).await;

    let mut longest = 0;
    let mut count = 0;
    while let Some(chunk) = poll_fn(|context| reading.body.as_mut().poll_next(context)).await {
        let chunk = chunk.expect("no error");
        longest = longest.max(chunk.len());
        count += chunk.windows(4).filter(|four| four == b"id: ").count();
    }

    assert_eq!(count, 2_004);
    assert!(longest <= 16 * 1024, "{longest}");
}

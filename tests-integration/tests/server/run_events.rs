//! Streams of events, from real runs.

use std::time::{Duration, Instant};

use atelier_testkit::PATIENCE;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::event_stream::{Event, Stream, request};
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::without_lora;
use serde_json::{Value, json};

use crate::house::ATELIER;

/// A site whose backend takes its time, and a graph that takes some.
async fn slow_site() -> (Site, Value) {
    let backend =
        Backend::start_with(|options| options.step_delay = Duration::from_millis(40)).await;
    let mut graph = without_lora();
    graph["3"]["inputs"]["steps"] = json!(30);
    (Site::with_backend(ATELIER, backend).await, graph)
}

/// Checks that these are all events of a run, in order, and then its end.
fn assert_whole(events: &[Event], from: u64) {
    let (end, stored) = events.split_last().expect("an end");
    let ids: Vec<Option<u64>> = stored.iter().map(|event| event.id).collect();
    let expected: Vec<Option<u64>> = (from..).take(stored.len()).map(Some).collect();
    assert_eq!(ids, expected, "{events:?}");
    assert_eq!((end.id, end.kind.as_str()), (None, "end"), "{events:?}");
    assert_eq!(end.data, json!({"status": "completed"}));
    let last = stored.last().expect("an event");
    assert_eq!(last.data["status"], "completed", "{events:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_live_to_its_end() {
    let (site, graph) = slow_site().await;
    let server = site.serve();
    let client = server.client();
    let workflow = client.create_workflow(&graph, false).await;
    let run = client.start_run(&workflow, &json!({})).await;

    let mut stream = Stream::open(&client, &run, 0).await;
    let mut events = Vec::new();
    let mut told_while_running = false;
    while let Some(event) = stream.next().await {
        if event.kind == "progress" && !told_while_running {
            let seen = client.get(&format!("/runs/{run}")).await.expect(200);
            told_while_running = seen["status"] == "running";
        }
        events.push(event);
    }

    assert_whole(&events, 1);
    assert!(told_while_running, "{events:?}");
    let of = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    assert!(of("status") >= 3 && of("phase") >= 1, "{events:?}");
    assert_eq!(of("output"), 1, "{events:?}");
    let values: Vec<f64> = events
        .iter()
        .filter(|event| event.kind == "progress")
        .map(|event| event.data["value"].as_f64().expect("a number"))
        .collect();
    assert!(values.is_sorted(), "{values:?}");
    assert!(
        events
            .iter()
            .all(|event| event.kind == "end" || event.data["created_at"].is_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_again_misses_nothing_on_whatever_server() {
    let (site, graph) = slow_site().await;
    let servers = [site.serve(), site.serve_without_worker()];
    let client = servers[0].client();
    let elsewhere = Client::new(&servers[1].url, Some(client.person().clone()));
    let workflow = client.create_workflow(&graph, false).await;
    let run = client.start_run(&workflow, &json!({})).await;

    let mut seen = Vec::new();
    let mut known = 0;
    for turn in 0.. {
        let on = if turn % 2 == 0 { &client } else { &elsewhere };
        let mut stream = Stream::open(on, &run, known).await;
        for _ in 0..3 {
            let event = stream.next().await.expect("an event or the end");
            known = event.id.unwrap_or(known);
            seen.push(event);
            if seen.last().is_some_and(|event| event.kind == "end") {
                break;
            }
        }
        let over = seen
            .iter()
            .any(|event| event.kind == "status" && event.data["status"] == "completed");
        if over {
            break;
        }
    }

    let whole = Stream::open(&elsewhere, &run, 0).await.rest().await;
    assert_whole(&whole, 1);
    let stored = |events: &[Event]| -> Vec<Event> {
        let with_id = events.iter().filter(|event| event.id.is_some());
        with_id.cloned().collect()
    };
    assert_eq!(stored(&seen), stored(&whole));
    let behind_the_last = request(&elsewhere, &run, known).await;
    assert_eq!(behind_the_last.status(), 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_does_not_wait_for_its_streams() {
    let site = Site::new(ATELIER).await;
    let mut server = site.serve_without_worker();
    let client = server.client();
    let workflow = client.create_workflow(&without_lora(), false).await;
    let run = client.start_run(&workflow, &json!({})).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = Stream::open(&client, &run, 0).await;
        assert_eq!(stream.next().await.expect("the first").id, Some(1));
        streams.push(stream);
    }

    let begun = Instant::now();
    let status = server.process.terminate(PATIENCE);

    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    for stream in streams {
        assert_eq!(stream.rest().await, []);
    }
}

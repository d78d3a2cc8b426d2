//! Two thousand clients follow a hundred runs on one server.

#![expect(clippy::expect_used, reason = "a test stops at the first surprise")]

use std::time::{Duration, Instant};

use atelier_tests_integration::client::Client;
use atelier_tests_integration::event_stream::{Event, Stream};
use atelier_tests_integration::fleet::{Fleet, FleetPlan};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const ATELIER: &str = env!("CARGO_BIN_EXE_atelier-under-test");

const RUNS: usize = 100;
const CLIENTS: usize = 2_000;

/// Every so manieth client is cut off every so many events, and comes back.
const RECONNECTING: usize = 5;
const EVENTS_BEFORE_CUT: usize = 3;

/// A socket each, in this process.
fn open_files() {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        ..limits
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit anybody may");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_one_of_two_thousand_clients_gets_every_event_in_order() {
    open_files();
    let fleet = FleetPlan::new(ATELIER)
        .backends(2)
        .step_delay(Duration::from_millis(30))
        .start()
        .await;
    let server = fleet.server.process.pid();
    let idle = (memory_kib(server), cpu_seconds(server));
    let runs = fleet
        .submit_as(&fleet.client, RUNS, &json!({"steps": 6}))
        .await;

    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for (number, run) in runs.iter().cycle().take(CLIENTS).enumerate() {
        let (client, run) = (fleet.client.clone(), run.clone());
        let is_cut = number % RECONNECTING == 0;
        clients.spawn(async move {
            let events = if is_cut {
                follow_with_cuts(&client, &run).await
            } else {
                Stream::open(&client, &run, 0).await.rest().await
            };
            (run, events)
        });
    }
    let followed = clients.join_all().await;

    let connections = fleet
        .database
        .count("select count(*) from pg_stat_activity where query ilike 'listen%'")
        .await;
    let told = report(&fleet, idle, begun.elapsed(), &followed);
    std::io::Write::write_all(&mut std::io::stderr(), told.as_bytes()).expect("somebody reads");
    for run in &runs {
        let stored = stored(&fleet, run).await;
        let streams = followed.iter().filter(|(followed, _)| followed == run);
        for (_, events) in streams {
            let sent: Vec<Value> = events.iter().filter_map(numbered).collect();
            assert_eq!(sent, stored, "the events of {run}");
            let last = events.last().expect("an event");
            assert!(
                last.kind == "end" || last.data["status"] == "completed",
                "{last:?}"
            );
        }
    }
    // One a process: the server's and the worker's.
    assert!(connections <= 2, "{connections} connections listen");
}

/// Goes away in the middle again and again, and comes back for the rest.
async fn follow_with_cuts(client: &Client, run: &str) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    loop {
        let known = events
            .iter()
            .filter_map(|event| event.id)
            .max()
            .unwrap_or(0);
        let Some(mut stream) = Stream::reopen(client, run, known).await else {
            // It was cut off between the last event and the end.
            return events;
        };
        for _ in 0..EVENTS_BEFORE_CUT {
            let event = stream.next().await.expect("no end before the end");
            let is_end = event.kind == "end";
            events.push(event);
            if is_end {
                return events;
            }
        }
    }
}

/// An event with a number, without the time.
fn numbered(event: &Event) -> Option<Value> {
    let mut data = event.data.clone();
    data.as_object_mut()?.remove("created_at");
    Some(json!([event.id?, event.kind, data]))
}

async fn stored(fleet: &Fleet, run: &str) -> Vec<Value> {
    let sql = format!(
        "select json_agg(json_build_array(sequence, kind, data) order by sequence)::text \
         from comfyui_run_events where run_id = '{run}'"
    );
    serde_json::from_str(&fleet.database.text(&sql).await).expect("JSON")
}

fn report(
    fleet: &Fleet,
    idle: (u64, f64),
    took: Duration,
    followed: &[(String, Vec<Event>)],
) -> String {
    let server = fleet.server.process.pid();
    let events: usize = followed.iter().map(|(_, events)| events.len()).sum();
    format!(
        "{CLIENTS} streams of {RUNS} runs: {events} events in {took:.1?}; the server's memory {} KiB idle, {} KiB at its \
         peak; {:.1} s of its processor time\n",
        idle.0,
        fleet.server.process.peak_memory_kib(),
        cpu_seconds(server) - idle.1,
    )
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.parse().ok())
        .expect("the kernel says")
}

/// User and system time, at 100 ticks a second.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<f64>().expect("a number") / 100.0)
        .sum()
}

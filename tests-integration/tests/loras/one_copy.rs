//! One copy at a time of each file, whoever waits for it, and whatever becomes of the worker that
//! makes it.

use std::ffi::OsString;

use atelier_testkit::build::sha256_of;
use atelier_testkit::wait_until;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::fleet::FleetPlan;
use atelier_tests_integration::process::Process;
use atelier_tests_integration::workflows::with_lora;
use bytes::Bytes;
use futures_util::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::{Value, json};

use crate::ATELIER;
use crate::contents::{assert_is, listed, names_in, parts_in, weights};
use crate::workshop::{PATIENCE, Workshop};

const MIB: u64 = 1024 * 1024;
const STYLE: &str = "style.safetensors";
const RUNS: usize = 50;

/// The runs that wait for a copy, and the workers that wait with them.
const WAITING: &str = "select count(*) from comfyui_workflow_runs where phase = 'syncing_loras'";
const WORKING: &str = "select count(distinct claimed_by) from comfyui_workflow_runs \
                       where phase = 'syncing_loras'";

/// How large the file is that fifty runs need, in MiB: 64, or what `ATELIER_TEST_LORA_MIB` says.
fn size_mib() -> u64 {
    let told = std::env::var_os("ATELIER_TEST_LORA_MIB").map(OsString::into_string);
    told.map_or(64, |text| {
        let number = text.ok().and_then(|text| text.parse().ok());
        number.expect("ATELIER_TEST_LORA_MIB is a number")
    })
}

/// Uploads a file of so many MiB that is never whole in memory.
async fn upload_large(client: &Client, mib: u64) -> Value {
    let size = mib * MIB;
    let header = json!({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}});
    let header = header.to_string();
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.bytes());
    let length = start.len() as u64 + size;
    let block: Vec<u8> = (0..MIB).map(|at| at.to_le_bytes()[1]).collect();
    let blocks = (0..mib).map(move |number| {
        let mut block = block.clone();
        block[..8].copy_from_slice(&number.to_le_bytes());
        Bytes::from(block)
    });
    let whole = std::iter::once(Bytes::from(start)).chain(blocks);
    let body = Body::wrap_stream(stream::iter(whole.map(Ok::<_, std::io::Error>)));
    let file = Part::stream_with_length(body, length).file_name(STYLE);
    let request = client.request(Method::POST, "/loras");
    let request = request.multipart(Form::new().part("file", file));
    client.send(request).await.expect(201)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_runs_that_need_a_lora_cause_one_copy() {
    let fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .max_in_flight(16)
        .on_s3()
        .start()
        .await;
    let (client, loras) = (&fleet.client, &fleet.backend().loras);
    let lora = upload_large(client, size_mib()).await;
    let size = lora["file_size"].as_u64().expect("a size");
    // Nobody is done before everybody waits.
    let gate = fleet.s3_gate();
    gate.hold_bodies_after(Some(MIB));
    let before = gate.sent_bytes();
    let workflow = client.create_workflow(&with_lora(STYLE), false).await;
    let mut runs = Vec::new();
    for seed in 0..RUNS {
        runs.push(client.start_run(&workflow, &json!({"seed": seed})).await);
    }
    wait_until("many runs to wait for the copy", PATIENCE, async || {
        fleet.database.count(WAITING).await >= 16 && fleet.database.count(WORKING).await == 2
    })
    .await;
    assert_eq!(parts_in(loras).len(), 1);
    assert_eq!(listed(fleet.backend()).await, Vec::<String>::new());

    gate.hold_bodies_after(None);

    let patience = PATIENCE * 2;
    for run in fleet.await_all(&runs, patience).await {
        assert_eq!(run["status"], "completed", "{run}");
    }
    let sent = gate.sent_bytes() - before;
    assert!(
        (size..size + size / 2).contains(&sent),
        "{sent} bytes were read for one copy of {size}"
    );
    let path = lora["comfyui_path"].as_str().expect("a path");
    assert_eq!(names_in(loras), [path]);
    let copy = std::fs::read(loras.join(path)).expect("it is there");
    assert_eq!(lora["sha256"], sha256_of(&copy).to_string());
    fleet.assert_done_once(&runs, patience).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_copy_leaves_nothing_to_load() {
    let workshop = Workshop::on_s3().await;
    let file = weights(4 * 1024 * 1024, 1);
    workshop.upload(STYLE, &file).await;
    let (backend, gate) = (&workshop.site.backend, workshop.site.s3_gate());
    gate.hold_bodies_after(Some(2 * MIB));
    let mut worker = workshop.worker();
    let run = workshop.start(STYLE, 1).await;
    let begun = gate.sent_bytes();
    workshop.until_copying().await;
    wait_until("half of the bytes", PATIENCE, async || {
        gate.sent_bytes() - begun >= 2 * MIB
    })
    .await;

    worker.kill();

    assert_eq!(listed(backend).await, Vec::<String>::new());
    assert_eq!(backend.prompts().await, 0);
    gate.hold_bodies_after(None);
    let _next = workshop.worker();
    let over = workshop.client.finished_run(&run).await;
    assert_eq!(over["status"], "completed", "{over}");
    assert_eq!(over["attempt"], 2, "{over}");
    workshop.assert_installed(STYLE, &file);
    let path = format!("user-{}/{STYLE}", workshop.client.person().id);
    assert_eq!(listed(backend).await, [path]);
}

/// Which of these workers makes the one copy that is being made: it keeps the file open, while the
/// others open it for a moment to see whether it is still being written.
async fn copier(workshop: &Workshop, workers: &[Process]) -> usize {
    let parts = parts_in(&workshop.site.backend.loras);
    assert_eq!(parts.len(), 1, "{parts:?}");
    let holds = |worker: &Process| {
        let open = std::fs::read_dir(format!("/proc/{}/fd", worker.pid()));
        let mut open = open.expect("it is running").flatten();
        open.any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path == parts[0]))
    };
    let mut holders = Vec::new();
    wait_until("one worker to hold the file", PATIENCE, async || {
        let numbers = 0..workers.len();
        holders = numbers.filter(|number| holds(&workers[*number])).collect();
        holders.len() == 1
    })
    .await;
    holders[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_takes_a_copy_over_from_one_that_was_killed() {
    let workshop = Workshop::on_s3().await;
    let file = weights(4 * 1024 * 1024, 2);
    workshop.upload(STYLE, &file).await;
    let gate = workshop.site.s3_gate();
    gate.hold_bodies_after(Some(MIB));
    // Each of them takes some of many.
    let setup = workshop.worker_setup().with("ATELIER_MAX_IN_FLIGHT", "16");
    let mut workers = [setup.spawn(), setup.spawn()];
    for worker in &mut workers {
        worker.wait_for_line(PATIENCE, |line| {
            line.contains("a backend answers").then_some(())
        });
    }
    let mut runs = Vec::new();
    for seed in 0..16 {
        runs.push(workshop.start(STYLE, seed).await);
    }
    let database = &workshop.site.database;
    wait_until("both workers to wait", PATIENCE, async || {
        database.count(WORKING).await == 2
    })
    .await;

    workshop.until_copying().await;

    let copying = copier(&workshop, &workers).await;
    workers[copying].kill();
    gate.hold_bodies_after(None);

    for run in runs {
        let over = workshop.client.finished_run(&run).await;
        assert_eq!(over["status"], "completed", "{over}");
    }
    workshop.assert_installed(STYLE, &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_breaks_off_is_taken_up_where_it_was() {
    let workshop = Workshop::on_s3().await;
    let file = weights(4 * 1024 * 1024, 3);
    workshop.upload(STYLE, &file).await;
    let gate = workshop.site.s3_gate();
    let before = gate.sent_bytes();
    gate.cut_bodies_after(1_300_000, 2);
    let _worker = workshop.worker();

    workshop.run_well(STYLE, 1).await;

    assert_eq!(gate.cuts_left(), 0);
    let (sent, size) = (gate.sent_bytes() - before, file.bytes.len() as u64);
    assert!(sent < 2 * size, "{sent} bytes were read for {size}");
    let path = workshop.folder().join(STYLE);
    assert_is(&path, &file);
}

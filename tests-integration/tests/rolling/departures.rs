//! Processes that are told to stop, and what becomes of everything that is
//! under way.

use std::time::{Duration, Instant};

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::event_stream::Stream;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::process::Process;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::uploads::Upload;
use atelier_tests_integration::workflows::without_lora;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, block_in_place};

use crate::ATELIER;

/// How long a process may take to end.
const LIMIT: Duration = Duration::from_secs(10);

/// How long something may take that has nothing to do with time, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A site on S3 whose backend takes a tenth of a second for a step.
async fn slow_site() -> Site {
    let backend =
        Backend::start_with(|options| options.step_delay = Duration::from_millis(100)).await;
    Site::with_backend(ATELIER, backend).await.on_s3()
}

/// Starts a run that samples for so many tenths of a second, and waits until it does.
async fn executing(client: &Client, tenths: u32) -> String {
    let workflow = client.create_workflow(&without_lora(), false).await;
    let run = client.start_run(&workflow, &json!({"steps": tenths})).await;
    until_phase(client, &run, "executing").await;
    run
}

async fn until_phase(client: &Client, run: &str, phase: &str) {
    wait_until(phase, PATIENCE, async || {
        client.get(&format!("/runs/{run}")).await.expect(200)["phase"] == phase
    })
    .await;
}

/// The status of `GET /readyz` over a new connection; `None` if nobody listens.
async fn readiness(server: &Server) -> Option<u16> {
    let anonymous = server.anonymous();
    let request = anonymous.at(Method::GET, "/readyz");
    let answer = anonymous.attempt(request).await.ok()?;
    Some(answer.status.as_u16())
}

async fn until_unready(server: &Server) {
    wait_until("the server to be unready", PATIENCE, async || {
        readiness(server).await == Some(503)
    })
    .await;
}

/// Waits for the end of a process and says how long that took.
fn end_of(process: &mut Process, begun: Instant) -> (Option<i32>, Duration) {
    let status = block_in_place(|| process.wait(PATIENCE));
    (status.code(), begun.elapsed())
}

/// Sends the first half of a form with a file, and gives all that is answered.
async fn hanging_upload(client: &Client, server: &Server) -> JoinHandle<String> {
    let head = format!(
        "POST /api/v1/comfyui/loras HTTP/1.1\r\nHost: atelier\r\nAuthorization: Bearer {}\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 50000\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"half.safetensors\"\r\n\r\n",
        client.person().token
    );
    let address = server.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let file = LoraFile::small(9);
    stream
        .write_all(file.piece(0, 3_000))
        .await
        .expect("it reads");
    wait_until("the upload to begin", PATIENCE, async || {
        let loras = client.get("/loras").await.expect(200);
        loras["items"][0]["status"] == "uploading"
    })
    .await;
    tokio::spawn(async move { rest_of(&mut stream).await })
}

async fn rest_of(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer takes nothing away from it.
    drop(stream.read_to_end(&mut answer).await);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Begins to read a LoRA that the object store does not give.
async fn hanging_download(site: &Site, client: &Client) -> JoinHandle<bool> {
    let lora = client.add_lora("held.safetensors", 1).await;
    let path = format!("/loras/{}/content", lora["id"].as_str().expect("an id"));
    site.s3_gate().hold_gets(true);
    let client = client.clone();
    tokio::spawn(async move {
        let request = client.request(Method::GET, &path);
        client.attempt(request).await.is_ok()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_stop_ends_in_time_whatever_is_under_way() {
    let site = slow_site().await;
    // Nobody waits for the end of this lease.
    let setup = site.setup().with("ATELIER_LEASE_SECONDS", "3600");
    let mut server = setup.start();
    let client = server.client();
    let run = executing(&client, 100).await;
    let mut stream = Stream::open(&client, &run, 0).await;
    let poll = tokio::spawn({
        let (client, path) = (client.clone(), format!("/runs/{run}?wait=60"));
        async move { (client.get(&path).await, Instant::now()) }
    });
    let upload = hanging_upload(&client, &server).await;
    let file = LoraFile::small(7);
    let pieces = Upload::begin(&client, "pieces.safetensors", file.bytes.len()).await;
    let mut patch = pieces.begin_patch(&server.url, 0, &file.bytes, 2_000).await;
    let download = hanging_download(&site, &client).await;

    let begun = Instant::now();
    server.process.signal(Signal::TERM);
    until_unready(&server).await;
    let unready_after = begun.elapsed();
    let mut seen = Vec::new();
    while let Some(event) = stream.next().await {
        seen.extend(event.id);
    }
    let streamed_for = begun.elapsed();
    let (polled, at) = poll.await.expect("it is answered");
    let polled_for = at.duration_since(begun);
    let patched = rest_of(&mut patch).await;
    let uploaded = upload.await.expect("it is answered");
    let (code, ended_after) = end_of(&mut server.process, begun);
    println!(
        "unready after {unready_after:?}, poll {polled_for:?}, stream {streamed_for:?}, end {ended_after:?}"
    );

    assert_eq!(code, Some(0), "{}", server.process.printed());
    assert!(ended_after < LIMIT, "{ended_after:?}");
    assert!(polled_for < LIMIT / 2 && streamed_for < LIMIT / 2);
    let polled = polled.expect(200);
    assert!(
        ["running", "pending"].contains(&polled["status"].as_str().expect("a status")),
        "{polled}"
    );
    assert!(
        stream
            .retry()
            .is_some_and(|retry| retry < Duration::from_secs(2))
    );
    assert!(uploaded.starts_with("HTTP/1.1 503 "), "{uploaded}");
    assert!(patched.starts_with("HTTP/1.1 503 "), "{patched}");
    assert!(!download.await.expect("it ends"), "nobody gave the bytes");
    site.s3_gate().hold_gets(false);

    // And all of it goes on elsewhere.
    let next = setup.start();
    let client = client.at_server(&next.url);
    assert_eq!(pieces.through(&client).offset().await, 2_000);
    client
        .upload_lora("half.safetensors", LoraFile::small(9).bytes)
        .await
        .expect(201);
    let known = seen.last().copied().unwrap_or_default();
    let rest = Stream::open(&client, &run, known).await.rest().await;
    assert_eq!(rest.last().expect("an end").kind, "end", "{rest:?}");
    let over = client.finished_run(&run).await;
    assert_eq!(
        (&over["status"], &over["attempt"]),
        (&json!("completed"), &json!(1)),
        "{over}"
    );
    assert_eq!(site.backend.executions(&run), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_server_at_once() {
    let site = slow_site().await;
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut server = site.serve();
        let client = server.client();
        let _download = hanging_download(&site, &client).await;
        server.process.signal(Signal::TERM);
        until_unready(&server).await;

        let begun = Instant::now();
        server.process.signal(signal);
        let (ended, after) = end_of(&mut server.process, begun);

        println!("end {after:?} after the second signal");
        assert_eq!(ended, Some(code), "{}", server.process.printed());
        assert!(after < Duration::from_secs(2), "{after:?}");
        site.s3_gate().hold_gets(false);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_presses_ctrl_c_does_not_wait_for_balancers() {
    let site = slow_site().await;
    let mut server = site.serve();
    server.client().get("/workflows").await.expect(200);

    let begun = Instant::now();
    server.process.signal(Signal::INT);
    let (ended, after) = end_of(&mut server.process, begun);

    println!("end {after:?} after Ctrl-C");
    assert_eq!(ended, Some(0), "{}", server.process.printed());
    // Less than the notice that balancers get.
    assert!(after < Duration::from_secs(2), "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_in_time_though_the_store_takes_nothing() {
    let site = slow_site().await;
    let server = site.serve_without_worker();
    let setup = site
        .setup()
        .with("ATELIER_LEASE_SECONDS", "3600")
        .arguments(&["worker"]);
    let mut worker = setup.spawn();
    let client = server.client();
    let workflow = client.create_workflow(&without_lora(), false).await;
    site.s3_gate().hold_puts(true);
    let run = client.start_run(&workflow, &json!({"steps": 1})).await;
    until_phase(&client, &run, "storing_outputs").await;

    let begun = Instant::now();
    worker.signal(Signal::TERM);
    let (code, after) = end_of(&mut worker, begun);
    println!("end {after:?} with outputs on their way");

    assert_eq!(code, Some(0), "{}", worker.printed());
    assert!(after < LIMIT, "{after:?}");
    site.s3_gate().hold_puts(false);
    let _next = setup.spawn();
    let over = client.finished_run(&run).await;
    assert_eq!(
        (&over["status"], &over["attempt"]),
        (&json!("completed"), &json!(1)),
        "{over}"
    );
    assert_eq!(site.backend.executions(&run), 1);
}

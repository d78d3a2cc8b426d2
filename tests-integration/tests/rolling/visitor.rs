//! Somebody who works: creates, uploads, runs and watches, again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use atelier_testkit::build::sha256_of;
use atelier_tests_integration::client::{Answer, Client, id_of};
use atelier_tests_integration::event_stream::{Event, Stream};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::people::Person;
use atelier_tests_integration::uploads;
use atelier_tests_integration::workflows::with_lora;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::balancer::{Balancer, count};

/// How long one thing may take, with every retry, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// How soon something is tried again.
const PULSE: Duration = Duration::from_millis(50);

/// What the server says at the beginning of each stream.
const USUAL_RETRY: Duration = Duration::from_secs(2);

/// Whether a request may be sent again after its connection was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    /// It may: it changes nothing, or is carried out once.
    Safe,
    /// Only if it was refused.
    Unsafe,
}

/// What somebody did.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) runs: Vec<String>,
    pub(crate) workflows: usize,
    pub(crate) loras: usize,
}

/// Somebody, behind a balancer.
pub(crate) struct Visitor {
    client: Client,
    balancer: Arc<Balancer>,
    work: Work,
}

impl Visitor {
    pub(crate) fn new(balancer: Arc<Balancer>) -> Self {
        Self {
            client: Client::new(&balancer.next(), Some(Person::new())),
            balancer,
            work: Work::default(),
        }
    }

    /// Works until it is over, and at least once.
    pub(crate) async fn work(mut self, over: watch::Receiver<bool>) -> Work {
        let mut number = 0;
        loop {
            self.round(number).await;
            number += 1;
            if *over.borrow() {
                return self.work;
            }
        }
    }

    async fn round(&mut self, number: usize) {
        let fill = u8::try_from(number % 200).expect("it is below 200");
        let lora = format!("whole-{number}.safetensors");
        self.upload_whole(&lora, fill).await;
        if number.is_multiple_of(3) {
            let filename = format!("pieces-{number}.safetensors");
            self.upload_in_pieces(&filename, fill).await;
        }
        let workflow = self.create_workflow(&with_lora(&lora)).await;
        let run = self.start_run(&workflow, number).await;
        let events = self.watch(&run).await;
        assert_whole(&run, &events);
        self.look_at(&run).await;
        self.work.runs.push(run);
    }

    /// Sends a request until somebody takes it.
    async fn send(&self, repeat: Repeat, request: impl Fn(&Client) -> RequestBuilder) -> Answer {
        let mut tries = Tries::new("a request");
        loop {
            tries.next().await;
            let client = self.client.at_server(&self.balancer.next());
            let sent = client.attempt(request(&client)).await;
            if let Some(answer) = self.judge(sent, repeat, &request) {
                return answer;
            }
        }
    }

    /// The answer, unless the request is to be sent again.
    fn judge(
        &self,
        sent: Result<Answer, reqwest::Error>,
        repeat: Repeat,
        request: &impl Fn(&Client) -> RequestBuilder,
    ) -> Option<Answer> {
        let met = &self.balancer.met;
        match sent {
            Ok(answer) if answer.status == 503 => {
                assert!(!answer.header("retry-after").is_empty());
                count(&met.unavailable);
                None
            }
            Ok(answer) => Some(answer),
            Err(error) if error.is_connect() => {
                count(&met.refused);
                None
            }
            Err(error) => {
                let sent = request(&self.client).build();
                assert_eq!(repeat, Repeat::Safe, "cut off: {error:?} of {sent:?}");
                met.cut_off(&error);
                None
            }
        }
    }

    async fn create_workflow(&mut self, graph: &Value) -> String {
        let body = json!({"name": "A workflow", "workflow_json": graph});
        let created = self
            .send(Repeat::Unsafe, |client| {
                client.request(Method::POST, "/workflows").json(&body)
            })
            .await;
        self.work.workflows += 1;
        id_of(&created.expect(201))
    }

    /// A file that is there with these very bytes is taken again.
    async fn upload_whole(&mut self, filename: &str, fill: u8) {
        let file = LoraFile::small(fill);
        let uploaded = self
            .send(Repeat::Safe, |client| {
                let part = Part::bytes(file.bytes.clone()).file_name(filename.to_owned());
                let form = Form::new().part("file", part);
                client.request(Method::POST, "/loras").multipart(form)
            })
            .await;
        assert!(uploaded.status.is_success(), "{}", uploaded.text());
        file.assert_is(&uploaded.json());
        self.work.loras += 1;
    }

    async fn upload_in_pieces(&mut self, filename: &str, fill: u8) {
        let file = LoraFile::small(fill);
        let metadata = format!("filename {}", BASE64_STANDARD.encode(filename));
        let created = self
            .send(Repeat::Unsafe, |client| {
                uploads::request(client, Method::POST, "")
                    .header("upload-length", file.bytes.len())
                    .header("upload-metadata", &metadata)
            })
            .await;
        assert_eq!(created.status, 201, "{}", created.text());
        let path = created.header("location");
        let mut tries = Tries::new("an upload in pieces");
        loop {
            tries.next().await;
            let offset = self.offset(path).await;
            if offset == file.bytes.len() {
                break;
            }
            // Whatever comes of it: where it stands is asked again.
            let piece = file.piece(offset, 2_500).to_vec();
            let client = self.client.at_server(&self.balancer.next());
            let patch = tus(&client, Method::PATCH, path)
                .header("content-type", "application/offset+octet-stream")
                .header("upload-offset", offset)
                .body(piece);
            let sent = client.attempt(patch).await;
            let again = |client: &Client| tus(client, Method::PATCH, path);
            if let Some(answer) = self.judge(sent, Repeat::Safe, &again) {
                assert_eq!(answer.status, 204, "{}", answer.text());
            }
        }
        self.await_lora(&path.replace("/uploads", ""), &file).await;
        self.work.loras += 1;
    }

    async fn offset(&self, path: &str) -> usize {
        let head = self
            .send(Repeat::Safe, |client| tus(client, Method::HEAD, path))
            .await;
        assert!(head.status.is_success(), "{}", head.status);
        uploads::offset_of(&head)
    }

    async fn await_lora(&self, path: &str, file: &LoraFile) {
        let mut tries = Tries::new("a LoRA out of pieces");
        loop {
            tries.next().await;
            let lora = self.get(path).await;
            if lora["status"] != "uploading" {
                return file.assert_is(&lora);
            }
        }
    }

    async fn start_run(&self, workflow: &str, number: usize) -> String {
        let path = format!("/workflows/{workflow}/run");
        let body = json!({"input_params": {"seed": number}});
        let key = format!("{workflow}-{number}");
        let started = self
            .send(Repeat::Safe, |client| {
                let request = client.request(Method::POST, &path);
                request.header("idempotency-key", &key).json(&body)
            })
            .await;
        id_of(&started.expect(202))
    }

    /// Follows a run to its end, over as many streams as it takes.
    async fn watch(&self, run: &str) -> Vec<Event> {
        let mut events: Vec<Event> = Vec::new();
        let mut tries = Tries::new("a run");
        loop {
            tries.next().await;
            let known = events.iter().rev().find_map(|event| event.id);
            let Some(response) = self.open(run, known.unwrap_or_default()).await else {
                continue;
            };
            if response.status() == 204 {
                return events;
            }
            let mut stream = Stream::reading(response);
            while let Some(event) = stream.next().await {
                if event.kind == "end" {
                    return events;
                }
                events.push(event);
            }
            let retry = stream
                .retry()
                .expect("a stream that ends says when to come back");
            assert!(retry < USUAL_RETRY, "{retry:?}");
            count(&self.balancer.met.streams);
        }
    }

    async fn open(&self, run: &str, known: u64) -> Option<Response> {
        let client = self.client.at_server(&self.balancer.next());
        let request = client
            .request(Method::GET, &format!("/runs/{run}/events"))
            .header("last-event-id", known);
        let met = &self.balancer.met;
        match request.send().await {
            Ok(response) if response.status() == 503 => {
                count(&met.unavailable);
                None
            }
            Ok(response) => Some(response),
            Err(error) if error.is_connect() => {
                count(&met.refused);
                None
            }
            Err(error) => {
                met.cut_off(&error);
                None
            }
        }
    }

    /// The run is completed, at its first attempt, and its picture is there.
    async fn look_at(&self, run: &str) {
        let run = self.get(&format!("/api/v1/comfyui/runs/{run}")).await;
        assert_eq!(run["status"], "completed", "{run}");
        assert_eq!(run["attempt"], 1, "{run}");
        let outputs = run["outputs"].as_array().expect("a list");
        assert_eq!(outputs.len(), 1, "{run}");
        let url = outputs[0]["url"].as_str().expect("an address");
        let picture = self
            .send(Repeat::Safe, |client| client.at(Method::GET, url))
            .await;
        assert_eq!(picture.status, 200, "{}", picture.text());
        assert_eq!(outputs[0]["sha256"], sha256_of(&picture.bytes).to_string());
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self
            .send(Repeat::Safe, |client| client.at(Method::GET, path))
            .await;
        answer.expect(200)
    }
}

fn tus(client: &Client, method: Method, path: &str) -> RequestBuilder {
    client.at(method, path).header("tus-resumable", "1.0.0")
}

/// All events, each once and in order, to the last.
fn assert_whole(run: &str, events: &[Event]) {
    let ids: Vec<Option<u64>> = events.iter().map(|event| event.id).collect();
    let expected: Vec<Option<u64>> = (1..).take(events.len()).map(Some).collect();
    assert_eq!(ids, expected, "{run}: {events:?}");
    let last = events.last().expect("there are events");
    assert_eq!(last.data["status"], "completed", "{run}: {events:?}");
}

/// Paces what is tried again, and gives up at the end of all patience.
struct Tries {
    what: &'static str,
    pulse: Interval,
    until: Instant,
}

impl Tries {
    fn new(what: &'static str) -> Self {
        let mut pulse = interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            what,
            pulse,
            until: Instant::now() + PATIENCE,
        }
    }

    /// The first comes at once.
    async fn next(&mut self) {
        self.pulse.tick().await;
        assert!(Instant::now() < self.until, "{}: not in time", self.what);
    }
}

/// What was met on the way.
pub(crate) fn told(balancer: &Balancer) -> String {
    let met = &balancer.met;
    let of = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let cut = met.cut.lock().expect("nobody panics with it");
    format!(
        "{} refused, {} unavailable, {} streams ended early, {} cut off: {cut:#?}",
        of(&met.refused),
        of(&met.unavailable),
        of(&met.streams),
        cut.len(),
    )
}

//! What Atelier adds to a trivial run, and how much of ComfyUI's own pace is left: against the same prompts sent straight
//! to the same simulator, on a durable database, with the whole of client, server, database and backend on one machine.
//!
//! `cargo bench -p atelier-tests-integration --bench run_rate` prints both for a simulator that takes as long as the real
//! server for a trivial prompt, and for one that takes no time at all.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark stops at the first surprise"
)]

mod rows;

use std::time::Duration;

use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::database::StoppablePostgres;
use atelier_tests_integration::scratch;
use atelier_tests_integration::server::ServerSetup;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use rows::record;

const PROGRAM: &str = env!("CARGO_BIN_EXE_atelier-under-test");

/// What the real server takes for a trivial prompt when it works off its queue (`reference/comfyui/PROTOCOL.md`
/// section 13: 209 to 239 prompts a second).
const REAL_PACE: Duration = Duration::from_micros(4_300);

const SEQUENTIAL: usize = 100;
const CONCURRENT: usize = 400;
const CLIENTS: usize = 16;

fn graph() -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "trivial", "images": ["1", 0]}}
    })
}

#[tokio::main(worker_threads = 1, flavor = "multi_thread")]
async fn main() {
    for (pace, name) in [
        (REAL_PACE, "at the real server's pace"),
        (Duration::ZERO, "without any pace"),
    ] {
        measure(pace, name).await;
    }
}

async fn measure(pace: Duration, name: &str) {
    let postgres = StoppablePostgres::start(PROGRAM).await;
    let backend = Backend::start_with(|options| options.prompt_delay = pace).await;
    let objects = scratch::folder("objects");
    let setup = ServerSetup::new(
        PROGRAM,
        postgres.database(),
        &objects,
        &backend.url(),
        &backend.loras,
    )
    .with("ATELIER_RATE_LIMIT", "off")
    // As quiet as it goes, but for the line that says where it listens.
    .with("RUST_LOG", "warn,atelier::server=info");
    let server = setup.start();
    let client = server.client();
    let workflow = client.create_workflow(&graph(), false).await;
    let through = Through { client, workflow };
    let straight = Straight {
        client: reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client without TLS settings"),
        url: backend.url(),
    };
    for color in 0..20 {
        through.run(color).await;
        straight.run(1_000_000 + color).await;
    }

    let (mut straight_times, mut through_times) = (Vec::new(), Vec::new());
    for number in 0..SEQUENTIAL {
        straight_times.push(straight.run(2_000_000 + number).await);
        through_times.push(through.run(3_000_000 + number).await);
    }
    let straight_rate = rate(&straight, 4_000_000).await;
    let through_rate = rate(&through, 5_000_000).await;
    let added = at(&mut through_times, 0.5) - at(&mut straight_times, 0.5);
    let one = format!(
        "{name}: {:.2} ms straight, {:.2} ms through Atelier (95 % within {:.2})",
        at(&mut straight_times, 0.5),
        at(&mut through_times, 0.5),
        at(&mut through_times, 0.95),
    );
    let many = format!(
        "{name}, {CONCURRENT} runs: {straight_rate:.0}/s straight, {through_rate:.0}/s through Atelier"
    );
    let suffix = if pace.is_zero() { "-unpaced" } else { "" };
    record(&format!("run-adds{suffix}"), added, &one);
    record(
        &format!("runs-rate{suffix}"),
        through_rate / straight_rate,
        &many,
    );
}

/// A quantile, in milliseconds.
fn at(times: &mut [Duration], quantile: f64) -> f64 {
    times.sort_unstable();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "some hundred times"
    )]
    let index = (times.len() as f64 * quantile) as usize;
    times[index].as_secs_f64() * 1e3
}

/// One way to have a trivial prompt executed.
trait Way: Clone + Send + Sync + 'static {
    /// Until it is known to be done.
    fn run(&self, color: usize) -> impl Future<Output = Duration> + Send;
}

async fn rate(way: &impl Way, first: usize) -> f64 {
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let way = way.clone();
        clients.spawn(async move {
            for number in (client..CONCURRENT).step_by(CLIENTS) {
                way.run(first + number).await;
            }
        });
    }
    clients.join_all().await;
    f64::from(u32::try_from(CONCURRENT).expect("some hundred")) / begun.elapsed().as_secs_f64()
}

#[derive(Clone)]
struct Through {
    client: Client,
    workflow: String,
}

impl Way for Through {
    async fn run(&self, color: usize) -> Duration {
        let begun = Instant::now();
        let params = json!({"input_params": {"color": color}});
        let started = self
            .client
            .post(&format!("/workflows/{}/run", self.workflow), &params)
            .await
            .expect(202);
        let run = id_of(&started);
        loop {
            let run = self
                .client
                .get(&format!("/runs/{run}?wait=30"))
                .await
                .expect(200);
            match run["status"].as_str() {
                Some("completed") => return begun.elapsed(),
                Some("pending" | "running") => {}
                _ => panic!("{run}"),
            }
        }
    }
}

#[derive(Clone)]
struct Straight {
    client: reqwest::Client,
    url: String,
}

impl Straight {
    async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("it answers");
        let bytes = answer.bytes().await.expect("a whole body");
        serde_json::from_slice(&bytes).expect("JSON")
    }
}

impl Way for Straight {
    /// A client that asks for the history each millisecond: the quickest way without a socket.
    async fn run(&self, color: usize) -> Duration {
        let begun = Instant::now();
        let id = Uuid::from_u128(u128::try_from(color).expect("it fits")).to_string();
        let mut prompt = graph();
        prompt["1"]["inputs"]["color"] = json!(color);
        prompt["2"]["inputs"]["filename_prefix"] = json!(format!("trivial-{color}"));
        let body = json!({"prompt": prompt, "prompt_id": id, "client_id": "straight"});
        self.ask(Method::POST, "/prompt", Some(body)).await;
        loop {
            let history = self.ask(Method::GET, &format!("/history/{id}"), None).await;
            if history.get(&id).is_some() {
                return begun.elapsed();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

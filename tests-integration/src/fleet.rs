//! Several workers and several backends around one database: what is taken apart while it works.

mod verdict;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use atelier_comfyui_sim::SimulatorOptions;
use atelier_s3_double::{Gate, S3Double};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::backend::Backend;
use crate::client::Client;
use crate::database::Database;
use crate::process::Process;
use crate::scratch;
use crate::server::{Server, ServerSetup};
use crate::workflows::without_lora;

/// How many runs are submitted at the same time.
const SUBMITTERS: usize = 8;

/// What a fleet is to be made of; [`start`](Self::start) makes it.
#[derive(Debug)]
pub struct FleetPlan {
    program: String,
    backends: usize,
    workers: usize,
    max_in_flight: usize,
    step_delay: Duration,
    restart_downtime: Option<Duration>,
    on_s3: bool,
    database: Option<Database>,
    variables: Vec<(String, String)>,
}

impl FleetPlan {
    /// One backend and one worker with a lease of three seconds; `program` is the server.
    pub fn new(program: &str) -> Self {
        let variables = [
            ("ATELIER_BACKEND_PATIENCE_SECONDS", "20"),
            ("ATELIER_LEASE_SECONDS", "3"),
            ("ATELIER_MAX_PENDING_RUNS", "2000"),
        ];
        Self {
            program: program.to_owned(),
            backends: 1,
            workers: 1,
            max_in_flight: 4,
            step_delay: Duration::ZERO,
            restart_downtime: None,
            on_s3: false,
            database: None,
            variables: variables
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    /// So many backends.
    #[must_use]
    pub fn backends(mut self, count: usize) -> Self {
        self.backends = count;
        self
    }

    /// So many worker processes.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// How many runs a backend is given at once (4 unless told otherwise).
    #[must_use]
    pub fn max_in_flight(mut self, count: usize) -> Self {
        self.max_in_flight = count;
        self
    }

    /// How long a sampler step takes on every backend (no time unless told otherwise).
    #[must_use]
    pub fn step_delay(mut self, delay: Duration) -> Self {
        self.step_delay = delay;
        self
    }

    /// How long a backend that restarts, or goes away, is gone.
    #[must_use]
    pub fn restart_downtime(mut self, downtime: Duration) -> Self {
        self.restart_downtime = Some(downtime);
        self
    }

    /// Keeps the objects in an S3 server instead of a folder.
    #[must_use]
    pub fn on_s3(mut self) -> Self {
        self.on_s3 = true;
        self
    }

    /// Uses this database instead of a new one in the cluster of this test process.
    #[must_use]
    pub fn database(mut self, database: Database) -> Self {
        self.database = Some(database);
        self
    }

    /// Sets, or replaces, a variable of the server and the workers.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts everything; returns when the server listens.
    pub async fn start(self) -> Fleet {
        let database = match &self.database {
            Some(database) => database.clone(),
            None => Database::new(&self.program).await,
        };
        let mut backends = Vec::new();
        for _ in 0..self.backends {
            backends.push(Backend::start_with(|options| self.tell(options)).await);
        }
        let s3 = self
            .on_s3
            .then(|| S3Double::start().expect("there is a free port"));
        let setup = self.setup(&database, &backends, s3.as_ref());
        let server = setup.clone().arguments(&["serve", "--no-worker"]).start();
        let mut fleet = Fleet {
            client: server.client(),
            server,
            workers: (0..self.workers).map(|_| None).collect(),
            setup: setup.arguments(&["worker"]),
            backends,
            s3,
            database,
        };
        for index in 0..self.workers {
            fleet.start_worker(index);
        }
        fleet
    }

    fn tell(&self, options: &mut SimulatorOptions) {
        options.step_delay = self.step_delay;
        options.restart_downtime = self.restart_downtime.unwrap_or(options.restart_downtime);
    }

    fn setup(
        &self,
        database: &Database,
        backends: &[Backend],
        s3: Option<&S3Double>,
    ) -> ServerSetup {
        let objects = scratch::folder("objects");
        let first = backends.first().expect("a fleet has a backend");
        let mut setup = ServerSetup::new(
            &self.program,
            database,
            &objects,
            &first.url(),
            &first.loras,
        )
        .with("ATELIER_CLEANING_SECONDS", "1")
        .with("ATELIER_MAX_IN_FLIGHT", self.max_in_flight.to_string());
        if backends.len() > 1 {
            let file = self.configuration(backends);
            setup = setup
                .with("ATELIER_CONFIG", file.display().to_string())
                // Nothing counts as not set.
                .with("COMFYUI_URL", "")
                .with("COMFYUI_LORAS_DIR", "")
                .with("ATELIER_MAX_IN_FLIGHT", "");
        }
        if let Some(s3) = s3 {
            setup = setup
                .with("BLOB_URL", format!("s3://{}", s3.bucket()))
                .with("MINIO_ENDPOINT", s3.endpoint())
                .with("MINIO_ACCESS_KEY", s3.access_key())
                .with("MINIO_SECRET_KEY", s3.secret_key());
        }
        self.variables
            .iter()
            .fold(setup, |setup, (name, value)| setup.with(name, value))
    }

    /// Writes the configuration file with these backends, named `gpu-1`, `gpu-2` and so on.
    fn configuration(&self, backends: &[Backend]) -> PathBuf {
        let mut text = String::new();
        for (index, backend) in backends.iter().enumerate() {
            writeln!(
                text,
                "[[backends]]\nname = \"{}\"\nurl = \"{}\"\nloras_dir = '{}'\nmax_in_flight = {}\n",
                backend_name(index),
                backend.url(),
                backend.loras.display(),
                self.max_in_flight,
            )
            .expect("a text takes everything");
        }
        let file = scratch::folder("configuration").join("atelier.toml");
        std::fs::write(&file, text).expect("the folder is there");
        file
    }
}

/// What the configuration of a fleet of several calls the backend of this index.
pub fn backend_name(index: usize) -> String {
    format!("gpu-{}", index + 1)
}

/// A server without a worker, workers that may be killed, and backends that may fail.
#[derive(Debug)]
pub struct Fleet {
    // In the order in which they end: whoever asks goes before whoever answers.
    workers: Vec<Option<Process>>,
    /// The server that takes the requests; it works on no run.
    pub server: Server,
    /// Somebody at the server, whose runs [`submit`](Self::submit) makes.
    pub client: Client,
    /// The backends.
    pub backends: Vec<Backend>,
    /// The database.
    pub database: Database,
    s3: Option<S3Double>,
    setup: ServerSetup,
}

impl Fleet {
    /// The switches of the S3 server.
    pub fn s3_gate(&self) -> &Gate {
        self.s3.as_ref().expect("the fleet is on S3").gate()
    }

    /// The only backend.
    pub fn backend(&self) -> &Backend {
        assert_eq!(self.backends.len(), 1, "there is more than one backend");
        &self.backends[0]
    }

    /// Starts the worker of this index, which is not running.
    pub fn start_worker(&mut self, index: usize) {
        let slot = &mut self.workers[index];
        assert!(slot.is_none(), "the worker is running");
        *slot = Some(self.setup.spawn());
    }

    /// Ends a worker at once, as a crash would (`SIGKILL`).
    pub fn kill_worker(&mut self, index: usize) {
        let mut worker = self.workers[index].take().expect("the worker is running");
        worker.kill();
    }

    /// How many workers there are, running or not.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Starts so many runs of four sampler steps each, and gives their ids in no order.
    ///
    /// Every one has a seed of its own: ComfyUI's cache takes no work off anybody.
    pub async fn submit(&self, count: usize) -> Vec<String> {
        self.submit_as(&self.client, count, &json!({})).await
    }

    /// The same as somebody, with further parameters, such as `{"steps": 100}`.
    pub async fn submit_as(&self, client: &Client, count: usize, params: &Value) -> Vec<String> {
        let workflow = client.create_workflow(&without_lora(), false).await;
        let mut submitters = JoinSet::new();
        for submitter in 0..SUBMITTERS {
            let (client, workflow, params) = (client.clone(), workflow.clone(), params.clone());
            submitters.spawn(async move {
                let mut runs = Vec::new();
                for seed in (submitter..count).step_by(SUBMITTERS) {
                    let mut params = params.clone();
                    params["seed"] = json!(seed);
                    runs.push(client.start_run(&workflow, &params).await);
                }
                runs
            });
        }
        submitters.join_all().await.concat()
    }

    /// Waits until every run is over, however it ended; gives the runs.
    pub async fn await_all(&self, runs: &[String], patience: Duration) -> Vec<Value> {
        let deadline = Instant::now() + patience;
        let mut over = Vec::new();
        for run in runs {
            over.push(self.await_end(run, deadline).await);
        }
        over
    }

    async fn await_end(&self, run: &str, deadline: Instant) -> Value {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let path = format!("/runs/{run}?wait={}", left.as_secs().clamp(1, 10));
            let last = self.client.get(&path).await.expect(200);
            let status = last["status"].as_str().unwrap_or_default();
            if matches!(status, "completed" | "failed" | "cancelled") {
                return last;
            }
            assert!(
                Instant::now() < deadline,
                "a run is not over in time, {} are not: {last}\n{}",
                self.unfinished().await,
                self.last_words()
            );
        }
    }

    /// How many runs wait or are being worked on, by the database.
    pub async fn unfinished(&self) -> i64 {
        let sql =
            "select count(*) from comfyui_workflow_runs where status in ('pending', 'running')";
        self.database.count(sql).await
    }

    /// Lets time go by in which no run may fail.
    pub async fn none_fails_for(&self, duration: Duration) {
        let sql = "select coalesce(string_agg(concat_ws(' ', id, error_code, error_message), '; '), '') \
                   from comfyui_workflow_runs where status = 'failed'";
        throughout(duration, async || {
            let failed = self.database.text(sql).await;
            assert!(failed.is_empty(), "failed: {failed}\n{}", self.last_words());
        })
        .await;
    }

    /// How often a run began to be executed, on all backends and over all their restarts.
    pub fn executions(&self, run: &str) -> u32 {
        self.backends
            .iter()
            .map(|backend| backend.executions(run))
            .sum()
    }

    /// How often a run was taken in, by all backends and over all their restarts.
    pub fn submissions(&self, run: &str) -> u32 {
        self.backends
            .iter()
            .map(|backend| backend.submissions(run))
            .sum()
    }

    /// How many of these runs began to be executed.
    pub fn begun(&self, runs: &[String]) -> usize {
        runs.iter().filter(|run| self.executions(run) > 0).count()
    }

    /// The end of what the workers printed, for whoever reads about a test that failed.
    fn last_words(&self) -> String {
        let mut text = String::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let printed = worker.as_ref().map(Process::printed).unwrap_or_default();
            let lines: Vec<_> = printed.lines().collect();
            let last = lines.get(lines.len().saturating_sub(30)..);
            let last = last.unwrap_or_default().join("\n");
            writeln!(text, "--- worker {index} said last:\n{last}").expect("a text takes all");
        }
        text
    }
}

/// Lets time go by, in which it asks `check`, which is to panic if something is wrong, again and
/// again.
pub async fn throughout<F>(duration: Duration, mut check: F)
where
    F: AsyncFnMut(),
{
    let end = Instant::now() + duration;
    let mut pulse = interval(Duration::from_millis(20));
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        pulse.tick().await;
        check().await;
    }
}

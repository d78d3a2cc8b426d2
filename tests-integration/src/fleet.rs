//! Several workers and several backends around one database: what is taken apart while it works.

mod plan;
mod verdict;

pub use plan::FleetPlan;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use atelier_s3_double::{Gate, S3Double};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::backend::Backend;
use crate::client::Client;
use crate::database::Database;
use crate::process::Process;
use crate::server::{Server, ServerSetup};
use crate::workflows::without_lora;

/// How many runs are submitted at the same time.
const SUBMITTERS: usize = 8;

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

    /// Stops a worker in its tracks (`SIGSTOP`), as a machine does that hangs.
    pub fn freeze_worker(&self, index: usize) {
        self.worker(index).signal(Signal::STOP);
    }

    /// Lets a frozen worker go on (`SIGCONT`), as if no time had passed.
    pub fn thaw_worker(&self, index: usize) {
        self.worker(index).signal(Signal::CONT);
    }

    /// Asks a worker to stop (`SIGTERM`), as an update does, and waits for its end.
    pub fn retire_worker(&mut self, index: usize, patience: Duration) {
        let mut worker = self.workers[index].take().expect("the worker is running");
        let status = worker.terminate(patience);
        assert!(status.success(), "{status}; printed:\n{}", worker.printed());
    }

    /// Starts another server that takes requests, at an address of its own.
    pub fn another_server(&self) -> Server {
        let setup = self.setup.clone();
        setup.arguments(&["serve", "--no-worker"]).start()
    }

    fn worker(&self, index: usize) -> &Process {
        let worker = self.workers[index].as_ref();
        worker.expect("the worker is running")
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

    /// The ids of the runs that are completed, by the database.
    pub async fn completed(&self) -> HashSet<String> {
        let sql = "select coalesce(string_agg(id::text, ' '), '') \
                   from comfyui_workflow_runs where status = 'completed'";
        let ids = self.database.text(sql).await;
        ids.split_whitespace().map(str::to_owned).collect()
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

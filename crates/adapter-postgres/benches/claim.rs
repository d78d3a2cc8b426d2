//! What a claim costs, however many runs wait: 10 000, 100 000 and 1 000 000 of 1000 people, on a durable cluster, through
//! the adapter. The run is handed over again between two claims, which is not counted, so the queue stays as long.
//!
//! `cargo bench -p atelier-postgres --bench claim -- 10000` measures one size. With the environment variable
//! `ATELIER_BENCH_PLANS` set to anything, the plans of the statements inside of a claim are printed to standard error.
#![expect(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a bench reports to a terminal, and panics where it cannot go on"
)]

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

use atelier_domain::ports::{
    BackendReport, ClaimOutcome, ClaimRequest, ReleaseReason, RunQueue as _,
};
use atelier_local_postgres::{Cluster, ClusterOptions, Durability};
use atelier_postgres::{PgOptions, PgStore, migrate};
use atelier_testkit::build::a_claim;
use criterion::{BenchmarkId, Criterion};
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, Client, NoTls};

const PEOPLE: u32 = 1_000;
const SIZES: [u32; 3] = [10_000, 100_000, 1_000_000];
const BACKENDS: [&str; 3] = ["backend-1", "backend-2", "backend-3"];

/// A database in which so many runs wait, and three backends answer.
struct Waiting {
    cluster: Cluster,
    store: PgStore,
    /// What each claim took, for the median.
    taken: Mutex<Vec<Duration>>,
}

impl Waiting {
    async fn new(runtime: &tokio::runtime::Handle, runs: u32) -> Self {
        let options = ClusterOptions::in_temporary_directory().durability(Durability::Durable);
        let cluster =
            tokio::task::spawn_blocking(move || Cluster::start(&options, &mut |_| {}).unwrap())
                .await
                .unwrap();
        let url = cluster.url("postgres");
        migrate(&PgOptions::new(&url), None).await.unwrap();
        fill(&client(&url).await, runs).await;
        let options = PgOptions::new(cluster.url_for("atelier_app", "postgres"));
        let store = PgStore::connect(&options, runtime.clone()).unwrap();
        store.check().await.unwrap();
        let waiting = Self {
            cluster,
            store,
            taken: Mutex::default(),
        };
        waiting.tell_backends().await;
        waiting
    }

    /// As the workers do all the time: their word counts for seconds only.
    async fn tell_backends(&self) {
        for backend in BACKENDS {
            let report = BackendReport {
                backend: backend.to_owned(),
                worker: "worker of a bench".to_owned(),
                answers: true,
                max_in_flight: 2,
                foreign_prompts: 0,
                checkpoint: Some("sd15.safetensors".to_owned()),
            };
            self.store.queue().tell_backend(report).await.unwrap();
        }
    }

    /// The time that so many claims take, each by the next backend.
    async fn claims(&self, count: u64) -> Duration {
        let queue = self.store.queue();
        self.tell_backends().await;
        let mut told = Instant::now();
        let mut spent = Duration::ZERO;
        for backend in BACKENDS
            .into_iter()
            .cycle()
            .zip(0..count)
            .map(|pair| pair.0)
        {
            if told.elapsed() > Duration::from_secs(5) {
                self.tell_backends().await;
                told = Instant::now();
            }
            let request = ClaimRequest {
                max_in_flight: 2,
                affinity: Duration::from_secs(5),
                ..a_claim(backend)
            };
            let begun = Instant::now();
            let outcome = queue.claim(request).await.unwrap();
            let taken = begun.elapsed();
            self.taken.lock().unwrap().push(taken);
            spent += taken;
            let ClaimOutcome::Claimed(run) = outcome else {
                unreachable!("runs wait and every backend is idle: {outcome:?}");
            };
            let reason = ReleaseReason::HandOver { may_live: false };
            queue.release(run.run_id, run.token, reason).await.unwrap();
        }
        spent
    }
}

impl Waiting {
    /// Prints the median of what claims took and gives it.
    fn median(&self, runs: u32) -> Duration {
        let mut taken = self.taken.lock().unwrap();
        taken.sort_unstable();
        let at = |share: usize| taken.get(taken.len() * share / 100).copied();
        let (median, most) = (at(50).unwrap_or_default(), at(95).unwrap_or_default());
        eprintln!(
            "{} claims with {runs} runs that wait: median {median:?}, 95 % within {most:?}",
            taken.len(),
        );
        median
    }
}

/// Puts the runs in without the triggers, which would take hours, and does what they would have done.
async fn fill(admin: &Client, runs: u32) {
    let each = runs / PEOPLE;
    admin
        .batch_execute(&format!(
            "set session_replication_role = replica;
             insert into public.comfyui_users (id, last_served_at, pending_runs, waiting_runs)
               select gen_random_uuid(), now() - random() * interval '1 hour', {each}, {each}
               from generate_series(1, {PEOPLE});
             insert into public.comfyui_workflow_runs
                 (id, user_id, graph, nodes_total, priority, checkpoint, created_at, waiting_since)
               select gen_random_uuid(), person.id, json_build_object('1', repeat('x', 500)), 7,
                 (random() * 4)::integer - 2, 'sd15.safetensors', times.moment, times.moment
               from public.comfyui_users as person
               cross join generate_series(1, {each}) as run
               cross join lateral (select now() - random() * interval '1 day' + run * interval '0') as times (moment);
             insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
               select id, 1, user_id, 'status', '{{}}' from public.comfyui_workflow_runs;
             reset session_replication_role"
        ))
        .await
        .unwrap();
    admin.batch_execute("vacuum analyze").await.unwrap();
}

/// Prints the plans of the statements inside of one claim, which is rolled back.
async fn print_plans(url: &str, runs: u32) {
    let (client, mut connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    let printing = tokio::spawn(async move {
        let mut messages =
            futures_util::stream::poll_fn(move |context| connection.poll_message(context));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notice(notice) = message {
                eprintln!("{}", notice.message());
            }
        }
    });
    eprintln!("plans with {runs} runs that wait:");
    client
        .batch_execute(
            "load 'auto_explain';
             set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on;
             set auto_explain.log_nested_statements = on; set auto_explain.log_timing = off;
             set random_page_cost = 1.1; set client_min_messages = log;
             begin; set local role service_role;
             select run_id from atelier.claim_run(gen_random_uuid(), 'w', 'backend-1', '1 min', 2, '5 s', null);
             rollback",
        )
        .await
        .unwrap();
    drop(client);
    printing.await.unwrap();
}

async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Keeps what was found for the table of all benches (`tests-integration/benches/report`), in the file that
/// `ATELIER_BENCH_ROWS` names.
fn keep(medians: &[(u32, Duration)]) {
    let [(few, at_few), .., (many, at_many)] = medians else {
        return;
    };
    let Some(path) = env::var_os("ATELIER_BENCH_ROWS") else {
        return;
    };
    let figures = format!("{at_few:.1?} at {few} waiting runs, {at_many:.1?} at {many}");
    let rows = [
        ("claim", at_many.as_secs_f64() * 1e3),
        ("claim-flat", at_many.as_secs_f64() / at_few.as_secs_f64()),
    ];
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    for (row, measured) in rows {
        let line = serde_json::json!({"row": row, "measured": measured, "figures": figures});
        writeln!(file, "{line}").unwrap();
    }
}

fn claims(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("claim");
    group
        .sample_size(50)
        .measurement_time(Duration::from_secs(15));
    let mut medians = Vec::new();
    for runs in SIZES {
        // Made only if this size is asked for.
        let mut waiting = None;
        group.bench_function(BenchmarkId::from_parameter(runs), |bencher| {
            let waiting = waiting.get_or_insert_with(|| {
                let waiting = runtime.block_on(Waiting::new(runtime.handle(), runs));
                if env::var_os("ATELIER_BENCH_PLANS").is_some() {
                    runtime.block_on(print_plans(&waiting.cluster.url("postgres"), runs));
                }
                waiting
            });
            bencher
                .to_async(runtime)
                .iter_custom(|count| waiting.claims(count));
        });
        if let Some(waiting) = waiting {
            medians.push((runs, waiting.median(runs)));
        }
    }
    group.finish();
    keep(&medians);
}

fn main() {
    let runtime = Runtime::new().unwrap();
    let mut criterion = Criterion::default().configure_from_args();
    claims(&mut criterion, &runtime);
    criterion.final_summary();
}

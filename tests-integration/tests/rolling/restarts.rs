//! Rolling restarts under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use atelier_tests_integration::fleet::{Fleet, FleetPlan};
use atelier_tests_integration::server::Server;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::ATELIER;
use crate::balancer::Balancer;
use crate::visitor::{Visitor, Work, told};

const VISITORS: usize = 50;
const ROUNDS: usize = 3;

/// How long a process may take to end, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take by its own clock.
const LIMIT: Duration = Duration::from_secs(10);

/// Two servers, two workers and two backends.
struct Rolling {
    fleet: Fleet,
    servers: Vec<Server>,
    balancer: Arc<Balancer>,
    /// How long processes took to end.
    ends: Vec<Duration>,
    /// What servers complained about.
    complaints: Vec<String>,
}

impl Rolling {
    async fn new() -> Self {
        let fleet = FleetPlan::new(ATELIER)
            .backends(2)
            .workers(2)
            .step_delay(Duration::from_millis(10))
            .on_s3()
            // Longer than this test may take: what a process leaves it has to hand over.
            .with("ATELIER_LEASE_SECONDS", "3600")
            .start()
            .await;
        let servers = vec![fleet.another_server(), fleet.another_server()];
        let addresses = servers.iter().map(|server| server.url.clone());
        Self {
            balancer: Arc::new(Balancer::new(addresses.collect())),
            servers,
            fleet,
            ends: Vec::new(),
            complaints: Vec::new(),
        }
    }

    /// Stops a server, and starts another in its place.
    fn replace_server(&mut self, index: usize) {
        let begun = Instant::now();
        let server = &mut self.servers[index];
        let status = server.process.terminate(PATIENCE);
        assert!(status.success(), "{status}: {}", server.process.printed());
        self.ends.push(begun.elapsed());
        let printed = server.process.printed();
        let complained = |line: &&str| line.contains("WARN") || line.contains("ERROR");
        let complaints = printed.lines().filter(complained).map(str::to_owned);
        self.complaints.extend(complaints);
        self.servers[index] = self.fleet.another_server();
        self.balancer.replace(index, &self.servers[index].url);
    }

    /// The same with a worker.
    fn replace_worker(&mut self, index: usize) {
        let begun = Instant::now();
        self.fleet.retire_worker(index, PATIENCE);
        self.ends.push(begun.elapsed());
        self.fleet.start_worker(index);
    }

    /// Nothing is lost, and nothing is there twice.
    async fn assert_kept(&self, work: &[Work]) {
        let database = &self.fleet.database;
        let sum = |of: fn(&Work) -> usize| -> i64 {
            let count = work.iter().map(of).sum::<usize>();
            i64::try_from(count).expect("a small number")
        };
        for (table, expected) in [
            ("comfyui_workflows", sum(|work| work.workflows)),
            ("comfyui_workflow_runs", sum(|work| work.runs.len())),
            ("comfyui_lora_models", sum(|work| work.loras)),
        ] {
            let sql = format!("select count(*) from {table}");
            assert_eq!(database.count(&sql).await, expected, "{table}");
        }
        for run in work.iter().flat_map(|work| &work.runs) {
            let (taken, executed) = (self.fleet.submissions(run), self.fleet.executions(run));
            assert_eq!((taken, executed), (1, 1), "{run}");
        }
        assert!(self.fleet.holds_no_lease().await, "somebody holds a run");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_and_workers_are_replaced_and_nobody_notices() {
    let mut rolling = Rolling::new().await;
    let begun = Instant::now();
    let (over, is_over) = watch::channel(false);
    let mut visitors = JoinSet::new();
    for _ in 0..VISITORS {
        let visitor = Visitor::new(Arc::clone(&rolling.balancer));
        visitors.spawn(visitor.work(is_over.clone()));
    }

    for _ in 0..ROUNDS {
        for index in 0..2 {
            block_in_place(|| {
                rolling.replace_server(index);
                rolling.replace_worker(index);
            });
            if let Some(early) = visitors.try_join_next() {
                let told = told(&rolling.balancer);
                assert!(
                    early.is_ok(),
                    "{early:?}\n{told}\n{:#?}",
                    rolling.complaints
                );
            }
        }
    }
    over.send_replace(true);
    let work = visitors.join_all().await;

    rolling.assert_kept(&work).await;
    let runs: usize = work.iter().map(|work| work.runs.len()).sum();
    println!(
        "{runs} runs in {:?}; {}",
        begun.elapsed(),
        told(&rolling.balancer)
    );
    println!("ends: {:?}", rolling.ends);
    assert!(rolling.ends.iter().all(|&end| end < LIMIT));
}

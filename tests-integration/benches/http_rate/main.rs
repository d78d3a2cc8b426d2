//! How fast workflows are read, listed and stored over HTTP: against the same transactions of `pgbench` on the same
//! database, and against the same routes in `FastAPI` and asyncpg (`benches/peer`), all of them in turns on one machine.
//! Besides, whether lists stay as fast at a million rows, and how soon a server is ready.
//!
//! `cargo bench -p atelier-tests-integration --bench http_rate` does all of it; words after `--` choose parts: `get`,
//! `list`, `create`, `logged`, `many`, `ready`. `ATELIER_BENCH_SECONDS` says how long each measurement takes, 5 unless told.
//! It needs `pgbench` beside Postgres, and Python 3 with `venv` and pip for the peer.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a benchmark reads its environment and stops at the first surprise"
)]

mod contest;
mod cpu;
mod data;
mod lists;
mod load;
mod peer;
mod pgbench;
mod ready;
#[path = "../rows/mod.rs"]
mod rows;
mod site;
mod sql;

use std::time::Duration;

use serde_json::json;

use atelier_tests_integration::database::Database;
use atelier_tests_integration::server::Server;

use contest::{Contender, Pace, Rates};
use cpu::Used;
use data::PEOPLE;
use load::Request;
use peer::Peer;
use pgbench::{Script, Sent};
use rows::record;
use site::{Site, address};

const WORKFLOWS: &str = "/api/v1/comfyui/workflows";

/// The most lists a second that the predecessor was ever seen to give, on a machine with two processors.
const PREDECESSOR: f64 = 300.0;

#[tokio::main(worker_threads = 1, flavor = "multi_thread")]
async fn main() {
    let seconds = std::env::var("ATELIER_BENCH_SECONDS").ok();
    let seconds: u64 = seconds.map_or(5, |text| text.parse().expect("a number of seconds"));
    let pace = Pace {
        time: Duration::from_secs(seconds.max(1)),
        rounds: if seconds < 3 { 3 } else { 5 },
    };
    // Cargo adds flags of its own.
    let chosen: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let asked = |part: &str| chosen.is_empty() || chosen.iter().any(|word| word == part);

    let site = Site::new().await;
    let database = site.database("people", &data::of_people()).await;
    if asked("ready") {
        ready::measure(&site, &database);
    }
    if ["get", "list", "create"].into_iter().any(asked) {
        let duel = Duel::new(&site, &database, pace);
        if asked("get") {
            duel.get().await;
        }
        if asked("list") {
            duel.list().await;
        }
        if asked("create") {
            duel.create().await;
        }
    }
    if asked("logged") {
        logged(&site, &database, pace).await;
    }
    if asked("many") {
        lists::measure(&site, pace).await;
    }
}

/// What a line in the log for each request costs.
async fn logged(site: &Site, database: &Database, pace: Pace) {
    let servers = ["info", "warn,atelier::server=info"]
        .map(|level| site.setup(database).with("RUST_LOG", level).start());
    let contenders = servers.each_ref().map(|server| Contender::Http {
        address: address(server),
        requests: (0..PEOPLE).map(one_of_many).collect(),
        status: 200,
    });
    let rates = Rates::measure(pace, &contenders).await;
    let figures = format!("{:.0}/s, {:.0}/s without", rates.of(0), rates.of(1));
    record("logged", rates.ratio(0, 1), &figures);
}

/// Reads any of a person's workflows.
fn one_of_many(person: usize) -> Request {
    let path = format!("{WORKFLOWS}/{}{}", data::WORKFLOW, load::KEY);
    let first = data::KEYS_OF_EACH * u64::try_from(person).expect("some");
    Request::get(&path, &data::token(person)).with_key(first, data::WORKFLOWS_OF_EACH)
}

/// The server against the database alone, and against the peer.
struct Duel<'a> {
    site: &'a Site,
    server: Server,
    peer: Peer,
    pace: Pace,
}

impl<'a> Duel<'a> {
    fn new(site: &'a Site, database: &Database, pace: Pace) -> Self {
        Self {
            site,
            server: site.setup(database).start(),
            peer: Peer::start(&database.application_url),
            pace,
        }
    }

    async fn get(&self) {
        let (setup, preamble) = (sql::choose(), sql::preamble());
        let script = |sent| self.script(sent, &setup, &preamble, sql::GET);
        let contenders = self.contenders(200, one_of_many, script);
        self.measure("get", contenders).await;
    }

    async fn list(&self) {
        let path = format!("{WORKFLOWS}?limit=50");
        let request = |person| Request::get(&path, &data::token(person));
        let (preamble, statement) = (sql::preamble(), sql::list());
        let script = |sent| self.script(sent, "", &preamble, &statement);
        let contenders = self.contenders(200, request, script);
        let rate = self.measure("list", contenders).await;
        let figures = format!("{rate:.0}/s, {PREDECESSOR:.0}/s recorded");
        record("list-predecessor", rate / PREDECESSOR, &figures);
    }

    async fn create(&self) {
        let graph = data::graph();
        let body =
            json!({"name": "House by a lake", "workflow_json": graph, "tags": ["landscape"]});
        let body = body.to_string();
        let request = |person| Request::post(WORKFLOWS, &data::token(person), &body);
        let (preamble, statement) = (sql::preamble(), sql::create());
        let graph = graph.to_string();
        let script = |sent| {
            self.script(sent, "", &preamble, &statement)
                .with("graph", &graph)
        };
        let contenders = self.contenders(201, request, script);
        self.measure("create", contenders).await;
    }

    fn script(&self, sent: Sent, setup: &str, preamble: &str, statement: &str) -> Script {
        let parts = (setup, preamble, statement);
        Script::new(&self.site.cluster, "people", sent, parts)
    }

    /// All ways to the same: the server, `pgbench` with statements one by one and together, the peer.
    fn contenders(
        &self,
        status: u16,
        request: impl Fn(usize) -> Request,
        script: impl Fn(Sent) -> Script,
    ) -> [Contender; 4] {
        let requests: Vec<_> = (0..PEOPLE).map(request).collect();
        let http = |address| Contender::Http {
            address,
            requests: requests.clone(),
            status,
        };
        let pgbench = |sent| Contender::Pgbench {
            script: script(sent),
            clients: PEOPLE,
        };
        [
            http(address(&self.server)),
            pgbench(Sent::OneByOne),
            pgbench(Sent::Together),
            http(self.peer.address),
        ]
    }

    /// Measures all ways in turns; gives the server's own rate.
    async fn measure(&self, what: &str, contenders: [Contender; 4]) -> f64 {
        let rates = Rates::measure(self.pace, &contenders).await;

        let [ours, ..] = contenders;
        let before = self.used();
        let rate = ours.rate(self.pace.time).await;
        let used = self
            .used()
            .since(before, rate * self.pace.time.as_secs_f64());
        let figures = format!("{:.0}/s, pgbench {:.0}/s", rates.of(0), rates.of(1));
        record(
            &format!("{what}-pgbench"),
            rates.ratio(0, 1),
            &format!("{figures}; {used}"),
        );
        let figures = format!("{:.0}/s, pgbench {:.0}/s", rates.of(0), rates.of(2));
        record(&format!("{what}-pipelined"), rates.ratio(0, 2), &figures);
        let figures = format!("{:.0}/s, FastAPI {:.0}/s", rates.of(0), rates.of(3));
        record(&format!("{what}-fastapi"), rates.ratio(0, 3), &figures);
        rates.of(0)
    }

    fn used(&self) -> Used {
        Used::now(self.server.process.pid(), &self.site.cluster)
    }
}

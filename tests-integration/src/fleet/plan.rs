//! What a fleet is made of.

use std::time::Duration;

use atelier_comfyui_sim::SimulatorOptions;
use atelier_s3_double::S3Double;

use super::Fleet;
use crate::backend::Backend;
use crate::database::Database;
use crate::scratch;
use crate::server::{ServerSetup, backends_file};

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
            let file = backends_file(&self.backends_text(backends));
            setup = setup
                .with("ATELIER_CONFIG", file.display().to_string())
                .without("COMFYUI_URL")
                .without("COMFYUI_LORAS_DIR")
                .without("ATELIER_MAX_IN_FLIGHT");
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

    /// What `atelier.toml` says of these backends, called `gpu-1`, `gpu-2` and so on.
    fn backends_text(&self, backends: &[Backend]) -> String {
        let tables = backends.iter().zip(1..).map(|(backend, number)| {
            format!(
                "[[backends]]\nname = \"gpu-{number}\"\nurl = {:?}\nloras_dir = {:?}\nmax_in_flight = {}\n",
                backend.url(),
                backend.loras.display().to_string(),
                self.max_in_flight,
            )
        });
        tables.collect()
    }
}

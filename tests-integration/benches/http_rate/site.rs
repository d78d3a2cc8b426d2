//! One durable Postgres with several databases, and servers on them.

use std::net::SocketAddr;
use std::process::Command;

use atelier_local_postgres::{Cluster, ClusterOptions, Durability};
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::database::Database;
use atelier_tests_integration::scratch;
use atelier_tests_integration::server::{Server, ServerSetup};

const PROGRAM: &str = env!("CARGO_BIN_EXE_atelier-under-test");

/// What the servers stand on.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) cluster: Cluster,
    pub(crate) backend: Backend,
}

impl Site {
    pub(crate) async fn new() -> Self {
        let options = ClusterOptions::in_temporary_directory().durability(Durability::Durable);
        let cluster =
            tokio::task::spawn_blocking(move || Cluster::start(&options, &mut |_step| {}))
                .await
                .expect("it does not panic")
                .expect("Postgres starts");
        Self {
            cluster,
            backend: Backend::start().await,
        }
    }

    /// Makes a migrated database and fills it.
    pub(crate) async fn database(&self, name: &str, fill: &str) -> Database {
        let create = format!("create database {name}");
        let database = Database {
            application_url: self.cluster.url_for("atelier_app", name),
            owner_url: self.cluster.url(name),
        };
        let whole = Database {
            application_url: String::new(),
            owner_url: self.cluster.url("postgres"),
        };
        whole.execute(&create).await;
        let migrated = Command::new(PROGRAM)
            .arg("migrate")
            .env_clear()
            .env("ATELIER_MIGRATE_URL", &database.owner_url)
            .output()
            .expect("the program starts");
        assert!(migrated.status.success(), "{migrated:?}");
        database.execute(fill).await;
        database.execute("vacuum analyze").await;
        database.execute("checkpoint").await;
        database
    }

    /// How a server is started on a database: as it is by default, but without a limit to what one person may ask, and
    /// without a line in the log for each request.
    pub(crate) fn setup(&self, database: &Database) -> ServerSetup {
        ServerSetup::new(
            PROGRAM,
            database,
            &scratch::folder("objects"),
            &self.backend.url(),
            &self.backend.loras,
        )
        .with("ATELIER_RATE_LIMIT", "off")
        .with("RUST_LOG", "warn,atelier::server=info")
    }
}

/// Where a server listens.
pub(crate) fn address(server: &Server) -> SocketAddr {
    server
        .url
        .strip_prefix("http://")
        .and_then(|address| address.parse().ok())
        .expect("an address")
}

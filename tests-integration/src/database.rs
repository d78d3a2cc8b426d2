//! Databases: one cluster a test process, one database a server.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use atelier_local_postgres::{Cluster, ClusterOptions};
use tokio::sync::Mutex;

use crate::scratch;

/// A migrated database of its own.
#[derive(Clone, Debug)]
pub struct Database {
    /// Its address for the server: the role that may do nothing by itself.
    pub application_url: String,
    /// Its address for the owner.
    pub owner_url: String,
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::throw_away().expect("Postgres starts"))
}

impl Database {
    /// Clones the migrated template, which the first call makes with `atelier migrate`.
    pub async fn new(atelier: &str) -> Self {
        static TEMPLATE: Mutex<bool> = Mutex::const_new(false);
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let cluster = tokio::task::spawn_blocking(cluster)
            .await
            .expect("Postgres starts");
        let mut made = TEMPLATE.lock().await;
        if !*made {
            execute(&cluster.url("postgres"), "create database template_atelier").await;
            migrate(atelier, &cluster.url("template_atelier"));
            *made = true;
        }
        let name = format!("atelier_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // One at a time: nobody may be connected to a template that is being cloned.
        execute(
            &cluster.url("postgres"),
            &format!("create database {name} template template_atelier"),
        )
        .await;
        Self {
            application_url: cluster.url_for("atelier_app", &name),
            owner_url: cluster.url(&name),
        }
    }

    /// Runs SQL as the owner.
    pub async fn execute(&self, sql: &str) {
        execute(&self.owner_url, sql).await;
    }

    /// Asks for one number as the owner.
    pub async fn count(&self, sql: &str) -> i64 {
        self.row(sql).await.get(0)
    }

    /// Asks for one text as the owner.
    pub async fn text(&self, sql: &str) -> String {
        self.row(sql).await.get(0)
    }

    async fn row(&self, sql: &str) -> tokio_postgres::Row {
        let client = connect(&self.owner_url).await;
        client.query_one(sql, &[]).await.expect("one row")
    }
}

fn migrate(atelier: &str, url: &str) {
    let output = Command::new(atelier)
        .arg("migrate")
        .env_clear()
        .env("ATELIER_MIGRATE_URL", url)
        .output()
        .expect("the program starts");
    assert!(
        output.status.success(),
        "the migrations ran: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A durable cluster of its own with one migrated database, which can be stopped and started again.
#[derive(Debug)]
pub struct StoppablePostgres {
    cluster: Option<Cluster>,
    options: ClusterOptions,
    /// Leads to the socket, which is elsewhere after each start: the address stays the same.
    socket: PathBuf,
    database: Database,
}

impl StoppablePostgres {
    /// Makes and starts the cluster; `atelier` is the program that migrates.
    pub async fn start(atelier: &str) -> Self {
        let folder = scratch::folder("postgres");
        let options = ClusterOptions::new(folder.join("cluster"));
        let cluster = start(options.clone()).await;
        let socket = folder.join("socket");
        let at = |url: String| {
            let (found, lasting) = (cluster.socket_directory(), &socket);
            url.replace(&host(&found), &host(lasting))
        };
        let name = "atelier";
        let database = Database {
            application_url: at(cluster.url_for("atelier_app", name)),
            owner_url: at(cluster.url(name)),
        };
        execute(&cluster.url("postgres"), "create database atelier").await;
        migrate(atelier, &cluster.url(name));
        let postgres = Self {
            cluster: Some(cluster),
            options,
            socket,
            database,
        };
        postgres.lead_to_socket();
        postgres
    }

    /// The database, at an address that outlives a stop.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Stops the server and waits for its end: connections are cut, new ones are refused.
    pub async fn stop(&mut self) {
        let cluster = self.cluster.take().expect("Postgres is running");
        tokio::task::spawn_blocking(move || cluster.stop())
            .await
            .expect("stopping does not panic")
            .expect("Postgres stops");
    }

    /// Starts the server again, on the same data and at the same address.
    pub async fn start_again(&mut self) {
        assert!(self.cluster.is_none(), "Postgres is running");
        self.cluster = Some(start(self.options.clone()).await);
        self.lead_to_socket();
    }

    fn lead_to_socket(&self) {
        let cluster = self.cluster.as_ref().expect("Postgres is running");
        // The first time there is none.
        drop(std::fs::remove_file(&self.socket));
        std::os::unix::fs::symlink(cluster.socket_directory(), &self.socket)
            .expect("the folder is ours");
    }
}

async fn start(options: ClusterOptions) -> Cluster {
    tokio::task::spawn_blocking(move || Cluster::start(&options, &mut |_| {}))
        .await
        .expect("starting does not panic")
        .expect("Postgres starts")
}

/// A folder of sockets as the host of an address.
fn host(folder: &Path) -> String {
    folder.to_string_lossy().replace('/', "%2F")
}

async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
        .await
        .expect("Postgres takes the connection");
    tokio::spawn(connection);
    client
}

async fn execute(url: &str, sql: &str) {
    connect(url)
        .await
        .batch_execute(sql)
        .await
        .expect("Postgres takes the statement");
}

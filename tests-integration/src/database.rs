//! Databases: one cluster a test process, one database a server.

use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use atelier_local_postgres::Cluster;
use tokio::sync::Mutex;

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
            let output = Command::new(atelier)
                .arg("migrate")
                .env_clear()
                .env("ATELIER_MIGRATE_URL", cluster.url("template_atelier"))
                .output()
                .expect("the program starts");
            assert!(
                output.status.success(),
                "the migrations ran: {}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
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

//! Clusters, databases and stores for the tests.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use atelier_local_postgres::{Cluster, ClusterOptions};
use atelier_postgres::{PgOptions, PgStore, migrate};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// What the tests of Supabase stand on: a cluster that looks like a hosted project.
const SUPABASE_BOOTSTRAP: &str = include_str!("../data/supabase_like_bootstrap.sql");

const TEMPLATE: &str = "migrated";

/// The two kinds of database that must behave alike.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `PostgreSQL` as it comes.
    Bare,
    /// A Supabase-like project: `postgres` is no superuser, `auth` belongs to somebody else, old default grants.
    Supabase,
}

struct Server {
    cluster: Cluster,
}

/// Drives the sockets of every store: a connection must not end with the test that opened it.
pub(crate) fn io() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap()
        })
        .handle()
        .clone()
}

fn server(kind: Kind) -> &'static Server {
    static BARE: OnceLock<Server> = OnceLock::new();
    static SUPABASE: OnceLock<Server> = OnceLock::new();
    match kind {
        Kind::Bare => BARE.get_or_init(|| start(kind, "postgres")),
        Kind::Supabase => SUPABASE.get_or_init(|| start(kind, "supabase_admin")),
    }
}

fn start(kind: Kind, superuser: &str) -> Server {
    let options = ClusterOptions::in_temporary_directory()
        .superuser(superuser)
        .setting("max_connections", "400");
    let cluster = Cluster::start(&options, &mut |_| {}).unwrap();
    let admin = cluster.url("postgres");
    if matches!(kind, Kind::Supabase) {
        psql(&cluster, "postgres", SUPABASE_BOOTSTRAP);
    }
    let owner = cluster.url_for("postgres", TEMPLATE);
    // Not on the caller's runtime: the caller may be in the middle of a poll of it.
    std::thread::spawn(move || {
        io().block_on(async {
            execute(&admin, &format!("create database {TEMPLATE}")).await;
            if matches!(kind, Kind::Supabase) {
                // A database of its own for the tests: what the bootstrap did besides roles is done there too.
                let admin = admin.replace("/postgres", &format!("/{TEMPLATE}"));
                execute(&admin, &supabase_database()).await;
            }
            migrate(&PgOptions::new(owner), None).await.unwrap();
        });
    })
    .join()
    .unwrap();
    Server { cluster }
}

/// The part of the bootstrap that concerns one database, from `create schema extensions` to the default privileges.
pub(crate) fn supabase_database() -> String {
    let (_, rest) = SUPABASE_BOOTSTRAP
        .split_once("create schema extensions;")
        .unwrap();
    let (part, _) = rest
        .split_once("-- postgres: member of the API roles")
        .unwrap();
    let mut sql = "do $$ begin execute format('alter database %I owner to postgres', current_database()); end $$;
         alter schema public owner to pg_database_owner;
         grant usage on schema public to postgres, anon, authenticated, service_role;
         create schema extensions;\n"
        .to_owned();
    for line in part.lines() {
        // The older default grants apply: they are what a migration must take back.
        if !line.starts_with('\\') {
            writeln!(sql, "{line}").unwrap();
        }
    }
    sql
}

/// Feeds a script with meta-commands to psql.
fn psql(cluster: &Cluster, database: &str, script: &str) {
    use std::io::Write as _;

    let mut child = Command::new(cluster.binaries().program("psql"))
        .args(["--quiet", "--no-psqlrc", "--dbname"])
        .arg(cluster.url(database))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

async fn execute(url: &str, sql: &str) {
    let mut connection = AsyncPgConnection::establish(url).await.unwrap();
    connection.batch_execute(sql).await.unwrap();
}

/// A database of its own, migrated; dropped with the value.
pub(crate) struct Database {
    kind: Kind,
    pub(crate) name: String,
}

impl Database {
    pub(crate) async fn new(kind: Kind) -> Self {
        Self::from_template(kind, TEMPLATE).await
    }

    /// One for all tests that put up with each other.
    pub(crate) async fn shared(kind: Kind) -> Arc<Self> {
        static BARE: OnceCell<Arc<Database>> = OnceCell::const_new();
        static SUPABASE: OnceCell<Arc<Database>> = OnceCell::const_new();
        let cell = match kind {
            Kind::Bare => &BARE,
            Kind::Supabase => &SUPABASE,
        };
        let database = cell.get_or_init(|| async {
            let database = Self::new(kind).await;
            database.give_everybody_accounts().await;
            Arc::new(database)
        });
        Arc::clone(database.await)
    }

    /// A database without our tables; on Supabase with its own.
    pub(crate) async fn unmigrated(kind: Kind) -> Self {
        let database = Self::from_template(kind, "template0").await;
        if matches!(kind, Kind::Supabase) {
            execute(&database.admin_url(), &supabase_database()).await;
        }
        database
    }

    async fn from_template(kind: Kind, template: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        // Starting a cluster blocks for a second.
        let admin = tokio::task::spawn_blocking(move || server(kind).cluster.url("postgres"))
            .await
            .unwrap();
        execute(
            &admin,
            &format!("create database {name} template {template}"),
        )
        .await;
        Self { kind, name }
    }

    /// As the superuser, whom Supabase does not give to anybody.
    pub(crate) fn admin_url(&self) -> String {
        server(self.kind).cluster.url(&self.name)
    }

    /// As whoever migrates.
    pub(crate) fn owner_url(&self) -> String {
        self.url_for("postgres")
    }

    pub(crate) fn url_for(&self, user: &str) -> String {
        server(self.kind).cluster.url_for(user, &self.name)
    }

    /// The server's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        let cluster = &server(self.kind).cluster;
        let name = format!(".s.PGSQL.{}", cluster.port());
        cluster.socket_directory().join(name)
    }

    pub(crate) fn app_options(&self) -> PgOptions {
        PgOptions {
            max_connections: 8,
            wait_timeout: Duration::from_secs(20),
            ..PgOptions::new(self.url_for("atelier_app"))
        }
    }

    pub(crate) fn store(&self) -> PgStore {
        PgStore::connect(&self.app_options(), io()).unwrap()
    }

    /// With so many connections at the most.
    pub(crate) fn store_of(&self, max_connections: usize) -> PgStore {
        let options = PgOptions {
            max_connections,
            ..self.app_options()
        };
        PgStore::connect(&options, io()).unwrap()
    }

    /// A plain client as the superuser.
    pub(crate) async fn admin(&self) -> Client {
        client(&self.admin_url()).await
    }

    /// Gives everybody an account at their first write: the suites make people up as they go.
    pub(crate) async fn give_everybody_accounts(&self) {
        if matches!(self.kind, Kind::Supabase) {
            let admin = self.admin().await;
            admin
                .batch_execute(
                    "create function public.sign_up() returns trigger language plpgsql security definer as $$ begin
                       insert into auth.users (id) values (new.id) on conflict do nothing; return new; end $$;
                     create trigger a_sign_up before insert on public.comfyui_users
                       for each row execute function public.sign_up()",
                )
                .await
                .unwrap();
        }
    }
}

/// A test run makes many: what they leave would take longer to remove than the tests take.
impl Drop for Database {
    fn drop(&mut self) {
        let (admin, name) = (server(self.kind).cluster.url("postgres"), self.name.clone());
        let dropped = std::thread::spawn(move || {
            io().block_on(execute(
                &admin,
                &format!("drop database {name} with (force)"),
            ));
        });
        // A test that panics drops its database as well; its own report must not be lost.
        let _outcome = dropped.join();
    }
}

pub(crate) async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The first column of the first row, as text.
pub(crate) async fn scalar(client: &Client, sql: &str) -> Option<String> {
    client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
}

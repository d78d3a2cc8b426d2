//! TLS to the database, against servers with certificates made here.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::OnceLock;

use atelier_domain::ports::RepoError;
use atelier_local_postgres::{Cluster, ClusterOptions};
use atelier_postgres::{PgOpenError, PgOptions, PgStore, migrate};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::NamedTempFile;

use crate::support::{client, io, scalar};

const PASSWORD: &str = "p4ss:/@?word";
const ENCODED: &str = "p4ss%3A%2F%40%3Fword";

/// An authority, and a certificate of its for `localhost`.
struct Certificates {
    root: NamedTempFile,
    server: String,
    key: String,
}

fn certificates() -> Certificates {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let mut root = NamedTempFile::new().unwrap();
    root.write_all(certificate.pem().as_bytes()).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    Certificates {
        root,
        server: server.pem(),
        key: key.serialize_pem(),
    }
}

/// A server on TCP, migrated over TLS if it has any.
struct Server {
    cluster: Cluster,
    address: SocketAddr,
    certificates: Certificates,
}

impl Server {
    fn start(with_tls: bool) -> Self {
        let certificates = certificates();
        let mut options = ClusterOptions::in_temporary_directory().tcp();
        if with_tls {
            options = options.tls(certificates.server.clone(), certificates.key.clone());
        }
        let cluster = Cluster::start(&options, &mut |_| {}).unwrap();
        let address = cluster.tcp_address().unwrap();
        let server = Self {
            cluster,
            address,
            certificates,
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                io().block_on(async {
                    let admin = client(&server.cluster.url("postgres")).await;
                    let password = format!("alter role postgres password '{PASSWORD}'");
                    admin.batch_execute(&password).await.unwrap();
                    let mode = if with_tls { "verify-full" } else { "disable" };
                    let owner = server.options("postgres", "localhost", mode, Some(&server));
                    migrate(&owner, Some(PASSWORD.to_owned())).await.unwrap();
                });
            });
        });
        server
    }

    fn with_tls() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(true))
    }

    fn without_tls() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(false))
    }

    fn options(&self, user: &str, host: &str, mode: &str, trusted: Option<&Self>) -> PgOptions {
        let port = self.address.port();
        let mut url = format!("postgres://{user}:{ENCODED}@{host}:{port}/postgres?sslmode={mode}");
        if let Some(server) = trusted {
            let root = server.certificates.root.path().to_str().unwrap();
            url = format!("{url}&sslrootcert={root}");
        }
        PgOptions::new(url)
    }

    fn store(&self, host: &str, mode: &str, trusted: Option<&Self>) -> PgStore {
        let options = self.options("atelier_app", host, mode, trusted);
        PgStore::connect(&options, io()).unwrap()
    }

    /// Whether the server says of the store's one connection that it is encrypted.
    async fn is_encrypted(&self, store: &PgStore) -> bool {
        let admin = client(&self.cluster.url("postgres")).await;
        let before =
            "select coalesce(max(pid), 0) from pg_stat_activity where usename = 'atelier_app'";
        drop(scalar(&admin, before).await);
        store.check().await.unwrap();
        let latest = "select ssl from pg_stat_ssl join pg_stat_activity using (pid)
                      where usename = 'atelier_app' order by backend_start desc limit 1";
        scalar(&admin, latest).await.unwrap() == "t"
    }
}

/// The servers start on a thread of their own: this one may be polling.
async fn servers() -> (&'static Server, &'static Server) {
    tokio::task::spawn_blocking(|| (Server::with_tls(), Server::without_tls()))
        .await
        .unwrap()
}

async fn refusal(store: &PgStore) -> String {
    let outcome = store.check().await;
    let Err(RepoError::Unavailable(source)) = outcome else {
        panic!("{outcome:?}");
    };
    let text = format!("{source} {source:?}");
    assert!(
        !text.contains(PASSWORD) && !text.contains(ENCODED),
        "{text}"
    );
    text.to_lowercase()
}

/// One test, because each looks at which connection came last.
#[tokio::test(flavor = "multi_thread")]
async fn each_mode_encrypts_as_much_as_it_says() {
    let (server, plain) = servers().await;
    let trusted = Some(server);
    for (host, mode, trusted, encrypted) in [
        ("localhost", "verify-full", trusted, true),
        ("localhost", "verify-ca", trusted, true),
        // Of another name, which only the whole verification looks at.
        ("127.0.0.1", "verify-ca", trusted, true),
        ("127.0.0.1", "require", trusted, true),
        ("127.0.0.1", "require", None, true),
        ("127.0.0.1", "prefer", None, true),
        ("127.0.0.1", "disable", None, false),
    ] {
        let store = server.store(host, mode, trusted);
        assert_eq!(
            server.is_encrypted(&store).await,
            encrypted,
            "{mode} to {host}"
        );
    }
    for mode in ["prefer", "disable"] {
        let store = plain.store("127.0.0.1", mode, None);
        assert!(
            !plain.is_encrypted(&store).await,
            "{mode} to a server without TLS"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_fit_is_refused() {
    let (server, plain) = servers().await;
    for (host, mode, trusted, part) in [
        ("127.0.0.1", "verify-full", Some(server), "not valid for"),
        ("localhost", "verify-full", Some(plain), "certificate"),
        ("localhost", "verify-ca", Some(plain), "certificate"),
        // A root makes `require` verify, as libpq does.
        ("localhost", "require", Some(plain), "certificate"),
        // The system trusts no authority of ours.
        ("localhost", "verify-full", None, "certificate"),
    ] {
        let options = server.options("atelier_app", host, mode, trusted);
        let text = match PgStore::connect(&options, io()) {
            Ok(store) => refusal(&store).await,
            // A system without any root certificates refuses at once.
            Err(PgOpenError::NoRootCertificates) if trusted.is_none() => continue,
            Err(other) => panic!("{other}"),
        };
        assert!(text.contains(part), "{mode} to {host}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let (server, plain) = servers().await;
    for (mode, trusted) in [
        ("require", None),
        ("verify-ca", Some(server)),
        ("verify-full", Some(server)),
    ] {
        let text = refusal(&plain.store("localhost", mode, trusted)).await;
        assert!(text.contains("tls"), "{mode}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_without_being_shown() {
    let (server, _) = servers().await;
    let port = server.address.port();
    let url = format!("postgres://atelier_app:wr0ng-one@localhost:{port}/postgres?sslmode=require");
    let store = PgStore::connect(&PgOptions::new(url), io()).unwrap();

    let text = refusal(&store).await;

    assert!(text.contains("password authentication failed"), "{text}");
    assert!(!text.contains("wr0ng-one"), "{text}");
}

#[test]
fn root_certificates_that_are_none_are_refused_at_once() {
    let file = NamedTempFile::new().unwrap();
    for path in [file.path(), std::path::Path::new("/nowhere/root.pem")] {
        let options = PgOptions {
            root_certificate: Some(path.to_owned()),
            ..PgOptions::new("postgres://u:secret@localhost/db?sslmode=verify-full")
        };

        let error = PgStore::connect(&options, io()).unwrap_err();

        assert!(
            matches!(error, PgOpenError::RootCertificate { .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains(path.to_str().unwrap()),
            "{error}"
        );
    }
}

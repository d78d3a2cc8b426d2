//! Opening connections: the address, TLS, and the runtime that drives the sockets.

mod address;
mod tls;

use std::error::Error;
use std::time::Duration;

use diesel::{ConnectionError, ConnectionResult};
use diesel_async::AsyncPgConnection;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as OnTheWire};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::options::{PgOpenError, PgOptions};
use address::{Address, SslMode};

/// Without a limit, an address that swallows packets would hold a request for minutes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the database may leave sent bytes unacknowledged before the connection counts as lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// How long a connection may be silent before the network is asked whether the other side is there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// Opens connections to one database.
#[derive(Clone)]
pub(crate) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
    mode: SslMode,
}

impl Connector {
    pub(crate) fn new(options: &PgOptions) -> Result<Self, PgOpenError> {
        let Address {
            mut config,
            mode,
            root_certificate,
        } = Address::parse(&options.url)?;
        let root = options
            .root_certificate
            .clone()
            .map(address::RootCertificate::File)
            .or(root_certificate);
        let tls = MakeRustlsConnect::new(tls::client_config(mode, root.as_ref())?);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        if config.get_application_name().is_none() {
            config.application_name("atelier");
        }
        config.keepalives_idle(KEEPALIVE);
        // Like libpq: there is no TLS on a socket of this machine, whatever the mode.
        let local = config
            .get_hosts()
            .iter()
            .all(|host| matches!(host, Host::Unix(_)));
        let mode = if local { SslMode::Disable } else { mode };
        config.ssl_mode(match mode {
            SslMode::Disable => OnTheWire::Disable,
            SslMode::Prefer => OnTheWire::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => OnTheWire::Require,
        });
        Ok(Self { config, tls, mode })
    }

    /// Opens a connection; its socket is driven by the runtime that this runs on.
    pub(crate) async fn connect(&self) -> ConnectionResult<AsyncPgConnection> {
        match self.attempt(&self.config).await {
            // Like libpq: a handshake that fails is no reason to refuse where TLS is only preferred.
            Err(Attempt::BeforeAnswer(_)) if self.mode == SslMode::Prefer => {
                let mut plain = self.config.clone();
                plain.ssl_mode(OnTheWire::Disable);
                self.attempt(&plain).await
            }
            outcome => outcome,
        }
        .map_err(|(Attempt::BeforeAnswer(error) | Attempt::Answered(error))| error)
    }

    async fn attempt(&self, config: &Config) -> Result<AsyncPgConnection, Attempt> {
        let (client, connection) =
            config
                .connect(self.tls.clone())
                .await
                .map_err(|error| match error.code() {
                    Some(_) => Attempt::Answered(bad_connection(&error)),
                    None => Attempt::BeforeAnswer(bad_connection(&error)),
                })?;
        AsyncPgConnection::try_from_client_and_connection(client, connection)
            .await
            .map_err(Attempt::Answered)
    }
}

/// How far an attempt got.
enum Attempt {
    /// No message of Postgres came.
    BeforeAnswer(ConnectionError),
    /// Postgres refused, as for a wrong password.
    Answered(ConnectionError),
}

/// The whole chain of causes: the outermost alone says no more than "error connecting".
fn bad_connection(error: &tokio_postgres::Error) -> ConnectionError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    ConnectionError::BadConnection(text)
}

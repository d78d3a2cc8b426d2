//! `atelier healthcheck`: asks a server or a worker on this machine whether it lives, for containers
//! that have no other program to ask with.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use thiserror::Error;
use url::Url;

use crate::config::Mistakes;
use crate::config::observation::{WORKER_LISTEN, WorkerListenArguments};
use crate::config::server::ServerArguments;

/// How long the answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

const PATH: &str = "healthz";

/// Whom to ask.
#[derive(Clone, Debug, Args)]
pub(crate) struct HealthcheckArguments {
    /// Whom to ask; where ATELIER_LISTEN says if not given.
    #[arg(long, value_name = "URL", conflicts_with = "worker")]
    url: Option<Url>,
    /// Asks a worker, where ATELIER_WORKER_LISTEN says.
    #[arg(long)]
    worker: bool,
    #[command(flatten)]
    worker_listen: WorkerListenArguments,
    /// Where the API listens.
    #[arg(long, env = "ATELIER_LISTEN", value_name = "ADDRESS")]
    listen: Option<String>,
}

/// Why nobody is known to live.
#[derive(Debug, Error)]
pub(crate) enum HealthcheckError {
    #[error(transparent)]
    Configuration(#[from] Mistakes),
    #[error("`{0}` is not an address that can be asked")]
    Address(Url),
    #[error("{url} gave no answer")]
    NoAnswer {
        url: Url,
        #[source]
        source: reqwest::Error,
    },
    #[error("{url} answered {status}")]
    Sick {
        url: Url,
        status: reqwest::StatusCode,
    },
}

/// Asks, and says who lives.
pub(crate) async fn run(arguments: HealthcheckArguments) -> Result<String, HealthcheckError> {
    let base = arguments.base()?;
    let url = base
        .join(PATH)
        .map_err(|_cannot_be_a_base| HealthcheckError::Address(base.clone()))?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build();
    let answer = match client {
        Ok(client) => client.get(url.clone()).send().await,
        Err(error) => Err(error),
    };
    let answer = answer.map_err(|source| HealthcheckError::NoAnswer {
        url: url.clone(),
        source: source.without_url(),
    })?;
    match answer.status() {
        status if status.is_success() => Ok(format!("{url} lives")),
        status => Err(HealthcheckError::Sick { url, status }),
    }
}

impl HealthcheckArguments {
    /// Where to ask, with a slash at its end.
    fn base(self) -> Result<Url, HealthcheckError> {
        if let Some(mut url) = self.url {
            if !url.path().ends_with('/') {
                let path = format!("{}/", url.path());
                url.set_path(&path);
            }
            return Ok(url);
        }
        let mut mistakes = Mistakes::default();
        let address = if self.worker {
            let address = self.worker_listen.check(&mut mistakes);
            if address == Some(None) {
                mistakes.add(
                    WORKER_LISTEN,
                    "is required with --worker: where the worker listens",
                );
            }
            address.flatten()
        } else {
            let arguments = ServerArguments {
                listen: self.listen,
                ..ServerArguments::default()
            };
            arguments.check(&mut mistakes).map(|server| server.listen)
        };
        Ok(address_of(mistakes.check(address)?))
    }
}

/// Whoever listens everywhere is asked on this machine.
fn address_of(listen: SocketAddr) -> Url {
    let host = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    let address = SocketAddr::new(host, listen.port());
    #[expect(clippy::expect_used, reason = "an address and a port make a URL")]
    Url::parse(&format!("http://{address}/")).expect("an address and a port make a URL")
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn arguments(listen: Option<&str>, worker_listen: Option<&str>) -> HealthcheckArguments {
        HealthcheckArguments {
            url: None,
            worker: worker_listen.is_some(),
            worker_listen: WorkerListenArguments {
                worker_listen: worker_listen.map(str::to_owned),
            },
            listen: listen.map(str::to_owned),
        }
    }

    /// Answers one request with this status; says where, and what was asked.
    fn one_answer(status: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("the head comes whole");
                head.push(byte[0]);
            }
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("it is read");
            String::from_utf8(head).expect("it is text")
        });
        (address, answering)
    }

    #[test]
    fn whoever_listens_everywhere_is_asked_here() {
        let asked = |listen| {
            arguments(Some(listen), None)
                .base()
                .map(|url| url.to_string())
                .map_err(|error| error.to_string())
        };

        assert_eq!(asked("0.0.0.0:81"), Ok("http://127.0.0.1:81/".to_owned()));
        assert_eq!(asked("[::]:81"), Ok("http://[::1]:81/".to_owned()));
        assert_eq!(asked("10.0.0.5:81"), Ok("http://10.0.0.5:81/".to_owned()));
        assert_eq!(asked(""), Ok("http://127.0.0.1:8080/".to_owned()));
        assert!(asked("here").is_err_and(|told| told.contains("ATELIER_LISTEN")));
    }

    #[test]
    fn a_worker_must_say_where_it_listens() {
        let told = arguments(None, Some(""))
            .base()
            .expect_err("it says nothing");

        assert!(
            told.to_string()
                .contains("\n  ATELIER_WORKER_LISTEN: is required")
        );
    }

    #[tokio::test]
    async fn a_server_that_answers_lives() {
        let (address, answering) = one_answer("200 OK");

        let told = run(arguments(None, Some(&address))).await;

        assert_eq!(told.ok(), Some(format!("http://{address}/healthz lives")));
        let head = answering.join().expect("it answered");
        assert!(head.starts_with("GET /healthz HTTP/1.1\r\n"), "{head}");
    }

    #[tokio::test]
    async fn one_that_is_sick_or_away_does_not() {
        let (address, answering) = one_answer("503 Service Unavailable");
        let sick = run(arguments(Some(&address), None)).await;
        answering.join().expect("it answered");
        let away = run(arguments(Some(&address), None)).await;

        let told = [sick, away].map(|outcome| outcome.expect_err("nobody lives").to_string());
        assert_eq!(
            told[0],
            format!("http://{address}/healthz answered 503 Service Unavailable")
        );
        assert_eq!(told[1], format!("http://{address}/healthz gave no answer"));
    }
}

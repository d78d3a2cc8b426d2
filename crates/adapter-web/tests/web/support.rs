use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{RemoteError, RemoteFile, RemoteReader, RemoteToken};
use atelier_web::{HostRule, Resolver, WebDownloads, WebOptions};
use futures_util::StreamExt;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Whose addresses people may give.
pub(crate) const HUB: &str = "hub.test";
/// Who may be redirected to.
pub(crate) const STORE: &str = "store.test";
/// Who may not.
pub(crate) const STRANGER: &str = "stranger.test";

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What the host does in answer to a request, in this order; then it closes.
pub(crate) enum Step {
    Send(Vec<u8>),
    /// Says nothing more until the other side is gone.
    Hang,
    /// Says the same until the other side is gone.
    Forever(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) host: String,
    pub(crate) path: String,
    headers: HashMap<String, String>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn read(head: &str, port: u16) -> Self {
        let mut lines = head.split("\r\n");
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let host = headers["host"].replace(&format!(":{port}"), "");
        Self {
            host,
            path,
            headers,
        }
    }
}

type Script = dyn Fn(&Seen) -> Vec<Step> + Send + Sync;

/// Every host there is, behind one port.
pub(crate) struct World {
    pub(crate) port: u16,
    certificate: String,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Seen>>>,
    gone: Arc<Semaphore>,
}

impl World {
    pub(crate) async fn new(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let (acceptor, certificate) = tls();
        Self::behind(Some(acceptor), certificate, Arc::new(script)).await
    }

    /// Without TLS.
    pub(crate) async fn plain(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::behind(None, String::new(), Arc::new(script)).await
    }

    async fn behind(tls: Option<TlsAcceptor>, certificate: String, script: Arc<Script>) -> Self {
        // On every address of this machine: what is not asked was not let be asked.
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let world = Self {
            port: listener.local_addr().unwrap().port(),
            certificate,
            scheme: if tls.is_some() { "https" } else { "http" },
            seen: Arc::default(),
            gone: Arc::new(Semaphore::new(0)),
        };
        let (port, seen, gone) = (world.port, Arc::clone(&world.seen), Arc::clone(&world.gone));
        tokio::spawn(async move {
            loop {
                let (mut socket, _from) = listener.accept().await.unwrap();
                let (tls, script) = (tls.clone(), Arc::clone(&script));
                let (seen, gone) = (Arc::clone(&seen), Arc::clone(&gone));
                tokio::spawn(async move {
                    match tls {
                        None => attend(&mut socket, port, &seen, &*script).await,
                        // Whoever does not trust the certificate leaves here.
                        Some(tls) => {
                            if let Ok(mut stream) = tls.accept(socket).await {
                                attend(&mut stream, port, &seen, &*script).await;
                            }
                        }
                    }
                    gone.add_permits(1);
                });
            }
        });
        world
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The paths that were asked for, as `host/path`.
    pub(crate) fn visits(&self) -> Vec<String> {
        let visits = self.seen().into_iter();
        visits
            .map(|seen| format!("{}{}", seen.host, seen.path))
            .collect()
    }

    /// Waits until one more connection has ended.
    pub(crate) async fn one_is_gone(&self) {
        let permit = timeout(PATIENCE, self.gone.acquire()).await;
        permit.expect("the connection ends").unwrap().forget();
    }

    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("{}://{host}:{}{path}", self.scheme, self.port)
    }

    pub(crate) fn options(&self) -> WebOptions {
        let rule = |host: &str| HostRule::parse(&format!("{host}:{}", self.port)).unwrap();
        WebOptions {
            allowed_hosts: vec![rule(HUB)],
            download_hosts: vec![rule(STORE)],
            open_networks: vec!["127.0.0.1/32".parse().unwrap()],
            root_certificates: Some(self.certificate.clone()),
            resolver: Names::fixed(&[]),
            ..WebOptions::default()
        }
    }

    pub(crate) fn downloads(&self) -> WebDownloads {
        downloads(self.options())
    }
}

pub(crate) fn downloads(options: WebOptions) -> WebDownloads {
    WebDownloads::new(options, Handle::current()).unwrap()
}

/// A certificate for every host there is, and what speaks for it.
fn tls() -> (TlsAcceptor, String) {
    let names = [HUB, STORE, STRANGER].map(str::to_owned);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), cert.pem())
}

async fn attend(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    port: u16,
    seen: &Mutex<Vec<Seen>>,
    script: &Script,
) {
    if let Some(request) = read_head(stream, port).await {
        seen.lock().unwrap().push(request.clone());
        perform(stream, script(&request)).await;
    }
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin), port: u16) -> Option<Seen> {
    let mut head = Vec::new();
    let mut piece = [0; 4_096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(count @ 1..) => head.extend_from_slice(&piece[..count]),
            _ => return None,
        }
    }
    Some(Seen::read(std::str::from_utf8(&head).unwrap(), port))
}

async fn perform(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), steps: Vec<Step>) {
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Step::Hang => {
                stream.flush().await.ok();
                while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {}
                return;
            }
            Step::Forever(bytes) => while stream.write_all(&bytes).await.is_ok() {},
        }
    }
    stream.shutdown().await.ok();
}

/// An answer, with its length unless the headers say otherwise.
pub(crate) fn reply(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<Step> {
    let mut bytes = head(status, headers);
    let tells_length = headers
        .iter()
        .any(|(name, _)| matches!(*name, "Content-Length" | "Transfer-Encoding"));
    if !tells_length {
        bytes.truncate(bytes.len() - 2);
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

/// What stands before a body.
pub(crate) fn head(status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"));
    let first = [format!("HTTP/1.1 {status}"), "Connection: close".to_owned()];
    let lines: Vec<_> = first.into_iter().chain(lines).collect();
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

pub(crate) fn redirect(to: &str) -> Vec<Step> {
    reply("302 Found", &[("Location", to)], b"")
}

/// What a good host does with a file.
pub(crate) fn serve(seen: &Seen, file: &[u8], headers: &[(&str, &str)]) -> Vec<Step> {
    let Some(range) = seen.header("range") else {
        return reply("200 OK", headers, file);
    };
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let first: usize = first.parse().unwrap();
    if first >= file.len() {
        let told = format!("bytes */{}", file.len());
        let headers = [headers, &[("Content-Range", told.as_str())]].concat();
        return reply("416 Range Not Satisfiable", &headers, b"");
    }
    let last = last.parse().unwrap_or(file.len() - 1);
    let told = format!("bytes {first}-{last}/{}", file.len());
    let headers = [headers, &[("Content-Range", told.as_str())]].concat();
    reply("206 Partial Content", &headers, &file[first..=last])
}

/// Knows every host of the world; some answer after answer, the last for good.
#[derive(Debug)]
pub(crate) struct Names(Mutex<HashMap<&'static str, Vec<&'static str>>>);

impl Names {
    pub(crate) fn fixed(names: &[(&'static str, &'static str)]) -> Arc<Self> {
        let names = names.iter().map(|&(host, address)| (host, vec![address]));
        Arc::new(Self(Mutex::new(names.collect())))
    }

    pub(crate) fn changing(host: &'static str, answers: &[&'static str]) -> Arc<Self> {
        let answers = answers.iter().rev().copied().collect();
        Arc::new(Self(Mutex::new(HashMap::from([(host, answers)]))))
    }
}

#[async_trait]
impl Resolver for Names {
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let address = match names.get_mut(host) {
            None => "127.0.0.1",
            Some(answers) if answers.len() > 1 => answers.pop().unwrap(),
            Some(answers) => answers[0],
        };
        Ok(vec![address.parse().unwrap()])
    }
}

pub(crate) fn token() -> Option<RemoteToken> {
    RemoteToken::parse("very-secret")
}

/// A file of which nothing but its address is known.
pub(crate) fn file_at(url: &str) -> RemoteFile {
    RemoteFile {
        source: LoraSource::Url {
            url: url.to_owned(),
        },
        resource_key: None,
        name: None,
        size_bytes: None,
        revision: None,
        md5: None,
        sha256: None,
    }
}

/// Reads to the end or to the first error, and says which.
pub(crate) async fn drain(mut reader: RemoteReader) -> (Vec<u8>, Option<RemoteError>) {
    let mut bytes = Vec::new();
    loop {
        let next = timeout(PATIENCE, reader.bytes.next()).await;
        match next.expect("a download that goes on") {
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            Some(Err(error)) => {
                assert!(reader.bytes.next().await.is_none(), "an error is the end");
                return (bytes, Some(error));
            }
            None => return (bytes, None),
        }
    }
}

/// All that an error says, of itself and of its causes.
pub(crate) fn said(error: &RemoteError) -> String {
    let mut said = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        said.push_str(": ");
        said.push_str(&cause.to_string());
        source = cause.source();
    }
    said
}

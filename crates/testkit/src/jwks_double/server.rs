use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::fault::KeysFault;
use super::signing_key::SigningKey;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where Supabase Auth has its keys, below the issuer.
const JWKS: &str = "/auth/v1/.well-known/jwks.json";

/// Where Cloudflare Access has its keys, below the team's domain.
const CERTS: &str = "/cdn-cgi/access/certs";

/// A running publisher of keys, with none at first. Dropping it stops it.
///
/// It runs on threads of its own, so tests on different runtimes may share it.
pub struct JwksDouble {
    address: SocketAddr,
    front: Front,
    runtime: Option<Runtime>,
}

impl fmt::Debug for JwksDouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("JwksDouble")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl JwksDouble {
    /// Starts on a free port of the loopback interface.
    ///
    /// # Errors
    /// Whatever keeps it from threads or a port.
    pub fn start() -> io::Result<Self> {
        let front = Front {
            state: Arc::new(Mutex::new(State {
                keys: Vec::new(),
                cache_control: Some("public, max-age=600".to_owned()),
                fault: None,
                count: 0,
            })),
            is_held: Arc::new(watch::Sender::new(false)),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("jwks-double")
            .enable_all()
            .build()?;
        // Bound with the standard library: blocking on the runtime would panic inside another one.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        runtime.spawn(accept(listener, front.clone()));
        Ok(Self {
            address,
            front,
            runtime: Some(runtime),
        })
    }

    /// Where it is: `http://127.0.0.1:{port}`, what `SUPABASE_URL` may hold.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The issuer that a Supabase project here would have.
    pub fn issuer(&self) -> String {
        format!("{}/auth/v1", self.url())
    }

    /// Where the keys are that Supabase Auth publishes.
    pub fn jwks_url(&self) -> String {
        format!("{}{JWKS}", self.url())
    }

    /// Where the same keys are, the way Cloudflare Access publishes them.
    pub fn certs_url(&self) -> String {
        format!("{}{CERTS}", self.url())
    }

    /// Publishes these keys and no others.
    pub fn publish(&self, keys: &[&SigningKey]) {
        self.publish_jwks(keys.iter().map(|key| key.jwk()).collect());
    }

    /// Publishes anything in the place of keys.
    pub fn publish_jwks(&self, keys: Vec<Value>) {
        self.state().keys = keys;
    }

    /// What is said of caching from now on; at first ten minutes, as Supabase
    /// does.
    pub fn set_cache_control(&self, directives: Option<&str>) {
        self.state().cache_control = directives.map(str::to_owned);
    }

    /// Lets every request go wrong from now on; `None` goes back to work.
    pub fn fail(&self, fault: Option<KeysFault>) {
        self.state().fault = fault;
    }

    /// Keeps answers back until [`JwksDouble::release`]; they are made then.
    pub fn hold(&self) {
        self.front.is_held.send_replace(true);
    }

    /// Lets all answers go that were kept back.
    pub fn release(&self) {
        self.front.is_held.send_replace(false);
    }

    /// How many requests came so far, the failed ones and those kept back
    /// included.
    pub fn count(&self) -> usize {
        self.state().count
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.front.state.lock().unwrap()
    }
}

impl Drop for JwksDouble {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct State {
    keys: Vec<Value>,
    cache_control: Option<String>,
    fault: Option<KeysFault>,
    count: usize,
}

#[derive(Clone)]
struct Front {
    state: Arc<Mutex<State>>,
    is_held: Arc<watch::Sender<bool>>,
}

impl Front {
    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        self.state.lock().unwrap().count += 1;
        let mut held = self.is_held.subscribe();
        drop(held.wait_for(|is_held| !is_held).await);
        let fault = self.state.lock().unwrap().fault.clone();
        match fault {
            Some(KeysFault::Answer {
                status,
                headers,
                body,
            }) => Ok(response(status, &headers, Full::from(body).boxed_unsync())),
            Some(KeysFault::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(KeysFault::Stall) => std::future::pending().await,
            Some(KeysFault::StallInBody) => {
                let never = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                Ok(response(200, &[], StreamBody::new(never).boxed_unsync()))
            }
            None => Ok(self.published(request.uri().path())),
        }
    }

    fn published(&self, path: &str) -> Response<Body> {
        let state = self.state.lock().unwrap();
        let body = match path {
            JWKS => json!({"keys": state.keys}),
            // What else stands there must not be used (section 3).
            CERTS => json!({
                "keys": state.keys,
                "public_cert": {"kid": "not-to-be-used", "cert": ""},
                "public_certs": [],
            }),
            _ => return response(404, &[], Full::default().boxed_unsync()),
        };
        let mut headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        if let Some(directives) = &state.cache_control {
            headers.push(("cache-control".to_owned(), directives.clone()));
        }
        response(200, &headers, Full::from(body.to_string()).boxed_unsync())
    }
}

fn response(status: u16, headers: &[(String, String)], body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("an HTTP status");
    for (name, value) in headers {
        response.headers_mut().append(
            name.parse::<HeaderName>().expect("a header's name"),
            value.parse::<HeaderValue>().expect("a header"),
        );
    }
    response
}

async fn accept(listener: TcpListener, front: Front) {
    // An error here concerns one connection that went away before it was taken.
    loop {
        if let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket, front.clone()));
        }
    }
}

async fn serve(socket: TcpStream, front: Front) {
    let service = service_fn(move |request| front.clone().answer(request));
    // A client that hangs up in the middle of a request is part of many tests.
    drop(
        http1::Builder::new()
            .serve_connection(TokioIo::new(socket), service)
            .await,
    );
}

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use super::answer::{Answer, Body};
use super::content::Content;
use super::fault::{Endpoint, Fault};
use super::file::DriveFile;
use super::log::DriveRequest;
use super::state::State;
use super::token::{Account, Life};
use super::{api, token};
use crate::Outage;

/// A running Drive with no files. Dropping it stops it.
///
/// It runs on threads of its own, so tests on different runtimes may share it.
pub struct DriveDouble {
    address: SocketAddr,
    front: Front,
    runtime: Option<Runtime>,
}

impl fmt::Debug for DriveDouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DriveDouble")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl DriveDouble {
    /// Starts a Drive on a free port of the loopback interface.
    ///
    /// # Errors
    /// Whatever keeps it from threads or a port.
    pub fn start() -> io::Result<Self> {
        let front = Front {
            state: Arc::new(Mutex::new(State::new())),
            outage: Outage::default(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("drive-double")
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

    /// Where the Drive API is: `http://127.0.0.1:{port}/drive/v3`.
    pub fn api_base_url(&self) -> String {
        format!("http://{}/drive/v3", self.address)
    }

    /// Where access tokens are: `http://127.0.0.1:{port}/token`.
    pub fn token_url(&self) -> String {
        format!("http://{}/token", self.address)
    }

    /// Puts a file there, in place of one of the same id.
    pub fn put(&self, file: DriveFile) {
        self.state().files.insert(file.id.clone(), file);
    }

    /// Takes a file away.
    pub fn remove(&self, id: &str) {
        self.state().files.remove(id);
    }

    /// Changes what is told of a file, its revision as it is.
    pub fn edit(&self, id: &str, edit: impl FnOnce(&mut DriveFile)) {
        let mut state = self.state();
        edit(
            state
                .files
                .get_mut(id)
                .expect("a file that the test put there"),
        );
    }

    /// Gives a file other bytes and another revision; the digests that are told
    /// stay true.
    pub fn change(&self, id: &str, content: Content) {
        self.state().change(id, content);
    }

    /// Lets the next request for something go wrong. Further calls script the
    /// requests after that one.
    pub fn fail_next(&self, endpoint: Endpoint, fault: Fault) {
        self.state().fail_next(endpoint, fault);
    }

    /// Lets every request for something go wrong that is not scripted
    /// otherwise; `None` goes back to work.
    pub fn fail_always(&self, endpoint: Endpoint, fault: Option<Fault>) {
        self.state().fail_always(endpoint, fault);
    }

    /// While it lasts, every connection is closed without an answer.
    pub fn outage(&self) -> &Outage {
        &self.front.outage
    }

    /// The requests that came so far, in order.
    pub fn requests(&self) -> Vec<DriveRequest> {
        self.state().requests.clone()
    }

    /// How many requests for something came.
    pub fn count(&self, endpoint: Endpoint) -> usize {
        let state = self.state();
        let same = |request: &&DriveRequest| request.endpoint == Some(endpoint);
        state.requests.iter().filter(same).count()
    }

    /// What `GDOC_TOKEN` may hold: an authorized user whose refresh token is
    /// good, and who has no access token yet.
    pub fn gdoc_token(&self) -> String {
        let state = self.state();
        let (id, secret) = &state.client;
        json!({
            "type": "authorized_user",
            "client_id": id,
            "client_secret": secret,
            "refresh_token": state.refresh_token,
        })
        .to_string()
    }

    /// Knows another OAuth client and refresh token from now on, those of a
    /// test's own files.
    pub fn know(&self, client_id: &str, client_secret: &str, refresh_token: &str) {
        let mut state = self.state();
        state.client = (client_id.to_owned(), client_secret.to_owned());
        refresh_token.clone_into(&mut state.refresh_token);
    }

    /// The key file of a service account that is known. Its keys are made with
    /// the first call, which takes a moment.
    pub fn service_account_key(&self) -> String {
        self.state()
            .account
            .get_or_insert_with(Account::generate)
            .key_file()
            .to_string()
    }

    /// Takes an access token from now on: one of a user's own, or one that a
    /// test scripts the token endpoint to hand out.
    pub fn accept_token(&self, token: &str) {
        self.state().access_tokens.insert(token.to_owned());
    }

    /// Takes none of the access tokens any more that were good so far.
    pub fn revoke_access_tokens(&self) {
        self.state().access_tokens.clear();
    }

    /// Takes the refresh token back.
    pub fn revoke_refresh_token(&self) {
        "nobody knows this one".clone_into(&mut self.state().refresh_token);
    }

    /// Hands out a new refresh token with every access token; the old one is
    /// good for nothing then.
    pub fn rotate_refresh_tokens(&self) {
        self.state().rotates = true;
    }

    /// How long access tokens live from now on, in seconds; `None` to say
    /// nothing about it. The double itself takes them for ever.
    pub fn set_token_life(&self, seconds: Option<u64>) {
        self.state().life = seconds.map_or(Life::Untold, Life::Seconds);
    }

    /// The same, told as a string, which odd servers do.
    pub fn set_token_life_as_text(&self, seconds: u64) {
        self.state().life = Life::SecondsInWords(seconds);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.front.state.lock().unwrap()
    }
}

impl Drop for DriveDouble {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Clone)]
struct Front {
    state: Arc<Mutex<State>>,
    outage: Outage,
}

impl Front {
    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        if self.outage.source().is_some() {
            return Err(reset());
        }
        let (parts, body) = request.into_parts();
        let form = body
            .collect()
            .await
            .map_err(|error| io::Error::other(error.to_string()))?
            .to_bytes();
        let (answer, fault) = self.decide(&DriveRequest::new(&parts), &form);
        let spoiled = match &fault {
            Some(fault) => answer.spoiled_by(fault),
            None => Some(answer),
        };
        match (spoiled, fault) {
            (Some(answer), _) => Ok(answer.response()),
            (None, Some(Fault::Stall)) => std::future::pending().await,
            (None, _) => Err(reset()),
        }
    }

    fn decide(&self, request: &DriveRequest, form: &[u8]) -> (Answer, Option<Fault>) {
        let mut state = self.state.lock().unwrap();
        state.requests.push(request.clone());
        let Some(endpoint) = request.endpoint else {
            return (Answer::text(404, Vec::new(), String::new()), None);
        };
        let fault = state.take_fault(endpoint);
        let answer = match (endpoint, &fault) {
            // Nothing is granted by a request that fails.
            (Endpoint::Token, Some(_)) => Answer::text(500, Vec::new(), String::new()),
            (Endpoint::Token, None) => token::answer(&mut state, form),
            _ => api::answer(&state, request, endpoint, fault.as_ref()),
        };
        if let (Some(Fault::CutAndChange { content, .. }), Some(id)) = (&fault, request.file_id()) {
            state.change(id, content.clone());
        }
        (answer, fault)
    }
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

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::counting::Counting;
use crate::gate::Gate;
use crate::long_keys::LongKeys;

const ACCESS_KEY: &str = "double-access-key";
const SECRET_KEY: &str = "double-secret-key";
const BUCKET: &str = "atelier";

/// A running S3 server with one empty bucket. Dropping it stops the server and
/// deletes the objects.
///
/// It runs on threads of its own, so tests on different runtimes may share it.
pub struct S3Double {
    address: SocketAddr,
    folder: TempDir,
    gate: Gate,
    runtime: Option<Runtime>,
}

impl fmt::Debug for S3Double {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("S3Double")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl S3Double {
    /// Starts a server on a free port of the loopback interface.
    ///
    /// # Errors
    /// Whatever keeps it from a temporary folder, threads or a port.
    pub fn start() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        std::fs::create_dir(folder.path().join(BUCKET))?;
        let files = s3s_fs::FileSystem::new(folder.path())
            .map_err(|error| io::Error::other(format!("the folder cannot be served: {error:?}")))?;
        let mut builder = S3ServiceBuilder::new(LongKeys {
            files,
            root: folder.path().to_owned(),
        });
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let gate = Gate::new();
        let front = Front {
            service: builder.build(),
            root: folder.path().to_owned(),
            conditional: Arc::default(),
            gate: gate.clone(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-double")
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
        runtime.spawn(accept(listener, front));
        Ok(Self {
            address,
            folder,
            gate,
            runtime: Some(runtime),
        })
    }

    /// Where the server is, such as `http://127.0.0.1:41207`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The one access key that it takes.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The secret key that belongs to it.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The one bucket that there is at the start.
    pub fn bucket(&self) -> &'static str {
        BUCKET
    }

    /// The folder with the objects, for looking behind the server's back:
    /// `{folder}/{bucket}/{key}`, and elsewhere for keys of more than 120 bytes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The switches of the server.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }
}

impl Drop for S3Double {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What stands between the sockets and `s3s-fs`.
#[derive(Clone)]
struct Front {
    service: S3Service,
    root: PathBuf,
    /// `s3s-fs` checks, then writes: this makes the two one.
    conditional: Arc<Mutex<()>>,
    gate: Gate,
}

type Answer = Response<Counting>;

impl Front {
    async fn answer(self, request: Request<Incoming>) -> Result<Answer, s3s::HttpError> {
        let gated = request.method() == Method::GET;
        let counted = |response: Response<s3s::Body>| {
            response.map(|inner| Counting::new(inner, self.gate.clone(), gated))
        };
        match *request.method() {
            Method::GET => self.gate.wait_for_gets().await,
            Method::PUT => self.gate.wait_for_puts().await,
            _ => {}
        }
        if let Some(status) = self.gate.failing() {
            return Ok(counted(problem(status, "TestFailure")));
        }
        if let Some((bucket, _)) = request.uri().path().trim_start_matches('/').split_once('/')
            && !self.root.join(bucket).is_dir()
        {
            return Ok(counted(problem(404, "NoSuchBucket")));
        }
        let conditional = request.method() == Method::PUT
            && [header::IF_MATCH, header::IF_NONE_MATCH]
                .iter()
                .any(|name| request.headers().contains_key(name));
        let _alone = if conditional {
            Some(self.conditional.lock().await)
        } else {
            None
        };
        self.service
            .call(request.map(s3s::Body::from))
            .await
            .map(counted)
    }
}

fn problem(status: u16, code: &str) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::from(format!(
        "<Error><Code>{code}</Code></Error>"
    )));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/xml"),
    );
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
        auto::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(socket), service)
            .await,
    );
}

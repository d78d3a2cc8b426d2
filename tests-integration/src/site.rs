//! Everything that a server stands on.

use std::path::PathBuf;

use atelier_s3_double::S3Double;

use crate::backend::Backend;
use crate::database::Database;
use crate::scratch;
use crate::server::{Server, ServerSetup};

/// A database, a place for objects and a backend, without a server.
#[derive(Debug)]
pub struct Site {
    /// The database.
    pub database: Database,
    /// The folder of the objects, unless they are in an S3 server.
    pub objects: PathBuf,
    /// The S3 server with the objects, if there is one.
    pub s3: Option<S3Double>,
    /// The backend.
    pub backend: Backend,
    program: String,
}

impl Site {
    /// A new database, an empty folder and the current version of ComfyUI; `program` is the server.
    pub async fn new(program: &str) -> Self {
        Self::with_backend(program, Backend::start().await).await
    }

    /// The same with another backend.
    pub async fn with_backend(program: &str, backend: Backend) -> Self {
        Self {
            database: Database::new(program).await,
            objects: scratch::folder("objects"),
            s3: None,
            backend,
            program: program.to_owned(),
        }
    }

    /// Keeps the objects in an S3 server instead of a folder.
    #[must_use]
    pub fn on_s3(mut self) -> Self {
        self.s3 = Some(S3Double::start().expect("there is a free port"));
        self
    }

    /// The switches of the S3 server.
    pub fn s3_gate(&self) -> &atelier_s3_double::Gate {
        self.s3.as_ref().expect("the site is on S3").gate()
    }

    /// How a server is started here.
    pub fn setup(&self) -> ServerSetup {
        let setup = ServerSetup::new(
            &self.program,
            &self.database,
            &self.objects,
            &self.backend.url(),
            &self.backend.loras,
        )
        .with("ATELIER_CLEANING_SECONDS", "1");
        match &self.s3 {
            None => setup,
            Some(s3) => setup
                .with("BLOB_URL", format!("s3://{}", s3.bucket()))
                .with("MINIO_ENDPOINT", s3.endpoint())
                .with("MINIO_ACCESS_KEY", s3.access_key())
                .with("MINIO_SECRET_KEY", s3.secret_key()),
        }
    }

    /// A server with a worker.
    pub fn serve(&self) -> Server {
        self.setup().start()
    }

    /// A server without a worker.
    pub fn serve_without_worker(&self) -> Server {
        self.setup().arguments(&["serve", "--no-worker"]).start()
    }
}

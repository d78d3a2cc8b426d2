//! A server that only serves, workers that come and go, and what they are given to do.

use std::path::PathBuf;
use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::process::Process;
use atelier_tests_integration::server::{Server, ServerSetup};
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::with_lora;
use serde_json::{Value, json};

use crate::ATELIER;
use crate::contents::{assert_is, parts_in};

/// How long something may take that a busy machine does among much else.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A place with one backend and one person.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) site: Site,
    pub(crate) client: Client,
    _server: Server,
}

impl Workshop {
    /// With the objects in a folder.
    pub(crate) async fn new() -> Self {
        Self::at(Site::new(ATELIER).await)
    }

    /// With the objects in an S3 server.
    pub(crate) async fn on_s3() -> Self {
        Self::at(Site::new(ATELIER).await.on_s3())
    }

    /// On a backend whose sampler takes its time.
    pub(crate) async fn with_steps_of(delay: Duration) -> Self {
        let backend = Backend::start_with(|options| options.step_delay = delay).await;
        Self::at(Site::with_backend(ATELIER, backend).await)
    }

    pub(crate) fn at(site: Site) -> Self {
        let server = site.serve_without_worker();
        Self {
            client: server.client(),
            site,
            _server: server,
        }
    }

    /// How a worker is started here: its claims end three seconds after its last sign of life.
    pub(crate) fn worker_setup(&self) -> ServerSetup {
        self.site
            .setup()
            .with("ATELIER_LEASE_SECONDS", "3")
            .arguments(&["worker"])
    }

    pub(crate) fn worker(&self) -> Process {
        self.worker_setup().spawn()
    }

    /// A worker whose files in the LoRA folder may have so many bytes.
    pub(crate) fn worker_with_quota(&self, bytes: usize) -> Process {
        let setup = self.worker_setup();
        setup
            .with("ATELIER_LORA_QUOTA_BYTES", bytes.to_string())
            .spawn()
    }

    /// Uploads a file.
    pub(crate) async fn upload(&self, filename: &str, file: &LoraFile) -> Value {
        let answer = self.client.upload_lora(filename, file.bytes.clone()).await;
        answer.expect(201)
    }

    /// Starts a run with that LoRA.
    pub(crate) async fn start(&self, lora: &str, seed: u64) -> String {
        let workflow = self.client.create_workflow(&with_lora(lora), false).await;
        self.client
            .start_run(&workflow, &json!({"seed": seed}))
            .await
    }

    /// The same to its end.
    pub(crate) async fn run(&self, lora: &str, seed: u64) -> Value {
        let run = self.start(lora, seed).await;
        self.client.finished_run(&run).await
    }

    /// The same, which must end well.
    pub(crate) async fn run_well(&self, lora: &str, seed: u64) {
        let run = self.run(lora, seed).await;
        assert_eq!(run["status"], "completed", "{lora}: {run}");
    }

    /// The same, which must fail with this code; gives the message.
    pub(crate) async fn run_badly(&self, lora: &str, code: &str) -> String {
        let run = self.run(lora, 1).await;
        assert_eq!(run["status"], "failed", "{lora}: {run}");
        assert_eq!(run["error"]["code"], code, "{run}");
        let message = run["error"]["message"].as_str().expect("a message");
        message.to_owned()
    }

    /// The LoRA folder of the person on the backend.
    pub(crate) fn folder(&self) -> PathBuf {
        let folder = format!("user-{}", self.client.person().id);
        self.site.backend.loras.join(folder)
    }

    /// The file of an object in the object folder.
    pub(crate) fn object(&self, filename: &str) -> PathBuf {
        let key = format!("user-{}/loras/{filename}", self.client.person().id);
        self.site.objects.join(key)
    }

    /// Waits until a file is on its way to the backend.
    pub(crate) async fn until_copying(&self) {
        wait_until("a copy to begin", PATIENCE, async || {
            !parts_in(&self.site.backend.loras).is_empty()
        })
        .await;
    }

    /// The file is on the backend, byte for byte, and nothing half-done beside it.
    #[track_caller]
    pub(crate) fn assert_installed(&self, filename: &str, file: &LoraFile) {
        assert_is(&self.folder().join(filename), file);
        let parts = parts_in(&self.site.backend.loras);
        assert!(parts.is_empty(), "{parts:?}");
    }
}

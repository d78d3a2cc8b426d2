//! LoRAs that come from Google Drive, which is inside the test process.

use std::time::Duration;

use atelier_testkit::drive_double::{Content, DriveDouble, DriveFile};
use atelier_testkit::wait_until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, id_of};
use crate::lora_file::LoraFile;
use crate::server::ServerSetup;
use crate::site::Site;

/// How long an import may take, with everything that goes wrong on its way.
pub const PATIENCE: Duration = Duration::from_mins(1);

const PATH: &str = "/loras/import-from-google-drive";

/// How a server is started that reaches this Drive, with credentials of its own.
pub fn with_drive(setup: ServerSetup, drive: &DriveDouble) -> ServerSetup {
    without_credentials(setup, drive).with("GDOC_TOKEN", drive.gdoc_token())
}

/// The same without credentials.
pub fn without_credentials(setup: ServerSetup, drive: &DriveDouble) -> ServerSetup {
    setup
        .with("GOOGLE_API_BASE_URL", drive.api_base_url())
        .with("GOOGLE_TOKEN_URL", drive.token_url())
        .with("ATELIER_LEASE_SECONDS", "3")
}

/// A site and a Drive that its servers reach.
#[derive(Debug)]
pub struct DriveSite {
    /// The site.
    pub site: Site,
    /// The Drive, with no files at first.
    pub drive: DriveDouble,
}

impl DriveSite {
    /// Starts both.
    pub async fn new(program: &str) -> Self {
        Self {
            site: Site::new(program).await,
            drive: DriveDouble::start().expect("there is a free port"),
        }
    }

    /// How a server with a worker is started here.
    pub fn setup(&self) -> ServerSetup {
        with_drive(self.site.setup(), &self.drive)
    }

    /// Puts a file on Drive, and gives its id, which no other file has.
    pub fn put(&self, name: &str, file: &LoraFile) -> String {
        put(&self.drive, name, file)
    }
}

/// Puts a file on a Drive, and gives its id, which no other file has.
pub fn put(drive: &DriveDouble, name: &str, file: &LoraFile) -> String {
    let id = new_id();
    drive.put(DriveFile::blob(&id, name, content(file)));
    id
}

/// An id as Drive's are.
pub fn new_id() -> String {
    format!("1{}", atelier_testkit::random_id().simple())
}

/// The bytes of a file.
pub fn content(file: &LoraFile) -> Content {
    Content::bytes(file.bytes.clone())
}

/// Asks for an import.
pub async fn import(client: &Client, body: &Value) -> Answer {
    client.post(PATH, body).await
}

/// Asks for an import of what an id or a link names.
pub async fn import_of(client: &Client, reference: &str) -> Answer {
    import(client, &json!({"google_drive_file_id": reference})).await
}

/// Asks for an import with somebody's own access token.
pub async fn import_with_token(client: &Client, reference: &str, token: &str) -> Answer {
    let request = client
        .request(Method::POST, PATH)
        .header("x-google-access-token", token)
        .json(&json!({"google_drive_file_id": reference}));
    client.send(request).await
}

/// Begins an import, which must be taken, and gives the LoRA's id.
pub async fn begin(client: &Client, reference: &str) -> String {
    let lora = import_of(client, reference).await.expect(202);
    assert_eq!(lora["status"], "importing", "{lora}");
    id_of(&lora)
}

/// Waits until a LoRA's bytes are on their way no more, and gives it.
pub async fn settled(client: &Client, id: &str) -> Value {
    lora_when(client, id, "an end of the transfer", |lora| {
        lora["status"] == "ready" || lora["status"] == "failed"
    })
    .await
}

/// Waits until a LoRA is ready, and gives it.
pub async fn ready(client: &Client, id: &str) -> Value {
    let lora = settled(client, id).await;
    assert_eq!(lora["status"], "ready", "{lora}");
    assert_eq!(lora["error"], Value::Null, "{lora}");
    lora
}

/// Waits until something is true of a LoRA, and gives it.
pub async fn lora_when(
    client: &Client,
    id: &str,
    what: &str,
    is_so: impl Fn(&Value) -> bool + Send + Sync,
) -> Value {
    let mut last = Value::Null;
    wait_until(what, PATIENCE, async || {
        last = client.get(&format!("/loras/{id}")).await.expect(200);
        is_so(&last)
    })
    .await;
    last
}

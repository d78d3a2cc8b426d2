use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ports::{RemoteError, RemoteFile, RemoteReader, RemoteToken};
use atelier_drive::{DriveCredentials, DriveOptions, DriveVariables, GoogleDrive};
use atelier_testkit::ManualClock;
use atelier_testkit::drive_double::{Content, DriveDouble, DriveFile};
use futures_util::StreamExt as _;
use tokio::runtime::Handle;

/// The file of most tests.
pub(crate) const ID: &str = "1AbCdEfGhIjKlMnOpQrStUvWxYz012345";

/// How many bytes it has.
pub(crate) const SIZE: u64 = 300_000;

/// A Drive, and the time.
pub(crate) struct Site {
    pub(crate) double: DriveDouble,
    pub(crate) clock: Arc<ManualClock>,
}

impl Site {
    /// With one file.
    pub(crate) fn new() -> Self {
        let double = DriveDouble::start().unwrap();
        double.put(DriveFile::blob(ID, "style.safetensors", content()));
        Self {
            double,
            clock: Arc::new(ManualClock::default()),
        }
    }

    /// Impatient, and without credentials.
    pub(crate) fn options(&self) -> DriveOptions {
        DriveOptions {
            api_base_url: self.double.api_base_url(),
            token_url: self.double.token_url(),
            retry_pause: Duration::from_millis(2),
            ..DriveOptions::default()
        }
    }

    pub(crate) fn drive_with(&self, options: DriveOptions) -> GoogleDrive {
        GoogleDrive::new(options, Arc::clone(&self.clock) as _, Handle::current()).unwrap()
    }

    /// With credentials that the double knows.
    pub(crate) fn drive(&self) -> GoogleDrive {
        self.drive_as(&self.double.gdoc_token())
    }

    pub(crate) fn drive_as(&self, gdoc_token: &str) -> GoogleDrive {
        self.drive_from(&DriveVariables {
            gdoc_token: Some(gdoc_token),
            ..DriveVariables::default()
        })
    }

    pub(crate) fn drive_from(&self, variables: &DriveVariables<'_>) -> GoogleDrive {
        self.drive_with(DriveOptions {
            credentials: DriveCredentials::parse(variables).unwrap(),
            ..self.options()
        })
    }
}

/// What the file of most tests holds.
pub(crate) fn content() -> Content {
    Content::patterned("head", SIZE)
}

/// All bytes of some content.
pub(crate) fn all(content: &Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < content.size_bytes() {
        bytes.extend(content.read(bytes.len() as u64, u64::MAX));
    }
    bytes
}

/// Reads a download to its end or to what breaks it off.
pub(crate) async fn read(reader: &mut RemoteReader) -> (Vec<u8>, Option<RemoteError>) {
    let mut received = Vec::new();
    while let Some(chunk) = reader.bytes.next().await {
        match chunk {
            Ok(chunk) => received.extend(chunk),
            Err(error) => return (received, Some(error)),
        }
    }
    (received, None)
}

pub(crate) fn lent(token: &str) -> Option<RemoteToken> {
    RemoteToken::parse(token)
}

pub(crate) fn size_of(file: &RemoteFile) -> u64 {
    file.size_bytes.unwrap()
}

/// The text of an error and of everything behind it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

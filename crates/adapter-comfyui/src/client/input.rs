//! Pictures on their way into a backend's input folder.

use atelier_domain::input::InputPath;
use atelier_domain::ports::{ByteStream, ComfyError, Source};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, HeaderValue};
use reqwest::{Body, Response, StatusCode};
use serde::Deserialize;

use super::backend::Backend;

/// The folder that is meant, as ComfyUI calls it.
const FOLDER: &str = "input";

/// A picture, and where it is to stand.
pub(super) struct InputUpload {
    pub(super) path: InputPath,
    pub(super) size_bytes: u64,
    pub(super) bytes: ByteStream<Source>,
    /// What stands between the fields of the form: no picture holds it but by chance.
    pub(super) boundary: String,
}

/// What stands at a path of the input folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A file of so many bytes, where the backend says.
    File(Option<u64>),
}

impl Backend {
    /// Paths are made from the content, so what is there in the right size is left alone, and
    /// what is there in another one broke off and is mended.
    pub(crate) async fn place_input(&self, upload: InputUpload) -> Result<(), ComfyError> {
        let (path, size_bytes) = (upload.path.clone(), upload.size_bytes);
        let found = self.look_at_input(&path).await?;
        if found == Found::File(Some(size_bytes)) {
            return Ok(());
        }
        // Another one may be at the same file at this moment: only what is broken is overwritten,
        // or a prompt could read half of it.
        let overwrite = matches!(found, Found::File(Some(_)));
        let placed = self.upload_input(upload, overwrite).await?;
        if placed.is_at(&path) {
            return Ok(());
        }
        // The name was taken by other bytes: perhaps by a half of the same ones, which are whole by now.
        if self.look_at_input(&path).await? == Found::File(Some(size_bytes)) {
            return Ok(());
        }
        Err(ComfyError::Protocol(
            "an input file was put elsewhere than asked for".to_owned(),
        ))
    }

    async fn look_at_input(&self, path: &InputPath) -> Result<Found, ComfyError> {
        let mut url = self.transport.url(&["view"]);
        url.query_pairs_mut()
            .append_pair("filename", path.file())
            .append_pair("subfolder", path.folder())
            .append_pair("type", FOLDER);
        let response = self.transport.look(url).await?;
        Ok(match response.status() {
            StatusCode::OK => Found::File(told_length(&response)),
            _ => Found::Nothing,
        })
    }

    async fn upload_input(
        &self,
        upload: InputUpload,
        overwrite: bool,
    ) -> Result<Placed, ComfyError> {
        let form = Form::of(&upload, overwrite);
        let size_bytes = upload.size_bytes;
        let content_type = HeaderValue::from_str(&form.content_type)
            .map_err(|_invalid| ComfyError::Protocol("no form can be made".to_owned()))?;
        let length = form.length(size_bytes);
        let body = Body::wrap_stream(form.around(upload.bytes));
        let answer = self
            .transport
            .upload(
                "the answer to an input file",
                &["upload", "image"],
                content_type,
                length,
                body,
            )
            .await?;
        if answer.status == StatusCode::PAYLOAD_TOO_LARGE {
            return Err(ComfyError::Protocol(format!(
                "an input file of {size_bytes} bytes is more than the backend takes"
            )));
        }
        answer.json()
    }
}

/// The length that a `HEAD` tells; the client itself knows that of the body alone, which is none.
fn told_length(response: &Response) -> Option<u64> {
    let length = response.headers().get(CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

/// Where a backend says that it put a file.
#[derive(Debug, Deserialize)]
struct Placed {
    name: String,
    #[serde(default)]
    subfolder: String,
    #[serde(rename = "type")]
    folder: String,
}

impl Placed {
    fn is_at(&self, path: &InputPath) -> bool {
        self.folder == FOLDER && self.name == path.file() && self.subfolder == path.folder()
    }
}

/// The form around a picture: `multipart/form-data` by RFC 7578.
struct Form {
    content_type: String,
    head: String,
    tail: String,
}

impl Form {
    fn of(upload: &InputUpload, overwrite: bool) -> Self {
        let InputUpload { boundary, path, .. } = upload;
        let field = |name: &str, value: &str| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
        };
        let fields = [
            field("type", FOLDER),
            field("subfolder", path.folder()),
            field("overwrite", if overwrite { "true" } else { "false" }),
        ];
        // Both names are of our own making: hexadecimal digits and an extension.
        let file = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"image\"; filename=\"{}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n",
            path.file()
        );
        Self {
            content_type: format!("multipart/form-data; boundary={boundary}"),
            head: fields.concat() + &file,
            tail: format!("\r\n--{boundary}--\r\n"),
        }
    }

    /// How many bytes the form has with a picture of so many.
    fn length(&self, size_bytes: u64) -> u64 {
        let around = u64::try_from(self.head.len() + self.tail.len()).unwrap_or(u64::MAX);
        size_bytes.saturating_add(around)
    }

    fn around(
        self,
        bytes: ByteStream<Source>,
    ) -> impl futures_util::Stream<Item = Result<Bytes, Source>> + Send {
        let once = |text: String| stream::iter([Ok(Bytes::from(text))]);
        once(self.head).chain(bytes).chain(once(self.tail))
    }
}

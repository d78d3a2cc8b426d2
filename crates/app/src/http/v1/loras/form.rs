//! The form in which a LoRA comes, read while it comes.

use actix_multipart::{Field, Multipart};
use actix_web::http::header::HeaderMap;
use actix_web::web::{BytesMut, Payload};
use atelier_application::loras::{LoraDetails, LoraUpload, UploadLora, Uploaded};
use atelier_domain::actor::Actor;
use atelier_domain::text::{Description, Name, Tags};
use atelier_domain::validation::{Violation, pointer_token};
use tokio::runtime::Handle;
use tracing::Instrument as _;

use crate::http::api::Api;
use crate::http::form::{MAX_FIELDS, Pieces, filename};
use crate::http::problem::Problem;
use crate::http::query::flag;

/// The most bytes of all texts of a form together: the largest description has
/// 40 000, the largest tags have 8 000.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// A form being read. Dropped, because its sender is gone, it gives the upload
/// up.
pub(super) struct UploadForm<'a> {
    actor: Actor,
    pieces: Pieces<'a>,
    upload_lora: &'a UploadLora,
    io: &'a Handle,
    upload: Option<AbortOnDrop>,
    details: LoraDetails,
    replaces: Option<bool>,
    text_bytes: usize,
    violations: Vec<Violation>,
}

impl<'a> UploadForm<'a> {
    /// `replaces` is what the address says of it.
    pub(super) fn new(api: &'a Api, actor: Actor, replaces: Option<bool>) -> Self {
        Self {
            actor,
            pieces: Pieces::of(api),
            upload_lora: api.upload_lora(),
            io: api.io(),
            upload: None,
            details: LoraDetails::default(),
            replaces,
            text_bytes: 0,
            violations: Vec::new(),
        }
    }

    /// Reads all fields, in whatever order they come.
    ///
    /// # Errors
    /// Whatever can be told before the end is told then: nobody sends
    /// gigabytes for a typing error.
    pub(super) async fn read(
        &mut self,
        headers: &HeaderMap,
        payload: Payload,
    ) -> Result<(), Problem> {
        let read = self.fields(headers, payload).await;
        if read.is_err() {
            // Before the answer, so that whoever tries again finds the name free.
            self.give_up().await;
        }
        read
    }

    async fn give_up(&mut self) {
        if let Some(upload) = self.upload.take().and_then(|mut upload| upload.take()) {
            upload.abort().await;
        }
    }

    async fn fields(&mut self, headers: &HeaderMap, payload: Payload) -> Result<(), Problem> {
        let mut form = Multipart::new(headers, payload);
        let mut fields = 0_usize;
        while let Some(field) = self.pieces.next(&mut form).await? {
            fields += 1;
            if fields > MAX_FIELDS {
                return Err(Problem::invalid(
                    "",
                    format!("must have at most {MAX_FIELDS} fields"),
                ));
            }
            self.field(field).await?;
        }
        Ok(())
    }

    async fn field(&mut self, mut field: Field) -> Result<(), Problem> {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "file" => self.file(field).await,
            "name" => {
                let text = self.text(&mut field, &name).await?;
                self.check(&name, Name::parse(&text).err());
                let earlier = self.details.name.replace(text);
                self.once(&name, earlier.as_ref())
            }
            "description" => {
                let text = self.text(&mut field, &name).await?;
                self.check(&name, Description::parse(&text).err());
                let earlier = self.details.description.replace(text);
                self.once(&name, earlier.as_ref())
            }
            "tags" => {
                let text = self.text(&mut field, &name).await?;
                let words = text
                    .split(',')
                    .map(str::trim)
                    .filter(|word| !word.is_empty());
                self.details.tags.extend(words.map(str::to_owned));
                if let Err((index, fault)) = Tags::parse(&self.details.tags) {
                    let pointer = index.map_or(name, |index| format!("tags/{index}"));
                    self.check(&pointer, Some(fault));
                }
                self.refuse_invalid()
            }
            "replace" => self.replace(&mut field, &name).await,
            unknown => Err(Problem::invalid(
                format!("/{}", pointer_token(unknown)),
                "is not a field of this form; it has replace, file, name, description and tags",
            )),
        }
    }

    /// Whether the file may take the place of one of its name must be known when
    /// it begins.
    async fn replace(&mut self, field: &mut Field, name: &str) -> Result<(), Problem> {
        let text = self.text(field, name).await?;
        if self.upload.is_some() {
            let detail = "must stand before the file, or in the address as ?replace=true";
            return Err(Problem::invalid("/replace", detail));
        }
        let replaces = flag(text.trim());
        if replaces.is_none() {
            self.check(name, Some("must be true or false"));
        }
        let earlier = std::mem::replace(&mut self.replaces, replaces);
        self.check(name, earlier.map(|_| "is there more than once"));
        Ok(())
    }

    fn check(&mut self, field: &str, fault: Option<impl ToString>) {
        if let Some(fault) = fault {
            self.violations
                .push(Violation::new(format!("/{field}"), fault.to_string()));
        }
    }

    fn once(&mut self, field: &str, earlier: Option<&String>) -> Result<(), Problem> {
        self.check(field, earlier.map(|_| "is there more than once"));
        self.refuse_invalid()
    }

    /// With a file on its way, faults are told at once; before it, they are
    /// collected until it begins.
    fn refuse_invalid(&mut self) -> Result<(), Problem> {
        if self.upload.is_none() || self.violations.is_empty() {
            Ok(())
        } else {
            Err(Problem::validation(std::mem::take(&mut self.violations)))
        }
    }

    async fn file(&mut self, mut field: Field) -> Result<(), Problem> {
        if self.upload.is_some() {
            return Err(Problem::invalid("/file", "is there more than once"));
        }
        if !self.violations.is_empty() {
            return Err(Problem::validation(std::mem::take(&mut self.violations)));
        }
        let Some(filename) = filename(&field) else {
            return Err(Problem::invalid(
                "/file",
                "has no file name; send it as a file, as in curl's -F file=@style.safetensors",
            ));
        };
        let upload = self
            .upload_lora
            .begin(
                self.actor.clone(),
                &filename,
                None,
                self.replaces.unwrap_or_default(),
            )
            .await?;
        self.upload = Some(AbortOnDrop::new(upload, self.io.clone()));
        while let Some(chunk) = self.pieces.next(&mut field).await? {
            if let Some(upload) = &mut self.upload {
                upload.write(chunk).await?;
            }
        }
        Ok(())
    }

    async fn text(&mut self, field: &mut Field, name: &str) -> Result<String, Problem> {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = self.pieces.next(field).await? {
            self.text_bytes += chunk.len();
            if self.text_bytes > MAX_TEXT_BYTES {
                return Err(Problem::invalid(
                    format!("/{name}"),
                    format!(
                        "is too long: the texts of a form have at most {MAX_TEXT_BYTES} bytes together"
                    ),
                ));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes.to_vec())
            .map_err(|_not_utf8| Problem::invalid(format!("/{name}"), "must be UTF-8"))
    }

    /// Makes the LoRA of it.
    ///
    /// This goes on, as a task of its own, even if the sender is gone: the whole
    /// file is there.
    pub(super) async fn finish(mut self) -> Result<Uploaded, Problem> {
        let Some(upload) = self.upload.take().and_then(|mut upload| upload.take()) else {
            self.check("file", Some("is missing"));
            return Err(Problem::validation(self.violations));
        };
        let finishing = upload.finish(self.details).in_current_span();
        let uploaded = actix_web::rt::spawn(finishing)
            .await
            .map_err(Problem::internal)??;
        Ok(uploaded)
    }
}

/// An upload whose sender may go away at any await. What is stored so far is
/// thrown away then, on a runtime that outlives the request.
struct AbortOnDrop {
    upload: Option<LoraUpload>,
    io: Handle,
}

impl AbortOnDrop {
    fn new(upload: LoraUpload, io: Handle) -> Self {
        Self {
            upload: Some(upload),
            io,
        }
    }

    /// After an error the upload has cleaned up after itself.
    async fn write(&mut self, bytes: bytes::Bytes) -> Result<(), Problem> {
        let Some(upload) = &mut self.upload else {
            return Err(Problem::internal("an upload was written to after its end"));
        };
        let written = upload.write(bytes).await;
        if written.is_err() {
            self.upload = None;
        }
        Ok(written?)
    }

    fn take(&mut self) -> Option<LoraUpload> {
        self.upload.take()
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            drop(self.io.spawn(upload.abort().in_current_span()));
        }
    }
}

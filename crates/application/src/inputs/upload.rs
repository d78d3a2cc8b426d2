use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::InputId;
use atelier_domain::input::{Input, InputFilename, InputPath};
use atelier_domain::ports::{
    BlobError, BlobKey, BlobStore, BlobWriter, Clock, IdGen, InputRepo, RepoError,
};
use atelier_domain::validation::Violation;
use bytes::Bytes;
use tokio::time::sleep;
use tracing::Instrument as _;

use super::UploadInputError;
use super::receiving::{Received, Receiving};
use crate::allowance::Allowance;
use crate::opaque::opaque_debug;

/// How often the row is written while the database is away: the whole picture
/// is there, and it would be a pity.
const ADD_TRIES: u32 = 4;

/// Takes a picture in, piece by piece, in constant memory.
#[derive(Clone)]
pub struct UploadInput {
    /// Where it is listed.
    pub inputs: Arc<dyn InputRepo>,
    /// Where its bytes go.
    pub blobs: Arc<dyn BlobStore>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
    /// Names it.
    pub ids: Arc<dyn IdGen>,
    /// How many bytes a picture may have.
    pub max_bytes: u64,
    /// What one person may take up.
    pub allowance: Allowance,
}

opaque_debug!(UploadInput);

/// What became of an upload.
#[derive(Clone, Debug, PartialEq)]
pub enum UploadedInput {
    /// A new picture.
    New(Box<Input>),
    /// Nothing: the actor has these very bytes under this filename.
    Same(Box<Input>),
}

impl UploadInput {
    /// Begins to take a file of that name.
    ///
    /// # Errors
    /// [`UploadInputError::Invalid`] for the file's name.
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id()))]
    pub async fn begin(
        &self,
        actor: Actor,
        filename: &str,
    ) -> Result<InputUpload, UploadInputError> {
        let filename = InputFilename::parse(filename).map_err(|fault| {
            let detail = format!("the file's name {fault}");
            UploadInputError::Invalid(vec![Violation::new("/file", detail)])
        })?;
        let id = InputId::new(self.ids.new_id());
        let key = BlobKey::of_input(actor.user_id(), id);
        let writer = self.blobs.writer(&key).await?;
        Ok(InputUpload {
            parts: self.clone(),
            receiving: Receiving::new(self.max_bytes),
            writer: Writing(Some(writer)),
            actor,
            filename,
            id,
            key,
        })
    }
}

/// A picture being uploaded. Dropped, it leaves nothing behind.
pub struct InputUpload {
    parts: UploadInput,
    receiving: Receiving,
    writer: Writing,
    actor: Actor,
    filename: InputFilename,
    id: InputId,
    key: BlobKey,
}

impl fmt::Debug for InputUpload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InputUpload")
            .field("id", &self.id)
            .field("received_bytes", &self.receiving.received_bytes())
            .finish_non_exhaustive()
    }
}

impl InputUpload {
    /// Takes the next bytes, of any number; waits while the store is behind.
    ///
    /// # Errors
    /// What is no picture, or too large, is refused as soon as that is certain.
    /// After an error only [`InputUpload::abort`] makes sense.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), UploadInputError> {
        self.receiving.take(&bytes)?;
        if let Some(writer) = &mut self.writer.0 {
            writer.write(bytes).await?;
        }
        Ok(())
    }

    /// Throws away what came.
    pub async fn abort(mut self) {
        self.writer.abort().await;
    }

    /// Ends the file: from now on graphs may name it.
    ///
    /// # Errors
    /// [`UploadInputError::NotAPicture`] for one that was cut short,
    /// [`UploadInputError::Quota`] for one too many.
    ///
    /// # Cancellation
    /// Dropped at its very end, it may leave an object that nothing names; such
    /// objects are swept.
    pub async fn finish(self) -> Result<UploadedInput, UploadInputError> {
        let Self {
            parts,
            receiving,
            mut writer,
            actor,
            filename,
            id,
            key,
        } = self;
        let received = match received(&parts, receiving, &actor).await {
            Ok(received) => received,
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        };
        writer.finish(received.size_bytes).await?;
        let blobs = parts.blobs.as_ref();
        let input = input(&parts, &actor, id, filename, &key, &received);
        match add(parts.inputs.as_ref(), &actor, input).await {
            Ok(added) if added.id == id => {
                tracing::info!(input.id = %id, size_bytes = added.size_bytes, "took a picture in");
                Ok(UploadedInput::New(Box::new(added)))
            }
            Ok(same) => {
                delete(blobs, &key).await;
                Ok(UploadedInput::Same(Box::new(same)))
            }
            Err(error) => {
                // One whose answer was lost may have its row: then the object is
                // needed, and otherwise it is swept.
                if !matches!(error, RepoError::Unavailable(_)) {
                    delete(blobs, &key).await;
                }
                Err(error.into())
            }
        }
    }
}

async fn received(
    parts: &UploadInput,
    receiving: Receiving,
    actor: &Actor,
) -> Result<Received, UploadInputError> {
    let received = receiving.finish()?;
    parts.allowance.inputs(actor, received.size_bytes).await?;
    Ok(received)
}

/// An object being written. Dropped, it is thrown away, as far as a runtime is
/// there to do it; otherwise the store expires it.
struct Writing(Option<Box<dyn BlobWriter>>);

impl Writing {
    async fn finish(&mut self, size_bytes: u64) -> Result<(), BlobError> {
        let Some(writer) = self.0.take() else {
            return Ok(());
        };
        let stored = writer.finish().await?;
        if stored.size_bytes == size_bytes {
            return Ok(());
        }
        // It is swept: nothing names it.
        let detail = format!("stored {} of {size_bytes} bytes", stored.size_bytes);
        Err(BlobError::Backend(detail.into()))
    }

    async fn abort(&mut self) {
        if let Some(writer) = self.0.take() {
            abort(writer).await;
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let Some(writer) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            drop(runtime.spawn(abort(writer).in_current_span()));
        }
    }
}

fn input(
    parts: &UploadInput,
    actor: &Actor,
    id: InputId,
    filename: InputFilename,
    key: &BlobKey,
    received: &Received,
) -> Input {
    let owner = actor.user_id();
    Input {
        id,
        user_id: owner,
        filename,
        format: received.format,
        size_bytes: received.size_bytes,
        sha256: received.sha256,
        width: received.width,
        height: received.height,
        comfyui_path: InputPath::of(owner, &received.sha256, received.format),
        blob_key: key.clone(),
        created_at: parts.clock.now(),
    }
}

/// Adding is done once however often it is tried: the same bytes under the same
/// name are there already.
async fn add(inputs: &dyn InputRepo, actor: &Actor, input: Input) -> Result<Input, RepoError> {
    let mut pause = Duration::from_millis(100);
    for _ in 1..ADD_TRIES {
        match inputs.add(actor, input.clone()).await {
            Err(RepoError::Unavailable(_)) => {
                sleep(pause).await;
                pause *= 2;
            }
            answer => return answer,
        }
    }
    inputs.add(actor, input).await
}

async fn abort(writer: Box<dyn BlobWriter>) {
    if let Err(error) = writer.abort().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a broken-off object was not thrown away; the store will expire it"
        );
    }
}

async fn delete(blobs: &dyn BlobStore, key: &BlobKey) {
    if let Err(error) = blobs.delete(key).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "an object that nothing names was not deleted; it will be swept"
        );
    }
}

use std::sync::Arc;

use atelier_domain::ports::{
    BlobError, BlobStore, ByteRange, RemoteError, RemoteFile, RemoteSource, RemoteToken,
    UploadPiece,
};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};

use super::outcome::Trouble;

/// Why a stream of bytes broke off.
#[derive(Debug)]
pub(super) enum Break {
    /// It may go on where it broke off.
    Pause(Trouble),
    /// It has to begin anew: the bytes are other ones now.
    Changed,
    /// It is over.
    End(Trouble),
}

/// Where the bytes of a transfer come from.
pub(super) enum Origin<'a> {
    Remote {
        source: &'a Arc<dyn RemoteSource>,
        file: RemoteFile,
        token: Option<RemoteToken>,
    },
    Pieces {
        blobs: &'a Arc<dyn BlobStore>,
        pieces: &'a [UploadPiece],
    },
}

pub(super) type Opened<'a> = BoxStream<'a, Result<Bytes, Break>>;

impl Origin<'_> {
    /// How many bytes there are in all, where that is known.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        match self {
            Self::Remote { file, .. } => file.size_bytes,
            Self::Pieces { pieces, .. } => Some(pieces.iter().map(|piece| piece.size_bytes).sum()),
        }
    }

    /// Opens the bytes at an offset. Where the source knows no offsets, what was
    /// had already counts as changed.
    pub(super) async fn open(&self, offset: u64) -> Result<Opened<'_>, Break> {
        match self {
            Self::Remote {
                source,
                file,
                token,
            } => {
                let opened = source.download(file, offset, token.clone()).await;
                let reader = opened.map_err(remote)?;
                let size_differs = reader
                    .size_bytes
                    .zip(file.size_bytes)
                    .is_some_and(|(now, then)| now != then);
                if reader.offset != offset || size_differs {
                    return Err(Break::Changed);
                }
                Ok(reader.bytes.map(|bytes| bytes.map_err(remote)).boxed())
            }
            Self::Pieces { blobs, pieces } => {
                let from = pieces
                    .iter()
                    .filter(move |piece| piece.starts_at + piece.size_bytes > offset);
                let streams = futures_util::stream::iter(from).then(move |piece| async move {
                    match open_piece(blobs.as_ref(), piece, offset).await {
                        Ok(bytes) => bytes,
                        Err(broken) => futures_util::stream::iter([Err(broken)]).boxed(),
                    }
                });
                Ok(streams.flatten().boxed())
            }
        }
    }

    /// Looks at the file anew, after it changed.
    pub(super) async fn look_again(&mut self) -> Result<(), Break> {
        if let Self::Remote {
            source,
            file,
            token,
        } = self
        {
            let reference = reference(file);
            let fresh = source.metadata(&reference, token.clone()).await;
            *file = fresh.map_err(remote)?;
        }
        Ok(())
    }
}

/// What names the file of these metadata.
fn reference(file: &RemoteFile) -> String {
    use atelier_domain::lora::LoraSource;
    match (&file.source, &file.resource_key) {
        (LoraSource::GoogleDrive { file_id }, None) => file_id.clone(),
        (LoraSource::GoogleDrive { file_id }, Some(key)) => {
            format!("https://drive.google.com/file/d/{file_id}/view?resourcekey={key}")
        }
        (LoraSource::Url { url }, _) => url.clone(),
        (LoraSource::Upload, _) => String::new(),
    }
}

async fn open_piece(
    blobs: &dyn BlobStore,
    piece: &UploadPiece,
    offset: u64,
) -> Result<Opened<'static>, Break> {
    let skipped = offset.saturating_sub(piece.starts_at);
    let range = ByteRange {
        start: skipped,
        end: piece.size_bytes,
    };
    let reader = blobs.reader(&piece.blob_key, Some(range)).await;
    let reader = reader.map_err(stored)?;
    if reader.size_bytes != piece.size_bytes {
        return Err(Break::End(Trouble::PieceLost));
    }
    Ok(reader.bytes.map(|bytes| bytes.map_err(stored)).boxed())
}

fn stored(error: BlobError) -> Break {
    match error {
        BlobError::NotFound(_) => Break::End(Trouble::PieceLost),
        error @ BlobError::Unavailable(_) => Break::Pause(error.into()),
        error => Break::End(error.into()),
    }
}

fn remote(error: RemoteError) -> Break {
    match error {
        RemoteError::Changed => Break::Changed,
        error @ RemoteError::Unavailable { .. } => Break::Pause(Trouble::Remote(error)),
        error => Break::End(Trouble::Remote(error)),
    }
}

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use atelier_domain::ports::{BlobError, ByteStream};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::runtime::Handle;

/// How much is read at a time: `object_store` itself reads 8 KiB, and each
/// read is a hop to another thread.
const CHUNK: usize = 1024 * 1024;

struct Position {
    file: Arc<File>,
    next: u64,
    end: u64,
    runtime: Handle,
}

/// Reads the bytes `start..end` of a file.
pub(crate) fn stream_of(
    file: File,
    start: u64,
    end: u64,
    runtime: Handle,
) -> ByteStream<BlobError> {
    let position = Position {
        file: Arc::new(file),
        next: start,
        end,
        runtime,
    };
    Box::pin(stream::try_unfold(position, |mut position| async move {
        let left = position.end.saturating_sub(position.next);
        if left == 0 {
            return Ok(None);
        }
        let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let (file, offset) = (Arc::clone(&position.file), position.next);
        let chunk = position
            .runtime
            .spawn_blocking(move || read_at(&file, offset, length))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| BlobError::Backend(Box::new(error)))?;
        position.next += length as u64;
        Ok(Some((chunk, position)))
    }))
}

fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut chunk = BytesMut::zeroed(length);
    file.read_exact_at(&mut chunk, offset)?;
    Ok(chunk.freeze())
}

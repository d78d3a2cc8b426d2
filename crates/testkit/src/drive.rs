use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atelier_domain::ports::{DriveError, DriveFile, DriveReader, DriveSource};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::Outage;
use crate::build::sha256_of;

/// How many bytes a chunk of a download has.
const CHUNK_BYTES: usize = 1_021;

/// A Google Drive with the files that a test puts there. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FakeDrive {
    files: Arc<Mutex<HashMap<String, Stored>>>,
    outage: Outage,
}

#[derive(Clone, Debug)]
struct Stored {
    file: DriveFile,
    bytes: Bytes,
    breaks_at: Option<u64>,
}

impl FakeDrive {
    /// An empty Drive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a file there, in place of one of the same id.
    pub fn put(&self, file_id: &str, name: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let file = DriveFile {
            file_id: file_id.to_owned(),
            name: name.to_owned(),
            size_bytes: bytes.len() as u64,
            revision: Some(sha256_of(&bytes).short8()),
            md5: None,
            sha256: Some(sha256_of(&bytes)),
        };
        let stored = Stored {
            file,
            bytes,
            breaks_at: None,
        };
        self.files
            .lock()
            .unwrap()
            .insert(file_id.to_owned(), stored);
    }

    /// Makes the next download of a file break off before byte `offset`.
    pub fn break_next_download_at(&self, file_id: &str, offset: u64) {
        if let Some(stored) = self.files.lock().unwrap().get_mut(file_id) {
            stored.breaks_at = Some(offset);
        }
    }

    /// Makes Drive unreachable.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    fn reachable(&self) -> Result<(), DriveError> {
        match self.outage.source() {
            Some(source) => Err(DriveError::Unavailable(source)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl DriveSource for FakeDrive {
    async fn metadata(&self, file_id: &str) -> Result<DriveFile, DriveError> {
        self.reachable()?;
        let files = self.files.lock().unwrap();
        let stored = files.get(file_id).ok_or(DriveError::NotFound)?;
        Ok(stored.file.clone())
    }

    async fn download(&self, file: &DriveFile, offset: u64) -> Result<DriveReader, DriveError> {
        self.reachable()?;
        let (bytes, breaks_at) = {
            let mut files = self.files.lock().unwrap();
            let stored = files.get_mut(&file.file_id).ok_or(DriveError::NotFound)?;
            (stored.bytes.clone(), stored.breaks_at.take())
        };
        let whole = bytes.len();
        let begin = usize::try_from(offset).unwrap_or(whole).min(whole);
        let end = breaks_at
            .and_then(|at| usize::try_from(at).ok())
            .map_or(whole, |at| at.clamp(begin, whole));
        let mut chunks: Vec<Result<Bytes, DriveError>> = (begin..end)
            .step_by(CHUNK_BYTES)
            .map(|at| Ok(bytes.slice(at..end.min(at + CHUNK_BYTES))))
            .collect();
        if breaks_at.is_some() {
            chunks.push(Err(DriveError::Unavailable(
                "the test broke the download off".into(),
            )));
        }
        Ok(DriveReader {
            bytes: stream::iter(chunks).boxed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_download_goes_on_where_it_broke_off() {
        let drive = FakeDrive::new();
        let content: Vec<u8> = (0..5_000_u32).map(|at| at.to_le_bytes()[0]).collect();
        drive.put("id", "a.safetensors", content.clone());
        drive.break_next_download_at("id", 3_000);
        let file = drive.metadata("id").await.unwrap();

        let mut received = Vec::new();
        for _attempt in 0..2 {
            let offset = received.len() as u64;
            let mut reader = drive.download(&file, offset).await.unwrap();
            while let Some(Ok(chunk)) = reader.bytes.next().await {
                received.extend(chunk);
            }
        }

        assert_eq!(received, content);
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_not_found() {
        let drive = FakeDrive::new();

        assert!(matches!(
            drive.metadata("none").await,
            Err(DriveError::NotFound)
        ));
    }
}

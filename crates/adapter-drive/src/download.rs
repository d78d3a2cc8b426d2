//! A file's bytes: `reference/platform/PROTOCOLS.md` section 4.4.

use std::sync::Arc;

use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{ByteStream, RemoteError, RemoteFile, RemoteReader, RemoteToken};
use futures_util::{StreamExt as _, stream};
use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName};
use reqwest::{Response, StatusCode};
use thiserror::Error;

use crate::reference::{FileReference, is_id, is_resource_key};
use crate::requests::{Requests, Wanted};
use crate::transport::Trouble;

#[derive(Debug, Error)]
enum Nonsense {
    #[error("status {0} came with the bytes of a file")]
    Status(u16),
    #[error("a page came instead of the bytes of a file")]
    Page,
    #[error("the bytes of the file came in an encoding that was not asked for")]
    Encoding,
    #[error("another range than the one that was asked for came")]
    Range,
    #[error("more bytes came than the file has")]
    TooMany,
}

impl From<Nonsense> for RemoteError {
    fn from(nonsense: Nonsense) -> Self {
        Self::Backend(Box::new(nonsense))
    }
}

/// What an answer holds of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    begin: u64,
    /// How many bytes the whole file has.
    size: Option<u64>,
}

/// Begins a download.
pub(crate) async fn download(
    requests: Arc<Requests>,
    file: RemoteFile,
    offset: u64,
    lent: Option<RemoteToken>,
) -> Result<RemoteReader, RemoteError> {
    let reference = reference(&file)?;
    if offset > 0 {
        let found = requests.file(reference.clone(), lent.as_ref()).await?;
        if is_another(&found, &file) {
            return Err(RemoteError::Changed);
        }
        if file.size_bytes == Some(offset) {
            return Ok(RemoteReader {
                offset,
                size_bytes: file.size_bytes,
                bytes: stream::empty().boxed(),
            });
        }
    }
    let mut attempts = requests.attempts(lent.as_ref())?;
    let mut begin = offset;
    let mut response = attempts.response(&reference, Wanted::Bytes(begin)).await?;
    if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && begin > 0 {
        begin = 0;
        response = attempts.response(&reference, Wanted::Bytes(begin)).await?;
    }
    let extent = extent(&response, begin)?;
    if let (Some(told), Some(known)) = (extent.size, file.size_bytes)
        && told != known
    {
        return Err(RemoteError::Changed);
    }
    let size_bytes = extent.size.or(file.size_bytes);
    Ok(RemoteReader {
        offset: extent.begin,
        size_bytes,
        bytes: flow(
            Arc::clone(&requests),
            response,
            size_bytes.map(|size| size.saturating_sub(extent.begin)),
        ),
    })
}

/// Whether metadata tell apart two states of a file. What one of them does not
/// tell says nothing.
fn is_another(found: &RemoteFile, known: &RemoteFile) -> bool {
    fn differ<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
        one.zip(other).is_some_and(|(one, other)| one != other)
    }
    differ(found.revision.as_ref(), known.revision.as_ref())
        || differ(found.size_bytes.as_ref(), known.size_bytes.as_ref())
        || differ(found.md5.as_ref(), known.md5.as_ref())
        || differ(found.sha256.as_ref(), known.sha256.as_ref())
}

fn reference(file: &RemoteFile) -> Result<FileReference, RemoteError> {
    match &file.source {
        LoraSource::GoogleDrive { file_id } if is_id(file_id) => Ok(FileReference {
            id: file_id.clone(),
            resource_key: file.resource_key.clone().filter(|key| is_resource_key(key)),
        }),
        LoraSource::GoogleDrive { .. } | LoraSource::Upload | LoraSource::Url { .. } => Err(
            RemoteError::Invalid("this file does not lie on Google Drive".to_owned()),
        ),
    }
}

fn extent(response: &Response, asked: u64) -> Result<Extent, RemoteError> {
    let whole = match response.status() {
        StatusCode::OK => true,
        StatusCode::PARTIAL_CONTENT => false,
        other => return Err(Nonsense::Status(other.as_u16()).into()),
    };
    if header(response, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html")) {
        return Err(Nonsense::Page.into());
    }
    if header(response, &CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Nonsense::Encoding.into());
    }
    if whole {
        return Ok(Extent {
            begin: 0,
            size: header(response, &CONTENT_LENGTH).and_then(|length| length.parse().ok()),
        });
    }
    header(response, &CONTENT_RANGE)
        .and_then(content_range)
        .filter(|extent| extent.begin == asked)
        .ok_or_else(|| Nonsense::Range.into())
}

/// Reads `bytes 7-9/10` or `bytes 7-9/*`.
fn content_range(text: &str) -> Option<Extent> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (begin, last) = range.split_once('-')?;
    let (begin, last): (u64, u64) = (begin.parse().ok()?, last.parse().ok()?);
    let size = match size {
        "*" => None,
        size => Some(size.parse::<u64>().ok()?),
    };
    let fits = begin <= last && size.is_none_or(|size| last < size);
    fits.then_some(Extent { begin, size })
}

fn header<'answer>(response: &'answer Response, name: &HeaderName) -> Option<&'answer str> {
    response.headers().get(name)?.to_str().ok()
}

struct Flow {
    requests: Arc<Requests>,
    response: Response,
    received: u64,
    announced: Option<u64>,
}

/// The bytes of an answer, which must be as many as were announced.
fn flow(
    requests: Arc<Requests>,
    response: Response,
    announced: Option<u64>,
) -> ByteStream<RemoteError> {
    let flow = Flow {
        requests,
        response,
        received: 0,
        announced,
    };
    stream::unfold(Some(flow), |flow| async move {
        let mut flow = flow?;
        match flow.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(flow))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

impl Flow {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, RemoteError> {
        let transport = &self.requests.transport;
        let chunk = transport
            .file_bytes(&mut self.response)
            .await
            .map_err(broken_off)?;
        let Some(chunk) = chunk else {
            return match self.announced {
                Some(announced) if self.received < announced => Err(broken_off(Trouble::Short {
                    received: self.received,
                    announced,
                })),
                _ => Ok(None),
            };
        };
        self.received = self
            .received
            .saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if self
            .announced
            .is_some_and(|announced| self.received > announced)
        {
            return Err(Nonsense::TooMany.into());
        }
        Ok(Some(chunk))
    }
}

fn broken_off(trouble: Trouble) -> RemoteError {
    RemoteError::Unavailable {
        retry_after: None,
        source: Box::new(trouble),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        let extent = |begin, size| Some(Extent { begin, size });

        assert_eq!(content_range("bytes 7-9/10"), extent(7, Some(10)));
        assert_eq!(content_range("bytes 7-9/*"), extent(7, None));
        for wrong in [
            "",
            "bytes",
            "bytes */10",
            "bytes 7-9",
            "bytes 9-7/10",
            "bytes 7-10/10",
            "bytes -9/10",
            "items 7-9/10",
            "bytes 7-9/ten",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }
}

use std::pin::Pin;
use std::time::Duration;

use atelier_domain::ports::{ByteStream, RemoteError};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use reqwest::Response;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::trouble::{Trouble, nonsense};

/// How many bytes are to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// So many, where that is known.
    pub(crate) count: Option<u64>,
    /// Whether the answer said so itself, not what was known of the file.
    pub(crate) announced: bool,
    /// How many bytes of the file come after these, and are not sent.
    pub(crate) left_out: u64,
}

struct Flow {
    bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    expected: Expected,
    stall: Duration,
    io: Handle,
}

/// The bytes of an answer: never more than are expected, an error if they are
/// fewer, and no silence that lasts longer than `stall`.
pub(crate) fn bytes_of(
    response: Response,
    expected: Expected,
    stall: Duration,
    io: Handle,
) -> ByteStream<RemoteError> {
    let flow = Flow {
        bytes: Box::pin(response.bytes_stream()),
        expected,
        stall,
        io,
    };
    let stream = stream::unfold(Some(flow), |flow| async move {
        let mut flow = flow?;
        match flow.next().await {
            Some(Ok(chunk)) => Some((Ok(chunk), Some(flow))),
            Some(Err(error)) => Some((Err(error), None)),
            None => None,
        }
    });
    Box::pin(stream.fuse())
}

impl Flow {
    async fn next(&mut self) -> Option<Result<Bytes, RemoteError>> {
        let waiting = {
            // Whoever reads may do it outside of any runtime that has timers.
            let _io = self.io.enter();
            timeout(self.stall, self.bytes.next())
        };
        match waiting.await {
            Ok(Some(Ok(chunk))) => Some(self.count(chunk)),
            Ok(Some(Err(error))) => Some(Err(RemoteError::Unavailable {
                retry_after: None,
                source: Box::new(error.without_url()),
            })),
            Ok(None) => self
                .is_short()
                .then(|| Err(Trouble::CutShort.unavailable())),
            Err(_elapsed) => Some(Err(Trouble::Stalled(self.stall).unavailable())),
        }
    }

    fn count(&mut self, chunk: Bytes) -> Result<Bytes, RemoteError> {
        if let Some(count) = &mut self.expected.count {
            let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            *count = match count.checked_sub(length) {
                Some(left) => left,
                None if self.expected.announced => {
                    return Err(nonsense("more bytes than it said"));
                }
                None => return Err(RemoteError::Changed),
            };
        }
        Ok(chunk)
    }

    fn is_short(&self) -> bool {
        self.expected.count.is_some_and(|left| left > 0) || self.expected.left_out > 0
    }
}

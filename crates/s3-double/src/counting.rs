use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::gate::Gate;

/// A body that counts the bytes that the connection takes out of it, and that
/// stops or breaks off where the gate says so.
pub(crate) struct Counting {
    inner: s3s::Body,
    gate: Gate,
    sent_bytes: u64,
    /// Whether it is the answer to a GET.
    gated: bool,
    held: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Counting {
    pub(crate) fn new(inner: s3s::Body, gate: Gate, gated: bool) -> Self {
        Self {
            inner,
            gate,
            sent_bytes: 0,
            gated,
            held: None,
        }
    }

    /// Is ready when the body may go on, and says whether it breaks off instead.
    fn poll_gate(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        if !self.gated {
            return Poll::Ready(false);
        }
        if self.held.is_none() && self.gate.holds_body(self.sent_bytes) {
            let gate = self.gate.clone();
            self.held = Some(Box::pin(gate.wait_for_body(self.sent_bytes)));
        }
        if let Some(held) = &mut self.held {
            ready!(held.as_mut().poll(context));
            self.held = None;
        }
        Poll::Ready(self.gate.takes_cut(self.sent_bytes))
    }
}

impl Body for Counting {
    type Data = Bytes;
    type Error = <s3s::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if ready!(self.poll_gate(context)) {
            let cut = io::Error::other("the test cuts this body");
            return Poll::Ready(Some(Err(cut.into())));
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.sent_bytes += bytes;
            self.gate.count_sent(bytes);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

use std::io;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Response, StatusCode};
use serde_json::Value;

use super::content::Content;
use super::fault::Fault;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What is to be sent, before a fault gets at it.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Content,
    pub(super) begin: u64,
    /// How the body ends, if not well.
    pub(super) ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Well,
    Short { by: u64 },
    Cut { after: u64 },
    Stall { after: u64 },
}

impl Answer {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        Self::text(
            status,
            vec![(
                "content-type".to_owned(),
                "application/json; charset=UTF-8".to_owned(),
            )],
            body.to_string(),
        )
    }

    pub(super) fn text(status: u16, headers: Vec<(String, String)>, body: String) -> Self {
        Self {
            status,
            headers,
            content: Content::bytes(body),
            begin: 0,
            ending: Ending::Well,
        }
    }

    /// What becomes of it; `None` if nothing is answered at all.
    pub(super) fn spoiled_by(mut self, fault: &Fault) -> Option<Self> {
        match fault {
            Fault::Answer {
                status,
                headers,
                body,
            } => return Some(Self::text(*status, headers.clone(), body.clone())),
            Fault::Reset | Fault::Stall => return None,
            Fault::CutAfter(after) | Fault::CutAndChange { after, .. } => {
                self.ending = Ending::Cut { after: *after };
            }
            Fault::StallAfter(after) => self.ending = Ending::Stall { after: *after },
            Fault::ShortBy(by) => self.ending = Ending::Short { by: *by },
            Fault::ContentRange(range) => {
                self.headers.retain(|(name, _)| name != "content-range");
                self.headers
                    .push(("content-range".to_owned(), range.clone()));
            }
            // Heeded where the range is read.
            Fault::IgnoreRange => {}
        }
        Some(self)
    }

    pub(super) fn response(self) -> Response<Body> {
        let whole = self.content.size_bytes() - self.begin;
        let announced = match self.ending {
            Ending::Short { by } => whole.saturating_sub(by),
            Ending::Well | Ending::Cut { .. } | Ending::Stall { .. } => whole,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = name.parse::<hyper::header::HeaderName>();
            headers.insert(
                name.expect("a header's name"),
                value.parse().expect("a header"),
            );
        }
        headers.insert("content-length", announced.into());
        let status = StatusCode::from_u16(self.status).expect("an HTTP status");
        let mut response = Response::new(self.body(announced));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    fn body(self, announced: u64) -> Body {
        let Self {
            content,
            begin,
            ending,
            ..
        } = self;
        let last = match ending {
            Ending::Cut { after } | Ending::Stall { after } => after.min(announced),
            Ending::Well | Ending::Short { .. } => announced,
        };
        let chunks = stream::unfold(Some(0), move |sent| {
            let content = content.clone();
            async move {
                let sent: u64 = sent?;
                if sent < last {
                    let chunk = content.read(begin + sent, last - sent);
                    let sent = sent + chunk.len() as u64;
                    return Some((Ok(Frame::data(chunk)), Some(sent)));
                }
                match ending {
                    Ending::Well | Ending::Short { .. } => None,
                    Ending::Stall { .. } => std::future::pending().await,
                    Ending::Cut { .. } => {
                        // A body that is not ready is what makes hyper flush the bytes before.
                        tokio::task::yield_now().await;
                        Some((Err(io::ErrorKind::ConnectionReset.into()), None))
                    }
                }
            }
        });
        StreamBody::new(chunks).boxed_unsync()
    }
}

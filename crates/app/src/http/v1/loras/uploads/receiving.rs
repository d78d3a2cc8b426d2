use actix_web::http::header::HeaderValue;
use actix_web::web::Payload;
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use futures_util::StreamExt as _;
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::http::api::Api;
use crate::http::json::{broken_body, content_length, too_slow};
use crate::http::problem::Problem;
use crate::http::tus::{TusRequest, UPLOAD_OFFSET};

/// What became of a request's bytes.
pub(super) struct Received {
    /// Where the upload ends now.
    pub(super) offset: u64,
    /// Why not all of them came.
    pub(super) broken: Option<Problem>,
}

impl Received {
    /// The new end, if all bytes came.
    ///
    /// # Errors
    /// Why not; the header `Upload-Offset` says how many were kept.
    pub(super) fn whole(self) -> Result<u64, Problem> {
        match self.broken {
            None => Ok(self.offset),
            Some(broken) => Err(broken.with_header(UPLOAD_OFFSET, HeaderValue::from(self.offset))),
        }
    }
}

/// Adds a request's bytes to an upload. Those of a body that breaks off, or
/// comes too slowly, or lasts longer than the server, are kept as far as they
/// came.
pub(super) async fn receive(
    api: &Api,
    actor: Actor,
    id: LoraId,
    offset: u64,
    request: &TusRequest,
    mut payload: Payload,
) -> Result<Received, Problem> {
    let declared_bytes = content_length(request.headers());
    let uploads = api.resumable_uploads();
    let mut appending = uploads.append(actor, id, offset, declared_bytes).await?;
    let broken = loop {
        let next = tokio::select! {
            biased;
            () = api.giving_up().cancelled() => break Some(Problem::server_stops()),
            next = timeout(api.limits().chunk_wait, payload.next()) => next,
        };
        match next {
            Ok(None) => break None,
            Ok(Some(Ok(bytes))) => appending.write(bytes).await?,
            Ok(Some(Err(error))) => break Some(broken_body(&error)),
            Err(_elapsed) => break Some(too_slow()),
        }
    };
    // As a task of its own: a sender who is gone must not take the bytes along.
    let keeping = appending.finish().in_current_span();
    let offset = api.io().spawn(keeping).await.map_err(Problem::internal)??;
    Ok(Received { offset, broken })
}

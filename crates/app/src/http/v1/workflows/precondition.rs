//! `If-Match` on workflows.

use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::ports::WriteOutcome;
use atelier_domain::workflow::Revision;

use crate::http::api::Api;
use crate::http::etag::{IfMatch, precondition_failed};
use crate::http::problem::{Problem, ProblemCode};

/// The one revision that a write is to find, if the sender demands any.
///
/// One tag, the usual case, is left to the write itself. Several, or none that
/// could match, take a look at what is there.
///
/// # Errors
/// `precondition-failed`, 412; `workflow-not-found`, 404.
pub(super) async fn expected_revision(
    api: &Api,
    actor: &Actor,
    id: WorkflowId,
    condition: IfMatch,
) -> Result<Option<Revision>, Problem> {
    let accepted = match condition {
        IfMatch::Unconditional => return Ok(None),
        IfMatch::OneOf(accepted) => accepted,
    };
    if let [only] = accepted.as_slice() {
        return Ok(Some(*only));
    }
    let workflow = api
        .ports()
        .workflows
        .get(actor, id)
        .await?
        .ok_or_else(Problem::workflow_not_found)?;
    if workflow.user_id != actor.user_id() {
        return Err(not_yours());
    }
    if accepted.contains(&workflow.revision) {
        Ok(Some(workflow.revision))
    } else {
        Err(precondition_failed(Some(workflow.revision)))
    }
}

/// What was written, or why nothing was. `revision` reads the revision of what
/// is there now.
pub(super) fn written<T>(
    outcome: WriteOutcome<T>,
    revision: impl FnOnce(&T) -> Option<Revision>,
) -> Result<T, Problem> {
    match outcome {
        WriteOutcome::Done(written) => Ok(written),
        WriteOutcome::NotFound => Err(Problem::workflow_not_found()),
        WriteOutcome::NotYours => Err(not_yours()),
        WriteOutcome::Stale(now) => Err(precondition_failed(revision(&now))),
    }
}

fn not_yours() -> Problem {
    Problem::new(
        ProblemCode::Forbidden,
        "The workflow is public and somebody else's: you may read and run it, and store a copy of your own.",
    )
}

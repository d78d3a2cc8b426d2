//! What every way to ask for a run has in common.

use std::fmt;

use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest, StoredAnswer};
use atelier_domain::ports::{EnqueueOutcome, EnqueueTerms, RepoError, RunRepo};
use atelier_domain::run::{NewRun, Run};
use atelier_domain::usage::QuotaExceeded;
use thiserror::Error;

use crate::allowance::{Allowance, AllowanceError};
use crate::observation::MAX_TRACE_PARENT;

/// Makes the answer to a request out of the run that it asked for.
pub type RunAnswer<'a> = &'a (dyn Fn(&Run) -> StoredAnswer + Send + Sync);

/// A request that is carried out once, however often it comes.
#[derive(Clone)]
pub struct OnceOnly<'a> {
    /// What names it.
    pub request: IdempotentRequest,
    /// Makes its answer, which is stored together with the run.
    pub answer: RunAnswer<'a>,
}

impl fmt::Debug for OnceOnly<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OnceOnly")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// What became of a request for a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Submission {
    /// A run waits.
    Enqueued {
        /// The run.
        run: Box<Run>,
        /// The answer that was stored with it, if the request is carried out
        /// once: this very text is to be sent.
        answer: Option<StoredAnswer>,
    },
    /// The request came before; this was its answer, and is again.
    Replayed(StoredAnswer),
}

/// Why a run that could run was not put into the queue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The same request is being carried out at this moment.
    #[error("a request under this idempotency key is being answered")]
    KeyUnderway,
    /// The person has as many runs waiting as they may.
    #[error("{limit} runs wait already")]
    TooManyPending {
        /// How many may wait.
        limit: u32,
    },
    /// What the person's runs left takes as much as it may.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// A repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl From<AllowanceError> for EnqueueError {
    fn from(error: AllowanceError) -> Self {
        match error {
            AllowanceError::Exceeded(exceeded) => Self::Quota(exceeded),
            AllowanceError::Repo(error) => Self::Repo(error),
        }
    }
}

/// A `traceparent`, unless it is too long to be one: a trace that breaks off is no reason to
/// refuse a run.
pub(super) fn sound_trace_parent(given: Option<String>) -> Option<String> {
    given.filter(|text| (1..=MAX_TRACE_PARENT).contains(&text.len()) && text.is_ascii())
}

/// The answer that an earlier request under the same key got, if there was one.
pub(super) async fn earlier_answer(
    runs: &dyn RunRepo,
    actor: &Actor,
    once: Option<&OnceOnly<'_>>,
) -> Result<Option<Submission>, EnqueueError> {
    let Some(once) = once else {
        return Ok(None);
    };
    let earlier = runs.earlier_request(actor, &once.request).await?;
    earlier.map(replay).transpose()
}

/// Puts a run into the queue, together with its answer.
pub(super) async fn enqueue(
    runs: &dyn RunRepo,
    allowance: &Allowance,
    actor: &Actor,
    new: NewRun,
    max_pending: u32,
    once: Option<OnceOnly<'_>>,
) -> Result<Submission, EnqueueError> {
    allowance.outputs(actor).await?;
    let idempotency = once.map(|once| {
        let answer = (once.answer)(&new.pending(actor.user_id()));
        (once.request, answer)
    });
    let answer = idempotency.as_ref().map(|(_, answer)| answer.clone());
    let terms = EnqueueTerms {
        max_pending,
        idempotency,
    };
    match runs.enqueue(actor, new, terms).await? {
        EnqueueOutcome::Enqueued(run) => Ok(Submission::Enqueued { run, answer }),
        EnqueueOutcome::Earlier(earlier) => replay(earlier),
        EnqueueOutcome::TooManyPending => Err(EnqueueError::TooManyPending { limit: max_pending }),
    }
}

fn replay(earlier: EarlierRequest) -> Result<Submission, EnqueueError> {
    match earlier {
        EarlierRequest::Answered(answer) => Ok(Submission::Replayed(answer)),
        EarlierRequest::Different => Err(EnqueueError::KeyReused),
        EarlierRequest::Underway => Err(EnqueueError::KeyUnderway),
    }
}

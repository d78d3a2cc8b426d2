use atelier_domain::actor::Actor;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::idempotency::{
    EarlierRequest, IdempotentRequest, RETENTION_HOURS, StoredAnswer,
};
use atelier_domain::ids::UserId;
use chrono::{DateTime, TimeDelta, Utc};

use super::State;

/// How long an answer is kept.
pub(super) const KEPT: TimeDelta = TimeDelta::hours(RETENTION_HOURS as i64);

/// Person, method, path, key.
pub(super) type AnswerKey = (UserId, String, String, String);

pub(super) struct AnswerRow {
    fingerprint: Sha256Digest,
    answer: StoredAnswer,
    at: DateTime<Utc>,
}

fn key_of(actor: &Actor, request: &IdempotentRequest) -> AnswerKey {
    (
        actor.user_id(),
        request.method.clone(),
        request.path.clone(),
        request.key.as_str().to_owned(),
    )
}

impl State {
    /// What an earlier request left. None is ever under way: the store does
    /// one thing at a time.
    pub(super) fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
        now: DateTime<Utc>,
    ) -> Option<EarlierRequest> {
        let row = self.answers.get(&key_of(actor, request))?;
        if row.at < now - KEPT {
            return None;
        }
        Some(if row.fingerprint == request.fingerprint {
            EarlierRequest::Answered(row.answer.clone())
        } else {
            EarlierRequest::Different
        })
    }

    pub(super) fn answer(
        &mut self,
        actor: &Actor,
        request: &IdempotentRequest,
        answer: StoredAnswer,
        at: DateTime<Utc>,
    ) {
        let row = AnswerRow {
            fingerprint: request.fingerprint,
            answer,
            at,
        };
        self.answers.insert(key_of(actor, request), row);
    }

    pub(super) fn age_answers(&mut self, owner: UserId, to: DateTime<Utc>) {
        for (key, row) in &mut self.answers {
            if key.0 == owner {
                row.at = to;
            }
        }
    }

    /// Forgets at most `limit` answers that are no longer kept; says how many.
    pub(super) fn forget_answers(&mut self, limit: u16, now: DateTime<Utc>) -> u64 {
        let old: Vec<AnswerKey> = self
            .answers
            .iter()
            .filter(|(_, row)| row.at < now - KEPT)
            .map(|(key, _)| key.clone())
            .take(usize::from(limit))
            .collect();
        for key in &old {
            self.answers.remove(key);
        }
        old.len() as u64
    }
}

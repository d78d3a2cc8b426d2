//! What claims of both kinds of tokens have in common (RFC 7519 section 4.1).

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// How far clocks may differ, in seconds.
const LEEWAY_SECONDS: i64 = 30;

/// Supabase writes one audience as a string, Cloudflare a list; the JWT standard allows both (RFC
/// 7519 section 4.1.3).
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(crate) fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(only) => only == audience,
            Self::Many(all) => all.iter().any(|one| one == audience),
        }
    }
}

/// When a token is good, in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) expires: Option<i64>,
    pub(crate) issued: Option<i64>,
    pub(crate) not_before: Option<i64>,
}

impl Times {
    pub(crate) fn judge(self, now: DateTime<Utc>) -> Result<(), Refusal> {
        let now = now.timestamp();
        let latest = now.saturating_add(LEEWAY_SECONDS);
        let expires = self.expires.ok_or(Refusal::NoExpiry)?;
        if expires <= now.saturating_sub(LEEWAY_SECONDS) {
            return Err(Refusal::Expired);
        }
        if [self.issued, self.not_before]
            .into_iter()
            .flatten()
            .any(|start| start > latest)
        {
            return Err(Refusal::NotYet);
        }
        Ok(())
    }
}

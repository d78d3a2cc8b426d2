//! Personal tokens, by which scripts act for a person.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use crate::digest::Sha256Digest;
use crate::ids::{ApiTokenId, UserId};
use crate::page::Cursor;
use crate::text::Name;

/// What every personal token begins with, so that people and secret scanners
/// know one when they see it.
pub const API_TOKEN_PREFIX: &str = "atl_";

/// Something that may be done with a part of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Read workflows.
    WorkflowsRead,
    /// Make, change and delete workflows.
    WorkflowsWrite,
    /// Read runs, their events and their outputs.
    RunsRead,
    /// Start, repeat and cancel runs; upload and delete what they read.
    RunsWrite,
    /// Read LoRAs and their files.
    LorasRead,
    /// Upload, import and delete LoRAs.
    LorasWrite,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 6] = [
        Self::WorkflowsRead,
        Self::WorkflowsWrite,
        Self::RunsRead,
        Self::RunsWrite,
        Self::LorasRead,
        Self::LorasWrite,
    ];

    /// The word for it, such as `runs:write`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkflowsRead => "workflows:read",
            Self::WorkflowsWrite => "workflows:write",
            Self::RunsRead => "runs:read",
            Self::RunsWrite => "runs:write",
            Self::LorasRead => "loras:read",
            Self::LorasWrite => "loras:write",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The text is no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one of workflows:read, workflows:write, runs:read, runs:write, loras:read, loras:write"
)]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        let mut all = Self::ALL.into_iter();
        all.find(|scope| scope.as_str() == text).ok_or(UnknownScope)
    }
}

/// A personal token as its owner sees it; the token itself is known to nobody
/// once it was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// Whose it is.
    pub user_id: UserId,
    /// What its owner calls it.
    pub name: Name,
    /// What may be done with it: at least one.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when it is no good; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl ApiToken {
    /// Where the token stands in a list.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.as_uuid(),
        }
    }
}

/// What is needed to keep a new token; its owner is the actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApiToken {
    /// Its id, from the `IdGen` port.
    pub id: ApiTokenId,
    /// What its owner calls it.
    pub name: Name,
    /// The digest of the whole token, prefix included.
    pub digest: Sha256Digest,
    /// What may be done with it: at least one.
    pub scopes: BTreeSet<Scope>,
    /// When it is made, from the `Clock` port.
    pub created_at: DateTime<Utc>,
    /// From when it is no good; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Whom a token that was sent stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTokenGrant {
    /// Which token.
    pub id: ApiTokenId,
    /// Whose.
    pub user_id: UserId,
    /// What may be done with it.
    pub scopes: BTreeSet<Scope>,
    /// From when it is no good.
    pub expires_at: Option<DateTime<Utc>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_reads_what_it_writes() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(scope));
        }
        assert_eq!("runs:all".parse::<Scope>(), Err(UnknownScope));
    }
}

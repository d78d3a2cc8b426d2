use async_trait::async_trait;
use serde_json::{Map, Value};

use crate::ids::UserId;
use crate::ports::RepoError;

/// Something that matters to security and changed nothing in the database; what
/// did change something, the database writes down by itself, with the change.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEvent {
    /// Whom it concerns, where that is known.
    pub user_id: Option<UserId>,
    /// What was done or refused, such as `sign_in.refused`.
    pub action: &'static str,
    /// What it was done to, such as an address or a token's id.
    pub target: Option<String>,
    /// More of it: at most 16 KiB as JSON, and no secrets.
    pub details: Map<String, Value>,
}

/// Writes down what matters to security.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait AuditTrail: Send + Sync {
    /// Writes an event down.
    async fn record(&self, event: AuditEvent) -> Result<(), RepoError>;
}

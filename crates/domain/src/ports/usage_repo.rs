use async_trait::async_trait;

use crate::actor::Actor;
use crate::ports::RepoError;
use crate::usage::Usage;

/// Knows what people take up.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait UsageRepo: Send + Sync {
    /// Says what the actor takes up.
    async fn of(&self, actor: &Actor) -> Result<Usage, RepoError>;
}

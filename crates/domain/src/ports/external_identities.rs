use async_trait::async_trait;

use crate::identity::{ExternalIdentity, IdentityLink};
use crate::ids::UserId;
use crate::ports::RepoError;

/// Remembers whom the identities of other providers stand for.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ExternalIdentities: Send + Sync {
    /// Says whom an identity stands for. At first sight it is linked to the one
    /// account that has its confirmed e-mail address; if there is none, to a new
    /// person `provision`, where that is given. MUST answer the same person ever
    /// after, whatever the e-mail address is then, and MUST link one subject
    /// of a provider at most to a person by e-mail.
    async fn resolve(
        &self,
        identity: &ExternalIdentity,
        provision: Option<UserId>,
    ) -> Result<IdentityLink, RepoError>;
}

use async_trait::async_trait;

use crate::actor::Actor;
use crate::api_token::{ApiToken, ApiTokenGrant, NewApiToken};
use crate::digest::Sha256Digest;
use crate::ids::ApiTokenId;
use crate::page::{Page, PageRequest};
use crate::ports::RepoError;

/// How many personal tokens one person may have.
pub const MAX_API_TOKENS: u16 = 100;

/// Keeps personal tokens, as digests.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ApiTokens: Send + Sync {
    /// Keeps a new token of the actor's; `None`, and nothing is kept, if the
    /// actor has [`MAX_API_TOKENS`] already.
    async fn create(&self, actor: &Actor, new: NewApiToken) -> Result<Option<ApiToken>, RepoError>;

    /// Lists the actor's tokens, newest first.
    async fn list(&self, actor: &Actor, page: PageRequest) -> Result<Page<ApiToken>, RepoError>;

    /// Forgets a token, so that it is no good from now on; `false` if it is
    /// absent or not the actor's.
    async fn revoke(&self, actor: &Actor, id: ApiTokenId) -> Result<bool, RepoError>;

    /// Says whom the token with this digest stands for, expired or not, and
    /// notes that it was used, unless it is expired; `None` for no such token, and
    /// for one whose owner's account is barred.
    async fn find(&self, digest: &Sha256Digest) -> Result<Option<ApiTokenGrant>, RepoError>;
}

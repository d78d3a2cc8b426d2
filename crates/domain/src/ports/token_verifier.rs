use async_trait::async_trait;
use thiserror::Error;

use crate::identity::Identity;
use crate::ports::Source;

/// Why a token signs nobody in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The token is not good; the text says why, in words for its bearer, and
    /// holds nothing of the token.
    #[error("{0}")]
    Refused(String),
    /// Whoever could judge it cannot be reached, such as the provider's keys.
    #[error("the identity provider cannot be reached")]
    Unavailable(#[source] Source),
}

/// Judges the tokens of one identity provider.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TokenVerifier: Send + Sync {
    /// Says whom a token stands for. MUST take microseconds for a token whose
    /// key is known, and never wait for the network then.
    async fn verify(&self, token: &str) -> Result<Identity, IdentityError>;
}

use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::actor::Actor;
use crate::ports::Source;

/// What a request brings to say who sends it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The token of `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// The assertion of Cloudflare Access (`Cf-Access-Jwt-Assertion`).
    pub access_assertion: Option<String>,
}

/// Says which are there, never what they are.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("bearer", &self.bearer.is_some())
            .field("access_assertion", &self.access_assertion.is_some())
            .finish()
    }
}

/// Why nobody is signed in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The request brings no credentials.
    #[error("the request carries no credentials")]
    Missing,
    /// The credentials are not good; the text says why, in words for their
    /// bearer.
    #[error("{0}")]
    Refused(String),
    /// Whoever could judge them cannot be reached.
    #[error("the identity provider cannot be reached")]
    Unavailable(#[source] Source),
}

/// Finds out who sends a request.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TokenVerifier: Send + Sync {
    /// Turns credentials into the person they stand for.
    async fn verify(&self, credentials: &Credentials) -> Result<Actor, IdentityError>;
}

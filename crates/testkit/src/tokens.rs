use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ports::{Credentials, IdentityError, TokenVerifier};

use crate::Outage;

/// Knows some tokens by heart; takes a bearer token before an assertion.
#[derive(Clone, Default)]
pub struct FixedTokens {
    actors: HashMap<String, Actor>,
    outage: Outage,
}

impl FixedTokens {
    /// Knows none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns whom a token stands for.
    #[must_use]
    pub fn with(mut self, token: impl Into<String>, actor: Actor) -> Self {
        self.actors.insert(token.into(), actor);
        self
    }

    /// Makes the identity provider unreachable.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }
}

impl fmt::Debug for FixedTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FixedTokens({} tokens)", self.actors.len())
    }
}

#[async_trait]
impl TokenVerifier for FixedTokens {
    async fn verify(&self, credentials: &Credentials) -> Result<Actor, IdentityError> {
        if let Some(source) = self.outage.source() {
            return Err(IdentityError::Unavailable(source));
        }
        let token = credentials
            .bearer
            .as_ref()
            .or(credentials.access_assertion.as_ref())
            .ok_or(IdentityError::Missing)?;
        self.actors
            .get(token)
            .cloned()
            .ok_or_else(|| IdentityError::Refused("nobody has this token".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::an_actor;

    fn bearer(token: &str) -> Credentials {
        Credentials {
            bearer: Some(token.to_owned()),
            access_assertion: None,
        }
    }

    #[tokio::test]
    async fn a_token_stands_for_its_actor_and_any_other_is_refused() {
        let alice = an_actor();
        let tokens = FixedTokens::new().with("alice", alice.clone());

        assert_eq!(tokens.verify(&bearer("alice")).await.unwrap(), alice);
        assert!(matches!(
            tokens.verify(&bearer("mallory")).await,
            Err(IdentityError::Refused(_))
        ));
        assert!(matches!(
            tokens.verify(&Credentials::default()).await,
            Err(IdentityError::Missing)
        ));
        tokens.outage().begin();
        assert!(matches!(
            tokens.verify(&bearer("alice")).await,
            Err(IdentityError::Unavailable(_))
        ));
    }
}

use std::collections::HashMap;
use std::fmt;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::identity::{Identity, SupabaseUser};
use atelier_domain::ports::{IdentityError, TokenVerifier};

use crate::Outage;

/// Knows some tokens by heart.
#[derive(Clone, Default)]
pub struct FixedTokens {
    identities: HashMap<String, Identity>,
    outage: Outage,
}

impl FixedTokens {
    /// Knows none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns whose token one is, of Supabase Auth's.
    #[must_use]
    pub fn with(self, token: impl Into<String>, actor: &Actor) -> Self {
        let user = SupabaseUser {
            user_id: actor.user_id(),
            email: actor.email().map(str::to_owned),
        };
        self.with_identity(token, Identity::User(user))
    }

    /// Learns what a token says.
    #[must_use]
    pub fn with_identity(mut self, token: impl Into<String>, identity: Identity) -> Self {
        self.identities.insert(token.into(), identity);
        self
    }

    /// Makes the identity provider unreachable.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }
}

impl fmt::Debug for FixedTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FixedTokens({} tokens)", self.identities.len())
    }
}

#[async_trait]
impl TokenVerifier for FixedTokens {
    async fn verify(&self, token: &str) -> Result<Identity, IdentityError> {
        if let Some(source) = self.outage.source() {
            return Err(IdentityError::Unavailable(source));
        }
        self.identities
            .get(token)
            .cloned()
            .ok_or_else(|| IdentityError::Refused("nobody has this token".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::an_actor;
    use atelier_domain::identity::ServiceIdentity;

    #[tokio::test]
    async fn a_token_stands_for_its_identity_and_any_other_is_refused() {
        let alice = an_actor().with_email("alice@example.com");
        let script = Identity::Service(ServiceIdentity {
            issuer: "https://team.example.com".to_owned(),
            client_id: "script.access".to_owned(),
        });
        let tokens = FixedTokens::new()
            .with("alice", &alice)
            .with_identity("script", script.clone());

        let Identity::User(user) = tokens.verify("alice").await.unwrap() else {
            panic!("alice is a user");
        };
        assert_eq!(user.user_id, alice.user_id());
        assert_eq!(user.email.as_deref(), alice.email());
        assert_eq!(tokens.verify("script").await.unwrap(), script);
        assert!(matches!(
            tokens.verify("mallory").await,
            Err(IdentityError::Refused(_))
        ));
        tokens.outage().begin();
        assert!(matches!(
            tokens.verify("alice").await,
            Err(IdentityError::Unavailable(_))
        ));
    }
}

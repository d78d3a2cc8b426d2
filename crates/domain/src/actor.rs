//! Who acts.

use std::collections::BTreeSet;
use std::fmt;

use crate::api_token::Scope;
use crate::ids::UserId;

/// A signed-in person, on whose behalf something is done.
///
/// Every repository method that acts for a person takes one first; the
/// database, not the caller, decides what that person may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Actor {
    user_id: UserId,
    email: Option<String>,
    scopes: Option<BTreeSet<Scope>>,
}

impl Actor {
    /// Acts as `user_id`.
    pub const fn new(user_id: UserId) -> Self {
        Self {
            user_id,
            email: None,
            scopes: None,
        }
    }

    /// Adds the e-mail address that the identity provider vouches for.
    #[must_use]
    pub fn with_email(mut self, email: impl Into<String>) -> Self {
        self.email = Some(email.into());
        self
    }

    /// Leaves the actor no more than these scopes, as a personal token does.
    #[must_use]
    pub fn limited_to(mut self, scopes: BTreeSet<Scope>) -> Self {
        self.scopes = Some(scopes);
        self
    }

    /// Whether the actor may do this with their own.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes
            .as_ref()
            .is_none_or(|scopes| scopes.contains(&scope))
    }

    /// Whether a person acts who signed in, and no token of theirs: only they
    /// say which tokens there are.
    pub const fn is_signed_in(&self) -> bool {
        self.scopes.is_none()
    }

    /// Whose rows are the actor's own.
    pub const fn user_id(&self) -> UserId {
        self.user_id
    }

    /// The verified e-mail address, where the provider gave one.
    pub fn email(&self) -> Option<&str> {
        self.email.as_deref()
    }
}

/// Leaves the e-mail address out, so that it cannot reach a log.
impl fmt::Debug for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Actor")
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn debug_output_holds_no_email_address() {
        let actor = Actor::new(UserId::new(Uuid::nil())).with_email("someone@example.com");

        assert!(!format!("{actor:?}").contains("example.com"));
    }
}

use std::collections::HashMap;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::api_token::API_TOKEN_PREFIX;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::identity::{ExternalIdentity, Identity, IdentityLink, SupabaseUser};
use atelier_domain::ids::UserId;
use atelier_domain::ports::{
    ApiTokens, AuditEvent, AuditTrail, Clock, ExternalIdentities, IdGen, IdentityError, RepoError,
    Source, TokenVerifier,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::credentials::Credentials;
use super::remembered::Remembered;
use crate::opaque::opaque_debug;

/// The longest personal token that is looked at, in bytes.
const MAX_API_TOKEN_BYTES: usize = 200;

/// Why nobody is signed in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignInError {
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
    /// The database did not say whom they stand for.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

impl SignInError {
    fn refused(reason: &str) -> Self {
        Self::Refused(reason.to_owned())
    }
}

impl From<IdentityError> for SignInError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Refused(reason) => Self::Refused(reason),
            IdentityError::Unavailable(source) => Self::Unavailable(source),
            error => Self::Unavailable(Box::new(error)),
        }
    }
}

/// How people come in through Cloudflare Access.
#[derive(Clone)]
pub struct AccessSignIn {
    /// Judges assertions.
    pub verifier: Arc<dyn TokenVerifier>,
    /// Whether somebody without an account becomes a new person at first sight.
    pub provision: bool,
    /// Whom programs act for, by the client id of their service token.
    pub services: HashMap<String, UserId>,
}

opaque_debug!(AccessSignIn);

/// Finds out who sends a request.
///
/// A personal token is looked up at each request, so that one that is revoked is
/// no good from that moment on. Everything else is judged in memory, but for
/// the first sight of an external identity.
pub struct SignIn {
    /// Judges access tokens of Supabase Auth; `None` if nobody signs in there.
    pub supabase: Option<Arc<dyn TokenVerifier>>,
    /// Cloudflare Access, if people come in through it.
    pub access: Option<AccessSignIn>,
    /// Personal tokens.
    pub tokens: Arc<dyn ApiTokens>,
    /// Whom external identities stand for.
    pub identities: Arc<dyn ExternalIdentities>,
    /// Where refusals are written down that somebody should look at.
    pub audit: Arc<dyn AuditTrail>,
    /// Judges what is expired.
    pub clock: Arc<dyn Clock>,
    /// Names people who are new.
    pub ids: Arc<dyn IdGen>,
    remembered: Remembered,
}

opaque_debug!(SignIn);

impl SignIn {
    /// Puts the ways to sign in together.
    pub fn new(
        supabase: Option<Arc<dyn TokenVerifier>>,
        access: Option<AccessSignIn>,
        tokens: Arc<dyn ApiTokens>,
        identities: Arc<dyn ExternalIdentities>,
        audit: Arc<dyn AuditTrail>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdGen>,
    ) -> Self {
        Self {
            supabase,
            access,
            tokens,
            identities,
            audit,
            clock,
            ids,
            remembered: Remembered::default(),
        }
    }

    /// Says who acts.
    ///
    /// Where a bearer token and an assertion are both there, and Cloudflare
    /// Access is a way in, both must be good, and the bearer decides.
    pub async fn execute(&self, credentials: &Credentials) -> Result<Actor, SignInError> {
        let assertion = credentials.access_assertion.as_deref();
        match (&credentials.bearer, assertion, &self.access) {
            (Some(bearer), Some(assertion), Some(access)) => {
                access.verifier.verify(assertion).await?;
                self.by_bearer(bearer).await
            }
            (Some(bearer), _, _) => self.by_bearer(bearer).await,
            (None, Some(assertion), Some(access)) => self.by_assertion(access, assertion).await,
            (None, _, _) => Err(SignInError::Missing),
        }
    }

    async fn by_bearer(&self, token: &str) -> Result<Actor, SignInError> {
        if token.starts_with(API_TOKEN_PREFIX) {
            return self.by_api_token(token).await;
        }
        let Some(supabase) = &self.supabase else {
            return Err(SignInError::refused(
                "this server takes personal tokens (atl_…) as bearer tokens, and no others",
            ));
        };
        match supabase.verify(token).await? {
            Identity::User(SupabaseUser { user_id, email }) => {
                let actor = Actor::new(user_id);
                Ok(match email {
                    Some(email) => actor.with_email(email),
                    None => actor,
                })
            }
            _ => Err(SignInError::refused("the token is not a user's")),
        }
    }

    async fn by_api_token(&self, token: &str) -> Result<Actor, SignInError> {
        const UNKNOWN: &str = "the personal token is not known: it was revoked, or mistyped";
        if token.len() > MAX_API_TOKEN_BYTES {
            return Err(SignInError::refused(UNKNOWN));
        }
        let digest = Sha256Digest::new(Sha256::digest(token.as_bytes()).into());
        let Some(grant) = self.tokens.find(&digest).await? else {
            return Err(SignInError::refused(UNKNOWN));
        };
        if grant
            .expires_at
            .is_some_and(|expires| expires <= self.clock.now())
        {
            return Err(SignInError::refused(
                "the personal token has expired: make a new one",
            ));
        }
        Ok(Actor::new(grant.user_id).limited_to(grant.scopes))
    }

    async fn by_assertion(
        &self,
        access: &AccessSignIn,
        assertion: &str,
    ) -> Result<Actor, SignInError> {
        match access.verifier.verify(assertion).await? {
            Identity::External(identity) => self.by_identity(access, identity).await,
            Identity::Service(service) => access
                .services
                .get(&service.client_id)
                .copied()
                .map(Actor::new)
                .ok_or_else(|| {
                    SignInError::refused("the service token stands for nobody on this server")
                }),
            _ => Err(SignInError::refused(
                "the assertion is not one of Cloudflare Access",
            )),
        }
    }

    async fn by_identity(
        &self,
        access: &AccessSignIn,
        identity: ExternalIdentity,
    ) -> Result<Actor, SignInError> {
        let now = self.clock.now();
        let link = match self.remembered.find(&identity, now) {
            Some(link) => link,
            None => self.resolve(access, &identity).await?,
        };
        match link {
            IdentityLink::Known(person)
            | IdentityLink::Linked(person)
            | IdentityLink::Provisioned(person) => {
                Ok(Actor::new(person).with_email(identity.email))
            }
            IdentityLink::Unknown => Err(SignInError::refused(
                "nobody on this server has your e-mail address: ask for an account first",
            )),
            IdentityLink::Ambiguous => Err(SignInError::refused(
                "several accounts have your e-mail address: ask an administrator to link one",
            )),
            IdentityLink::Taken => Err(SignInError::refused(
                "the account with your e-mail address belongs to an earlier identity: ask an \
                 administrator to remove its link",
            )),
        }
    }

    async fn resolve(
        &self,
        access: &AccessSignIn,
        identity: &ExternalIdentity,
    ) -> Result<IdentityLink, SignInError> {
        let fresh = access.provision.then(|| UserId::new(self.ids.new_id()));
        let link = self.identities.resolve(identity, fresh).await?;
        if matches!(link, IdentityLink::Ambiguous | IdentityLink::Taken) {
            tracing::warn!(issuer = %identity.issuer, subject = %identity.subject, "an identity cannot be linked");
            self.audit.record(refusal(identity, link)).await?;
        }
        self.remembered.keep(identity, link, self.clock.now());
        Ok(link)
    }
}

fn refusal(identity: &ExternalIdentity, link: IdentityLink) -> AuditEvent {
    let reason = if link == IdentityLink::Taken {
        "taken"
    } else {
        "ambiguous"
    };
    let mut details = serde_json::Map::new();
    details.insert("issuer".to_owned(), json!(identity.issuer));
    details.insert("reason".to_owned(), json!(reason));
    AuditEvent {
        user_id: None,
        action: "sign_in.refused",
        target: Some(identity.subject.clone()),
        details,
    }
}

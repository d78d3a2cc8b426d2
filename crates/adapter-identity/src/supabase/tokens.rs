use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::identity::{Identity, SupabaseUser};
use atelier_domain::ids::UserId;
use atelier_domain::ports::{Clock, IdentityError, TokenVerifier};
use jsonwebtoken::DecodingKey;
use tokio::runtime::Handle;

use super::claims::{AUTHENTICATED, Claims, is_legacy_api_key};
use super::options::{SupabaseOptions, SupabaseOptionsError};
use crate::algorithm::SignatureAlgorithm;
use crate::jws::Jws;
use crate::keys::RemoteKeys;
use crate::refusal::{Failure, Refusal};

/// Verifies access tokens of Supabase Auth, by the rules of
/// `reference/platform/PROTOCOLS.md` section 2.3 and in that order.
///
/// A ban or a logout is not visible in a token: it stays good until it expires.
pub struct SupabaseTokens {
    issuer: Option<String>,
    accepted: Vec<SignatureAlgorithm>,
    keys: Option<RemoteKeys>,
    secret: Option<Arc<DecodingKey>>,
    allow_anonymous: bool,
    require_aal2: bool,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for SupabaseTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SupabaseTokens")
            .field("issuer", &self.issuer)
            .field("accepted", &self.accepted)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

impl SupabaseTokens {
    /// Takes the options; nothing is fetched yet. `clock` judges what is expired, of tokens and of
    /// keys; keys are fetched on the runtime `io`, whichever runtime asks.
    ///
    /// # Errors
    /// What is wrong with the options.
    pub fn new(
        options: SupabaseOptions,
        clock: Arc<dyn Clock>,
        io: Handle,
    ) -> Result<Self, SupabaseOptionsError> {
        options.check()?;
        let accepted = options.accepted();
        let keys = options
            .jwks
            .map(|jwks| RemoteKeys::new(&jwks, Arc::clone(&clock), io))
            .transpose()
            .map_err(SupabaseOptionsError::Keys)?;
        let secret = options
            .secret
            .map(|secret| Arc::new(DecodingKey::from_secret(secret.as_bytes())));
        Ok(Self {
            issuer: options.issuer,
            accepted,
            keys,
            secret,
            allow_anonymous: options.allow_anonymous,
            require_aal2: options.require_aal2,
            clock,
        })
    }

    /// How many usable keys the project publishes: what a self-check asks, and what fetches them
    /// before the first token comes. Zero if no JWKS is configured, and for a project that signs
    /// with its secret alone.
    ///
    /// # Errors
    /// [`IdentityError::Unavailable`] if the keys cannot be fetched; it says why.
    pub async fn check_keys(&self) -> Result<usize, IdentityError> {
        match &self.keys {
            Some(keys) => Ok(keys.count().await.map_err(Failure::from)?),
            None => Ok(0),
        }
    }

    async fn identity_of(&self, token: &str) -> Result<Identity, Failure> {
        let jws = Jws::parse(token, &self.accepted)?;
        let key = self.key_of(&jws).await?;
        jws.verify(&key)?;
        Ok(self.judge(jws.claims()?)?)
    }

    /// The token says which key and which algorithm; we decide whether the two fit.
    async fn key_of(&self, jws: &Jws<'_>) -> Result<Arc<DecodingKey>, Failure> {
        let source = match jws.algorithm {
            SignatureAlgorithm::Es256 | SignatureAlgorithm::Rs256 => &self.keys,
            SignatureAlgorithm::Hs256 => return Ok(self.secret_for(jws)?),
        };
        match source {
            Some(keys) => keys.key_of(jws).await,
            None => Err(Refusal::UnknownKey.into()),
        }
    }

    /// Legacy tokens have no key id, or one that no JWKS has (section 2.1). Nobody is asked for
    /// that: the secret alone decides while no keys are at hand.
    fn secret_for(&self, jws: &Jws<'_>) -> Result<Arc<DecodingKey>, Refusal> {
        let names_public_key = jws
            .key_id
            .as_deref()
            .zip(self.keys.as_ref())
            .is_some_and(|(key_id, keys)| keys.knows(key_id));
        if names_public_key {
            return Err(Refusal::KeyMismatch);
        }
        self.secret.clone().ok_or(Refusal::UnknownKey)
    }

    fn judge(&self, claims: Claims) -> Result<Identity, Refusal> {
        claims.times().judge(self.clock.now())?;
        if let Some(expected) = &self.issuer
            && claims.iss.as_ref() != Some(expected)
        {
            return Err(Refusal::Issuer);
        }
        if !claims.aud.is_some_and(|aud| aud.contains(AUTHENTICATED)) {
            return Err(Refusal::Audience);
        }
        if claims.role.as_deref() != Some(AUTHENTICATED) {
            return Err(Refusal::Role);
        }
        let user_id = claims
            .sub
            .as_deref()
            .and_then(user_id)
            .ok_or(Refusal::Subject)?;
        if claims.is_anonymous && !self.allow_anonymous {
            return Err(Refusal::Anonymous);
        }
        if self.require_aal2 && claims.aal.as_deref() != Some("aal2") {
            return Err(Refusal::SecondFactor);
        }
        Ok(Identity::User(SupabaseUser {
            user_id,
            email: claims.email.filter(|email| !email.is_empty()),
        }))
    }
}

/// Only the form with hyphens: other ways to write a UUID are not what Supabase signs.
fn user_id(subject: &str) -> Option<UserId> {
    (subject.len() == 36)
        .then(|| subject.parse().ok())
        .flatten()
}

#[async_trait]
impl TokenVerifier for SupabaseTokens {
    async fn verify(&self, token: &str) -> Result<Identity, IdentityError> {
        self.identity_of(token)
            .await
            .map_err(|failure| match failure {
                Failure::Refused(_) if is_legacy_api_key(token) => {
                    Failure::Refused(Refusal::ApiKey).into()
                }
                Failure::Refused(_) | Failure::Unavailable(_) => failure.into(),
            })
    }
}

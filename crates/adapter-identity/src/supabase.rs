//! Access tokens of Supabase Auth.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::UserId;
use atelier_domain::ports::{Clock, Credentials, IdentityError, TokenVerifier};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use thiserror::Error;

use crate::claims::{AUTHENTICATED, Claims};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far clocks may differ, in seconds.
const LEEWAY_SECONDS: i64 = 30;
/// The shortest secret that Supabase itself accepts, in bytes.
const MIN_SECRET_BYTES: usize = 16;

/// Which tokens are good.
#[derive(Clone)]
pub struct SupabaseOptions {
    /// The project's JWT secret. Its UTF-8 bytes are the key.
    pub secret: String,
    /// Who must have issued a token, such as `https://{project}.supabase.co/auth/v1`; `None` takes
    /// any issuer.
    pub issuer: Option<String>,
}

/// Leaves the secret out.
impl fmt::Debug for SupabaseOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SupabaseOptions")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// Options that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SupabaseOptionsError {
    /// A secret that can be guessed.
    #[error("the JWT secret has {bytes} bytes, it needs at least {MIN_SECRET_BYTES}")]
    ShortSecret {
        /// How many bytes it has.
        bytes: usize,
    },
}

/// Verifies access tokens that are signed with a shared secret.
pub struct SupabaseTokens {
    key: DecodingKey,
    validation: Validation,
    issuer: Option<String>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for SupabaseTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SupabaseTokens")
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

impl SupabaseTokens {
    /// Takes the options; `clock` judges what is expired.
    ///
    /// # Errors
    /// [`SupabaseOptionsError`] for a secret that is too short.
    pub fn new(
        options: SupabaseOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SupabaseOptionsError> {
        let bytes = options.secret.len();
        if bytes < MIN_SECRET_BYTES {
            return Err(SupabaseOptionsError::ShortSecret { bytes });
        }
        // The library checks the signature alone. All claims are judged below, in the order of the
        // record and by our clock.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Ok(Self {
            key: DecodingKey::from_secret(options.secret.as_bytes()),
            validation,
            issuer: options.issuer,
            clock,
        })
    }

    fn actor_of(&self, token: &str) -> Result<Actor, Refusal> {
        let claims = self.claims_of(token)?;
        self.judge_times(&claims)?;
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
        let user_id: UserId = claims
            .sub
            .as_deref()
            .and_then(|sub| sub.parse().ok())
            .ok_or(Refusal::Subject)?;
        if claims.is_anonymous {
            return Err(Refusal::Anonymous);
        }
        let actor = Actor::new(user_id);
        Ok(match claims.email.filter(|email| !email.is_empty()) {
            Some(email) => actor.with_email(email),
            None => actor,
        })
    }

    fn claims_of(&self, token: &str) -> Result<Claims, Refusal> {
        if token.starts_with("sb_") {
            return Err(Refusal::ApiKey);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong);
        }
        if token.split('.').count() != 3 {
            return Err(Refusal::Malformed);
        }
        // An algorithm that the library does not know, `none` among them, is no header to it.
        let header = decode_header(token).map_err(|_unreadable| Refusal::Algorithm)?;
        if header.alg != Algorithm::HS256 {
            return Err(Refusal::Algorithm);
        }
        match decode::<Claims>(token, &self.key, &self.validation) {
            Ok(data) => Ok(data.claims),
            Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {
                Err(Refusal::Signature)
            }
            Err(_unreadable) => Err(Refusal::Malformed),
        }
    }

    fn judge_times(&self, claims: &Claims) -> Result<(), Refusal> {
        let now = self.clock.now().timestamp();
        let latest = now.saturating_add(LEEWAY_SECONDS);
        let expires = claims.exp.ok_or(Refusal::NoExpiry)?;
        if expires <= now.saturating_sub(LEEWAY_SECONDS) {
            return Err(Refusal::Expired);
        }
        if [claims.iat, claims.nbf]
            .into_iter()
            .flatten()
            .any(|start| start > latest)
        {
            return Err(Refusal::NotYet);
        }
        Ok(())
    }
}

#[async_trait]
impl TokenVerifier for SupabaseTokens {
    async fn verify(&self, credentials: &Credentials) -> Result<Actor, IdentityError> {
        let token = credentials
            .bearer
            .as_deref()
            .ok_or(IdentityError::Missing)?;
        self.actor_of(token)
            .map_err(|refusal| IdentityError::Refused(refusal.to_string()))
    }
}

/// Why a token is refused, in words for its bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
enum Refusal {
    #[error(
        "this is a Supabase API key, not a user's access token: sign in and send the \
         access_token of the session"
    )]
    ApiKey,
    #[error("the token is longer than any access token")]
    TooLong,
    #[error("the token is not a JSON Web Token of three parts")]
    Malformed,
    #[error("the token is not signed with HS256, the one algorithm this server accepts")]
    Algorithm,
    #[error("the token's signature is not good")]
    Signature,
    #[error("the token has no time of expiry")]
    NoExpiry,
    #[error("the token has expired: sign in again, or refresh the session")]
    Expired,
    #[error("the token is not good yet: check the clocks")]
    NotYet,
    #[error("the token was issued by somebody else than this server trusts")]
    Issuer,
    #[error("the token is for another audience than `authenticated`")]
    Audience,
    #[error(
        "the token's role is not `authenticated`: project keys and service roles do not sign \
         anybody in"
    )]
    Role,
    #[error("the token's subject is not the UUID of a user")]
    Subject,
    #[error("anonymous users cannot use this server: sign in first")]
    Anonymous,
}

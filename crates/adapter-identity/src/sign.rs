//! Access tokens of our own making.

use std::time::Duration;

use atelier_domain::ids::UserId;
use chrono::{DateTime, Utc};
use jsonwebtoken::{EncodingKey, Header, encode};
use thiserror::Error;

use crate::claims::Audience;
use crate::supabase::{AUTHENTICATED, Claims};

/// What an access token is to say.
#[derive(Clone, Copy, Debug)]
pub struct AccessToken<'a> {
    /// Whom it stands for.
    pub user_id: UserId,
    /// The e-mail address that it vouches for.
    pub email: Option<&'a str>,
    /// Who issues it.
    pub issuer: Option<&'a str>,
    /// When it is issued.
    pub issued_at: DateTime<Utc>,
    /// How long it is good.
    pub valid_for: Duration,
}

/// A token that could not be signed.
#[derive(Debug, Error)]
#[error("the access token could not be signed")]
pub struct SignError(#[source] jsonwebtoken::errors::Error);

/// Signs an access token as Supabase Auth does, HS256 with the UTF-8 bytes of `secret`.
pub fn sign_access_token(secret: &str, token: AccessToken<'_>) -> Result<String, SignError> {
    let issued_at = token.issued_at.timestamp();
    let seconds = i64::try_from(token.valid_for.as_secs()).unwrap_or(i64::MAX);
    let claims = Claims {
        iss: token.issuer.map(str::to_owned),
        sub: Some(token.user_id.to_string()),
        aud: Some(Audience::One(AUTHENTICATED.to_owned())),
        exp: Some(issued_at.saturating_add(seconds)),
        iat: Some(issued_at),
        nbf: None,
        role: Some(AUTHENTICATED.to_owned()),
        email: token.email.map(str::to_owned),
        aal: Some("aal1".to_owned()),
        is_anonymous: false,
    };
    encode(
        &Header::default(),
        &claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .map_err(SignError)
}

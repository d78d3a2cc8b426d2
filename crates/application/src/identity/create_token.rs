use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::api_token::{API_TOKEN_PREFIX, ApiToken, NewApiToken, Scope};
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ids::ApiTokenId;
use atelier_domain::ports::{ApiTokens, Clock, IdGen, MAX_API_TOKENS, RepoError, SecretGen};
use atelier_domain::validation::Violation;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::fields::Fields;
use crate::opaque::opaque_debug;

/// A personal token as somebody asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenDraft {
    /// What it is to be called.
    pub name: String,
    /// What may be done with it, such as `runs:write`.
    pub scopes: Vec<String>,
    /// From when it is no good; `None` for never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Why a personal token was not made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateTokenError {
    /// A personal token cannot make others: it would outlive its own end.
    #[error("a personal token cannot make others")]
    NotSignedIn,
    /// Everything that is wrong with the draft.
    #[error("the token cannot be made like this")]
    Invalid(Vec<Violation>),
    /// The person has as many as may be.
    #[error("nobody has more than {MAX_API_TOKENS} personal tokens")]
    TooMany,
    /// The database did not keep it.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// A personal token, the one time that it can be read.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedToken {
    /// What is kept of it.
    pub token: ApiToken,
    /// What to send as `Authorization: Bearer`.
    pub secret: String,
}

/// Leaves the secret out.
impl fmt::Debug for IssuedToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("IssuedToken")
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Makes a personal token.
#[derive(Clone)]
pub struct CreateToken {
    /// Where its digest is kept.
    pub tokens: Arc<dyn ApiTokens>,
    /// Makes what cannot be guessed.
    pub secrets: Arc<dyn SecretGen>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
    /// Names it.
    pub ids: Arc<dyn IdGen>,
}

opaque_debug!(CreateToken);

impl CreateToken {
    /// Makes a token that may do no more than it is asked to.
    ///
    /// # Errors
    /// [`CreateTokenError::Invalid`] with everything that is wrong with the
    /// draft; pointers `/name`, `/scopes/{index}`, `/expires_at`.
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id()))]
    pub async fn execute(
        &self,
        actor: &Actor,
        draft: TokenDraft,
    ) -> Result<IssuedToken, CreateTokenError> {
        if !actor.is_signed_in() {
            return Err(CreateTokenError::NotSignedIn);
        }
        let now = self.clock.now();
        let secret = format!(
            "{API_TOKEN_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(self.secrets.secret())
        );
        let new = check(&draft, now).map(|(name, scopes)| NewApiToken {
            id: ApiTokenId::new(self.ids.new_id()),
            name,
            digest: Sha256Digest::new(Sha256::digest(secret.as_bytes()).into()),
            scopes,
            created_at: now,
            expires_at: draft.expires_at,
        });
        let new = new.map_err(CreateTokenError::Invalid)?;
        let token = self.tokens.create(actor, new).await?;
        let token = token.ok_or(CreateTokenError::TooMany)?;
        Ok(IssuedToken { token, secret })
    }
}

fn check(
    draft: &TokenDraft,
    now: DateTime<Utc>,
) -> Result<(atelier_domain::text::Name, BTreeSet<Scope>), Vec<Violation>> {
    let mut fields = Fields::default();
    let name = fields.name(&draft.name);
    let scopes = fields.scopes(&draft.scopes);
    let expires = fields.in_the_future("/expires_at", draft.expires_at, now);
    match (name, scopes, expires) {
        (Some(name), Some(scopes), Some(())) => Ok((name, scopes)),
        _ => Err(fields.into_violations()),
    }
}

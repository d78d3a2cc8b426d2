//! Personal tokens on the wire.

use atelier_application::identity::{IssuedToken, TokenDraft};
use atelier_domain::api_token::{ApiToken, Scope};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::json::Members;
use crate::http::openapi::values::{Name, Scopes};
use crate::http::problem::Problem;
use crate::http::time::Timestamp;

/// A personal token as it is asked for.
#[derive(ToSchema)]
#[schema(as = TokenDraft)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes what is read member by member")]
pub(crate) struct DraftBody {
    #[schema(value_type = Name)]
    name: String,
    /// What may be done with it.
    #[schema(value_type = Scopes)]
    scopes: Vec<String>,
    /// From when it is no good (RFC 3339), in the future; never, if it is left out.
    #[schema(value_type = Option<Timestamp>)]
    expires_at: Option<String>,
}

impl DraftBody {
    /// Reads a body.
    ///
    /// # Errors
    /// `invalid-json`, or `validation` with every member that is missing, of
    /// another type, or unknown.
    pub(super) fn read(body: &[u8]) -> Result<TokenDraft, Problem> {
        let mut members = Members::parse(body)?;
        let name = members.required("name");
        let scopes = members.required("scopes");
        let expires_at = members.optional_time("expires_at");
        members.finish()?;
        Ok(TokenDraft {
            name: name.unwrap_or_default(),
            scopes: scopes.unwrap_or_default(),
            expires_at,
        })
    }
}

/// A personal token; what to send is not in it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Token)]
pub(crate) struct TokenBody<'a> {
    /// Its id.
    id: Uuid,
    /// Whose it is.
    user_id: Uuid,
    #[schema(value_type = Name)]
    name: &'a str,
    /// What may be done with it.
    #[schema(value_type = Scopes)]
    scopes: Vec<&'static str>,
    /// When it was made.
    created_at: Timestamp,
    /// From when it is no good; null for never.
    expires_at: Option<Timestamp>,
    /// When it was last used, to the minute; null before its first use.
    last_used_at: Option<Timestamp>,
}

impl<'a> From<&'a ApiToken> for TokenBody<'a> {
    fn from(token: &'a ApiToken) -> Self {
        let ApiToken {
            id,
            user_id,
            name,
            scopes,
            created_at,
            expires_at,
            last_used_at,
        } = token;
        Self {
            id: id.as_uuid(),
            user_id: user_id.as_uuid(),
            name: name.as_str(),
            scopes: scopes.iter().copied().map(Scope::as_str).collect(),
            created_at: Timestamp(*created_at),
            expires_at: expires_at.map(Timestamp),
            last_used_at: last_used_at.map(Timestamp),
        }
    }
}

/// A personal token, the one time that it can be read.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = IssuedToken)]
pub(crate) struct IssuedTokenBody<'a> {
    #[serde(flatten)]
    about: TokenBody<'a>,
    /// What to send as `Authorization: Bearer`. It is shown here and never again.
    #[schema(example = "atl_pC0sBVFyGrUBFoFEcGxcbjPmrjyMRIUzhAfP1TcVXbU")]
    token: &'a str,
}

impl<'a> From<&'a IssuedToken> for IssuedTokenBody<'a> {
    fn from(issued: &'a IssuedToken) -> Self {
        Self {
            about: TokenBody::from(&issued.token),
            token: &issued.secret,
        }
    }
}

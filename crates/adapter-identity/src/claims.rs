//! The claims of a Supabase access token (`reference/platform/PROTOCOLS.md` section 2.2).

use serde::{Deserialize, Serialize};

/// The audience of signed-in users, and their role.
pub(crate) const AUTHENTICATED: &str = "authenticated";

/// The claims that decide; all others are ignored.
#[derive(Deserialize, Serialize)]
pub(crate) struct Claims {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iss: Option<String>,
    pub(crate) sub: Option<String>,
    pub(crate) aud: Option<Audience>,
    pub(crate) exp: Option<i64>,
    pub(crate) iat: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<i64>,
    pub(crate) role: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    #[serde(default)]
    pub(crate) is_anonymous: bool,
}

/// Supabase writes one audience as a string; the JWT standard allows a list (RFC 7519 section
/// 4.1.3).
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub(crate) fn contains(&self, audience: &str) -> bool {
        match self {
            Self::One(only) => only == audience,
            Self::Many(all) => all.iter().any(|one| one == audience),
        }
    }
}

use serde::{Deserialize, Serialize};

use crate::claims::{Audience, Times};
use crate::jws::unverified_claims;

/// The audience of signed-in users, and their role.
pub(crate) const AUTHENTICATED: &str = "authenticated";

/// The claims that decide (`reference/platform/PROTOCOLS.md` section 2.2); all others are ignored.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) aal: Option<String>,
    #[serde(default)]
    pub(crate) is_anonymous: bool,
}

impl Claims {
    pub(crate) fn times(&self) -> Times {
        Times {
            expires: self.exp,
            issued: self.iat,
            not_before: self.nbf,
        }
    }
}

/// Whether a token is, by its own word, one of the legacy API keys: signed for ten years, for a
/// project and a role, for no user (section 2.2).
pub(crate) fn is_legacy_api_key(token: &str) -> bool {
    #[derive(Deserialize)]
    struct ApiKey {
        iss: Option<String>,
        role: Option<String>,
        sub: Option<String>,
        #[serde(rename = "ref")]
        project: Option<String>,
    }
    unverified_claims::<ApiKey>(token).is_some_and(|key| {
        let is_issued_for_a_project = key.project.is_some()
            || matches!(key.iss.as_deref(), Some("supabase" | "supabase-demo"));
        is_issued_for_a_project
            && matches!(key.role.as_deref(), Some("anon" | "service_role"))
            && key.sub.is_none_or(|subject| subject.is_empty())
    })
}

use serde::Deserialize;

use crate::claims::{Audience, Times};
use crate::refusal::Refusal;

/// The claims that decide (`reference/platform/PROTOCOLS.md` section 3); all others are ignored.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) iss: Option<String>,
    pub(super) aud: Option<Audience>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    exp: Option<i64>,
    iat: Option<i64>,
    nbf: Option<i64>,
    sub: Option<String>,
    email: Option<String>,
    common_name: Option<String>,
}

/// Whom an assertion is about.
pub(super) enum Bearer {
    Person { subject: String, email: String },
    Service { client_id: String },
}

impl Claims {
    pub(super) fn times(&self) -> Times {
        Times {
            expires: self.exp,
            issued: self.iat,
            not_before: self.nbf,
        }
    }

    pub(super) fn bearer(self) -> Result<Bearer, Refusal> {
        let given = |claim: Option<String>| claim.filter(|text| !text.is_empty());
        match (given(self.email), given(self.sub), given(self.common_name)) {
            (Some(email), Some(subject), None) => Ok(Bearer::Person { subject, email }),
            (None, None, Some(client_id)) => Ok(Bearer::Service { client_id }),
            _ => Err(Refusal::NeitherPersonNorService),
        }
    }
}

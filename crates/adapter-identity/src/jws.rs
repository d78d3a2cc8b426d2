//! A signed token taken apart (RFC 7515 section 7.1), before anything in it is believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::algorithm::SignatureAlgorithm;
use crate::refusal::Refusal;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// A token whose header is acceptable. Its signature is not verified yet.
pub(crate) struct Jws<'token> {
    /// One of those that the caller accepts, whatever the token asks for.
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) key_id: Option<String>,
    /// Header and payload: what is signed.
    message: &'token str,
    payload: &'token str,
    signature: &'token str,
}

/// The members that decide. Keys and addresses of keys that a token brings along (`jwk`, `jku`,
/// `x5c`, `x5u`) are not even read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(rename = "crit", default, deserialize_with = "present")]
    is_critical: bool,
}

/// Says that a member is there, whatever it is.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_any| true)
}

impl<'token> Jws<'token> {
    pub(crate) fn parse(
        token: &'token str,
        accepted: &[SignatureAlgorithm],
    ) -> Result<Self, Refusal> {
        if token.starts_with("sb_") {
            return Err(Refusal::ApiKey);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Refusal::Malformed)?;
        if payload.contains('.') {
            return Err(Refusal::Malformed);
        }
        let header: Header = json_part(header).ok_or(Refusal::Malformed)?;
        // RFC 7515 section 4.1.11: what must be understood and is not makes the token invalid.
        if header.is_critical {
            return Err(Refusal::Critical);
        }
        let algorithm = SignatureAlgorithm::from_name(&header.alg)
            .filter(|algorithm| accepted.contains(algorithm))
            .ok_or_else(|| Refusal::Algorithm {
                accepted: names(accepted),
            })?;
        Ok(Self {
            algorithm,
            key_id: header.kid,
            message,
            payload,
            signature,
        })
    }

    pub(crate) fn verify(&self, key: &DecodingKey) -> Result<(), Refusal> {
        let algorithm = self.algorithm.of_library();
        match crypto::verify(self.signature, self.message.as_bytes(), key, algorithm) {
            Ok(true) => Ok(()),
            // An error is a signature that is no base64url, or a key of another family.
            Ok(false) | Err(_) => Err(Refusal::Signature),
        }
    }

    pub(crate) fn claims<C: DeserializeOwned>(&self) -> Result<C, Refusal> {
        json_part(self.payload).ok_or(Refusal::Claims)
    }
}

/// What a token claims, nobody knows with what right: good for explaining a refusal, never for
/// letting anybody in.
pub(crate) fn unverified_claims<C: DeserializeOwned>(token: &str) -> Option<C> {
    if token.len() > MAX_TOKEN_BYTES {
        return None;
    }
    json_part(token.split('.').nth(1)?)
}

fn json_part<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn names(algorithms: &[SignatureAlgorithm]) -> String {
    let names: Vec<&str> = algorithms
        .iter()
        .map(|algorithm| algorithm.name())
        .collect();
    names.join(", ")
}

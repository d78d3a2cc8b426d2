//! One published key (RFC 7517 section 4, RFC 7518 section 6).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use crate::algorithm::SignatureAlgorithm;

/// The longest key id that is kept, in bytes: Cloudflare's have 64.
const MAX_KEY_ID: usize = 256;

/// The bits of an RSA modulus: less is broken, more takes too long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A key that tokens may be verified with, for one algorithm.
pub(super) struct VerificationKey {
    pub(super) id: String,
    pub(super) algorithm: SignatureAlgorithm,
    pub(super) key: Arc<DecodingKey>,
}

/// Why a published key is passed over.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum Unusable {
    #[error("it is no JSON Web Key")]
    NoKey,
    #[error("it has no key id that a token could name")]
    NoKeyId,
    #[error("it is not for verifying signatures")]
    OtherUse,
    #[error("its algorithm, type and curve are not ES256 or RS256, or do not fit each other")]
    OtherAlgorithm,
    #[error("it is too weak or malformed")]
    BadNumbers,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

impl VerificationKey {
    pub(super) fn from_json(value: Value) -> Result<Self, Unusable> {
        let jwk: Jwk = serde_json::from_value(value).map_err(|_malformed| Unusable::NoKey)?;
        let is_for_verifying = jwk.usage.as_ref().is_none_or(|usage| usage == "sig")
            && jwk
                .key_ops
                .as_ref()
                .is_none_or(|operations| operations.iter().any(|one| one == "verify"));
        if !is_for_verifying {
            return Err(Unusable::OtherUse);
        }
        let (algorithm, key) = match jwk.kty.as_str() {
            "EC" => (SignatureAlgorithm::Es256, jwk.elliptic()?),
            "RSA" => (SignatureAlgorithm::Rs256, jwk.rsa()?),
            // A symmetric key that is published is no secret.
            _ => return Err(Unusable::OtherAlgorithm),
        };
        if jwk.alg.is_some_and(|named| named != algorithm.name()) {
            return Err(Unusable::OtherAlgorithm);
        }
        let id = jwk
            .kid
            .filter(|id| (1..=MAX_KEY_ID).contains(&id.len()))
            .ok_or(Unusable::NoKeyId)?;
        Ok(Self {
            id,
            algorithm,
            key: Arc::new(key),
        })
    }
}

impl Jwk {
    fn elliptic(&self) -> Result<DecodingKey, Unusable> {
        if self.crv.as_deref() != Some("P-256") {
            return Err(Unusable::OtherAlgorithm);
        }
        let (Some(x), Some(y)) = (&self.x, &self.y) else {
            return Err(Unusable::BadNumbers);
        };
        // RFC 7518 section 6.2.1.2: the full size of a coordinate, leading zeros included.
        if number(x)?.len() != 32 || number(y)?.len() != 32 {
            return Err(Unusable::BadNumbers);
        }
        DecodingKey::from_ec_components(x, y).map_err(|_malformed| Unusable::BadNumbers)
    }

    fn rsa(&self) -> Result<DecodingKey, Unusable> {
        let (Some(modulus), Some(exponent)) = (&self.n, &self.e) else {
            return Err(Unusable::BadNumbers);
        };
        let (modulus, exponent) = (number(modulus)?, number(exponent)?);
        let (modulus, exponent) = (significant(&modulus), significant(&exponent));
        let bits = modulus.first().map_or(0, |first| {
            modulus.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(8)
        });
        // An even exponent cannot be one; 1 would make every message its own signature.
        let is_exponent = exponent.len() <= 4
            && exponent.last().is_some_and(|last| last % 2 == 1)
            && exponent != [1];
        if !RSA_BITS.contains(&bits) || !is_exponent {
            return Err(Unusable::BadNumbers);
        }
        Ok(DecodingKey::from_rsa_raw_components(modulus, exponent))
    }
}

fn number(text: &str) -> Result<Vec<u8>, Unusable> {
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_malformed| Unusable::BadNumbers)
}

fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const X: &str = "kgaxjpzFNrktfTTAYN_bRK-dYcJsiAE566MJWP-zF4w";
    const Y: &str = "SsIZpeQNN6X3s02R7gwj85DoxEkCHQXEIoaJY5wDLVc";

    fn elliptic() -> Value {
        json!({"kty": "EC", "kid": "k", "alg": "ES256", "use": "sig", "crv": "P-256",
            "key_ops": ["verify"], "x": X, "y": Y})
    }

    /// The numbers mean nothing: this is about sizes.
    fn rsa(modulus: &[u8], exponent: &[u8]) -> Value {
        json!({"kty": "RSA", "kid": "k", "n": URL_SAFE_NO_PAD.encode(modulus),
            "e": URL_SAFE_NO_PAD.encode(exponent)})
    }

    fn with(mut key: Value, member: &str, value: Value) -> Value {
        key[member] = value;
        key
    }

    fn unusable(key: Value) -> Option<Unusable> {
        VerificationKey::from_json(key).err()
    }

    #[test]
    fn keys_may_leave_out_what_goes_without_saying() {
        let bare = json!({"kty": "EC", "kid": "k", "crv": "P-256", "x": X, "y": Y});

        for key in [elliptic(), bare] {
            let key = VerificationKey::from_json(key).ok().unwrap();
            assert_eq!(key.algorithm, SignatureAlgorithm::Es256);
            assert_eq!(key.id, "k");
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_passed_over() {
        let rsa_2048 = || rsa(&[0xff; 256], &[1, 0, 1]);
        for (key, reason) in [
            (json!("a string"), Unusable::NoKey),
            (with(elliptic(), "kid", json!(5)), Unusable::NoKey),
            (with(elliptic(), "kid", Value::Null), Unusable::NoKeyId),
            (with(elliptic(), "kid", json!("")), Unusable::NoKeyId),
            (
                with(elliptic(), "kid", json!("k".repeat(257))),
                Unusable::NoKeyId,
            ),
            (with(elliptic(), "use", json!("enc")), Unusable::OtherUse),
            (
                with(elliptic(), "key_ops", json!(["sign"])),
                Unusable::OtherUse,
            ),
            (
                with(elliptic(), "alg", json!("RS256")),
                Unusable::OtherAlgorithm,
            ),
            (
                with(elliptic(), "alg", json!("HS256")),
                Unusable::OtherAlgorithm,
            ),
            (
                with(elliptic(), "crv", json!("P-384")),
                Unusable::OtherAlgorithm,
            ),
            (
                with(elliptic(), "crv", Value::Null),
                Unusable::OtherAlgorithm,
            ),
            (with(elliptic(), "x", Value::Null), Unusable::BadNumbers),
            (with(elliptic(), "y", json!("AQAB")), Unusable::BadNumbers),
            (with(elliptic(), "y", json!("!")), Unusable::BadNumbers),
            (
                json!({"kty": "oct", "kid": "k", "alg": "HS256", "k": X}),
                Unusable::OtherAlgorithm,
            ),
            (
                with(rsa_2048(), "alg", json!("PS256")),
                Unusable::OtherAlgorithm,
            ),
            (with(rsa_2048(), "n", Value::Null), Unusable::BadNumbers),
        ] {
            let shown = key.to_string();
            assert_eq!(unusable(key), Some(reason), "{shown}");
        }
    }

    #[test]
    fn rsa_keys_have_2048_to_8192_bits_and_an_odd_exponent() {
        let e = [1, 0, 1];
        let led_by = |first: u8, length: usize| {
            let mut modulus = vec![0xff; length];
            modulus[0] = first;
            modulus
        };
        for (modulus, exponent, is_good) in [
            (led_by(0x80, 256), &e[..], true),
            (led_by(0x7f, 256), &e[..], false),
            (led_by(0x00, 256), &e[..], false),
            (led_by(0x00, 257), &e[..], true),
            (vec![0xff; 128], &e[..], false),
            (vec![0xff; 1024], &e[..], true),
            (vec![0xff; 1025], &e[..], false),
            (Vec::new(), &e[..], false),
            (vec![0xff; 256], &[3], true),
            (vec![0xff; 256], &[1], false),
            (vec![0xff; 256], &[0, 1], false),
            (vec![0xff; 256], &[2], false),
            (vec![0xff; 256], &[], false),
            (vec![0xff; 256], &[1; 5], false),
        ] {
            let length = modulus.len();
            assert_eq!(
                unusable(rsa(&modulus, exponent)).is_none(),
                is_good,
                "{length} bytes, exponent {exponent:?}"
            );
        }
    }
}

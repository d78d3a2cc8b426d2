use std::collections::HashMap;
use std::sync::Arc;

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use super::jwk::VerificationKey;
use crate::algorithm::SignatureAlgorithm;

/// How many keys of one set are kept. Supabase publishes a handful, Cloudflare two.
const MAX_KEYS: usize = 64;

/// The keys that were published at one time, by their ids.
pub(super) struct KeySet(HashMap<String, Vec<(SignatureAlgorithm, Arc<DecodingKey>)>>);

/// What a set says to a key id that it has.
pub(super) enum Found {
    Key(Arc<DecodingKey>),
    /// The id belongs to a key of other algorithms.
    OtherAlgorithm,
}

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. A key that cannot be used is passed over, as RFC 7517 section 5
    /// asks for; of two keys with the same id and algorithm, the first one counts.
    pub(super) fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let published: Published = serde_json::from_slice(body)?;
        let mut keys: HashMap<String, Vec<_>> = HashMap::new();
        let mut kept = 0;
        for value in published.keys {
            if kept == MAX_KEYS {
                tracing::warn!(kept, "more keys are published than are ever used");
                break;
            }
            match VerificationKey::from_json(value) {
                Ok(VerificationKey { id, algorithm, key }) => {
                    let same_id = keys.entry(id).or_default();
                    if same_id.iter().all(|(known, _)| *known != algorithm) {
                        same_id.push((algorithm, key));
                        kept += 1;
                    }
                }
                Err(reason) => tracing::debug!(%reason, "a published key is passed over"),
            }
        }
        Ok(Self(keys))
    }

    pub(super) fn find(&self, id: &str, algorithm: SignatureAlgorithm) -> Option<Found> {
        let same_id = self.0.get(id)?;
        let fitting = same_id.iter().find(|(known, _)| *known == algorithm);
        Some(fitting.map_or(Found::OtherAlgorithm, |(_, key)| {
            Found::Key(Arc::clone(key))
        }))
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    pub(super) fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SUPABASE_BOTH: &str =
        include_str!("../../tests/samples/supabase_jwks_es256_and_rs256.json");
    const SUPABASE_ROTATING: &str =
        include_str!("../../tests/samples/supabase_jwks_es256_two_keys.json");
    const SUPABASE_SECRET: &str =
        include_str!("../../tests/samples/supabase_jwks_empty_hs256_project.json");
    const CLOUDFLARE: &str = include_str!("../../tests/samples/cloudflare_access_certs.json");

    fn set(body: &str) -> KeySet {
        KeySet::parse(body.as_bytes()).unwrap()
    }

    fn elliptic(id: &str, x: &str) -> Value {
        let y = "SsIZpeQNN6X3s02R7gwj85DoxEkCHQXEIoaJY5wDLVc";
        json!({"kty": "EC", "kid": id, "crv": "P-256", "x": x, "y": y})
    }

    #[test]
    fn what_the_providers_publish_is_understood() {
        let both = set(SUPABASE_BOTH);
        assert_eq!(both.count(), 2);
        assert!(matches!(
            both.find(
                "da1acdfe-642e-4ab9-bc77-782613f18087",
                SignatureAlgorithm::Es256
            ),
            Some(Found::Key(_))
        ));
        assert!(matches!(
            both.find(
                "da1acdfe-642e-4ab9-bc77-782613f18087",
                SignatureAlgorithm::Rs256
            ),
            Some(Found::OtherAlgorithm)
        ));
        assert_eq!(set(SUPABASE_ROTATING).count(), 2);
        assert_eq!(set(SUPABASE_SECRET).count(), 0);
        assert_eq!(set(CLOUDFLARE).count(), 2);
    }

    #[test]
    fn what_is_no_key_set_is_an_error() {
        for body in ["", "[]", "{}", "<html></html>", r#"{"keys": {}}"#, "null"] {
            assert!(KeySet::parse(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_bad_key_does_not_spoil_the_set() {
        let x = "kgaxjpzFNrktfTTAYN_bRK-dYcJsiAE566MJWP-zF4w";
        let keys = json!({"keys": [5, {"kty": 7}, elliptic("good", x), {"kty": "OKP"}]});

        assert!(set(&keys.to_string()).knows("good"));
    }

    #[test]
    fn the_first_of_two_keys_with_one_id_counts() {
        let first = "kgaxjpzFNrktfTTAYN_bRK-dYcJsiAE566MJWP-zF4w";
        let second = "CUhF9IhHN8XZ1lVAJQesEf0moQWUBkAP3tTHWvsEA_o";
        let keys = json!({"keys": [elliptic("k", first), elliptic("k", second)]});

        let keys = set(&keys.to_string());

        assert_eq!(keys.count(), 1);
        let Some(Found::Key(key)) = keys.find("k", SignatureAlgorithm::Es256) else {
            panic!("the key is not there");
        };
        let only = set(&json!({"keys": [elliptic("k", first)]}).to_string());
        let Some(Found::Key(expected)) = only.find("k", SignatureAlgorithm::Es256) else {
            panic!("the key is not there");
        };
        assert_eq!(
            key.try_get_as_bytes().unwrap(),
            expected.try_get_as_bytes().unwrap()
        );
    }

    #[test]
    fn no_more_keys_are_kept_than_anybody_publishes() {
        let x = "kgaxjpzFNrktfTTAYN_bRK-dYcJsiAE566MJWP-zF4w";
        let keys: Vec<Value> = (0..1_000)
            .map(|number| elliptic(&number.to_string(), x))
            .collect();

        let keys = set(&json!({ "keys": keys }).to_string());

        assert_eq!(keys.count(), MAX_KEYS);
        assert!(keys.knows("0"));
    }
}

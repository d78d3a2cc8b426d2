use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

/// A key pair of an identity provider.
pub struct SigningKey {
    id: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public_pem: String,
}

impl SigningKey {
    /// Makes a key for ES256.
    pub fn es256(id: &str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256);
        let pair = pair.expect("a key pair");
        Self {
            id: id.to_owned(),
            algorithm: Algorithm::ES256,
            private: EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())
                .expect("a private key"),
            public_pem: pair.public_key_pem(),
        }
    }

    /// Makes a key of 2048 bits for RS256, which takes a moment.
    pub fn rs256(id: &str) -> Self {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
                .expect("a key pair");
        Self {
            id: id.to_owned(),
            algorithm: Algorithm::RS256,
            private: EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes())
                .expect("a private key"),
            public_pem: pair.public_key_pem(),
        }
    }

    /// The id that the key is published under.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What tokens call its algorithm.
    pub fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::ES256 => "ES256",
            _ => "RS256",
        }
    }

    /// The public half as it is published (RFC 7517).
    pub fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.private, self.algorithm).expect("a public key");
        let Ok(Value::Object(mut members)) = serde_json::to_value(jwk) else {
            panic!("a key is an object");
        };
        members.extend(
            [
                ("kid", json!(self.id)),
                ("alg", json!(self.algorithm())),
                ("use", json!("sig")),
                ("key_ops", json!(["verify"])),
                ("ext", json!(true)),
            ]
            .map(|(member, value)| (member.to_owned(), value)),
        );
        Value::Object(members)
    }

    /// The public half in PEM.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// Signs claims the way the provider does.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"});
        self.sign_with_header(&header, claims)
    }

    /// Signs claims under any header, whatever it says of the key.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let signature = crypto::sign(message.as_bytes(), &self.private, self.algorithm);
        format!("{message}.{}", signature.expect("a signature"))
    }
}

/// Leaves the private half out.
impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A token with any header and an empty signature.
pub fn unsigned_token(header: &Value, claims: &Value) -> String {
    format!("{}.", message(header, claims))
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

//! Keys, claims, and how a verdict is told.

use std::error::Error;
use std::fmt;
use std::sync::LazyLock;

use atelier_domain::identity::Identity;
use atelier_domain::ports::{IdentityError, TokenVerifier};
use atelier_testkit::build::EPOCH;
use atelier_testkit::jwks_double::{SigningKey, unsigned_token};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

pub(crate) const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";
pub(crate) const USER: &str = "8f14e45f-ceea-467f-a0e6-2b7a51a4d7c1";
pub(crate) const EMAIL: &str = "someone@example.com";

/// The keys of the provider: the one that signs, the one that is next, and one of the other kind.
pub(crate) static CURRENT: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::es256("current"));
pub(crate) static STANDBY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::es256("standby"));
pub(crate) static RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rs256("rsa"));
pub(crate) static NEXT_RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rs256("next-rsa"));
/// Keys of somebody else, under the same names.
pub(crate) static FORGED: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::es256("current"));
pub(crate) static FORGED_RSA: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::rs256("rsa"));

pub(crate) fn now() -> i64 {
    EPOCH.timestamp()
}

/// Replaces a claim; `null` takes it away.
pub(crate) fn with(mut claims: Value, member: &str, value: Value) -> Value {
    let members = claims.as_object_mut().unwrap();
    if value.is_null() {
        members.remove(member);
    } else {
        members.insert(member.to_owned(), value);
    }
    claims
}

/// Signs with a secret: any bytes, under any header.
pub(crate) fn hmac(header: &Value, claims: &Value, secret: &[u8], algorithm: Algorithm) -> String {
    let message = unsigned_token(header, claims);
    let message = message.trim_end_matches('.');
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

pub(crate) fn hs256(claims: &Value) -> String {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    hmac(&header, claims, SECRET.as_bytes(), Algorithm::HS256)
}

/// Puts another signature at the end of a token.
pub(crate) fn resigned(token: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let signature = change(URL_SAFE_NO_PAD.decode(signature).unwrap());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Puts other claims under a signature.
pub(crate) fn reclaimed(token: &str, claims: &Value) -> String {
    let (header, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("{header}.{claims}.{signature}")
}

/// The signature of ECDSA as X.509 writes it: a DER sequence of r and s.
pub(crate) fn der(signature: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let number: Vec<u8> = number
            .iter()
            .copied()
            .skip_while(|byte| *byte == 0)
            .collect();
        let sign = number.first().is_some_and(|first| first & 0x80 != 0);
        let mut der = vec![2, u8::try_from(number.len()).unwrap() + u8::from(sign)];
        der.extend(sign.then_some(0));
        der.extend(number);
        der
    };
    let (r, s) = signature.split_at(32);
    let body = [integer(r), integer(s)].concat();
    let mut der = vec![0x30, u8::try_from(body.len()).unwrap()];
    der.extend(body);
    der
}

/// What a verifier is to say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expected {
    /// It is the user, with this address.
    User(Option<&'static str>),
    /// It is the person with this subject.
    Person(&'static str),
    /// It is the service token with this client id.
    Service(&'static str),
    /// It is refused, in words that hold these.
    Refused(&'static str),
    /// Nobody can tell, for a cause whose words hold these.
    Unavailable(&'static str),
}

/// What a verifier says, in one line.
pub(crate) struct Verdict(Result<Identity, IdentityError>);

impl Verdict {
    pub(crate) async fn of(verifier: &dyn TokenVerifier, token: &str) -> Self {
        Self(verifier.verify(token).await)
    }

    pub(crate) fn is(&self, expected: Expected) -> bool {
        match (&self.0, expected) {
            (Ok(Identity::User(user)), Expected::User(email)) => {
                user.user_id.to_string() == USER && user.email.as_deref() == email
            }
            (Ok(Identity::External(person)), Expected::Person(subject)) => {
                person.subject == subject && person.email == EMAIL
            }
            (Ok(Identity::Service(service)), Expected::Service(client_id)) => {
                service.client_id == client_id
            }
            (Err(IdentityError::Refused(said)), Expected::Refused(words)) => {
                // What the token holds may be personal, and is not for logs.
                said.contains(words) && !said.contains(EMAIL)
            }
            (Err(error @ IdentityError::Unavailable(_)), Expected::Unavailable(words)) => {
                chain(error).contains(words)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(identity) => write!(formatter, "{identity:?}"),
            Err(error) => formatter.write_str(&chain(error)),
        }
    }
}

fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

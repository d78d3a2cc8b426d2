//! What the verifier takes and what it refuses.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::UserId;
use atelier_domain::ports::{Clock, Credentials, IdentityError, TokenVerifier};
use atelier_identity::{
    AccessToken, SupabaseOptions, SupabaseOptionsError, SupabaseTokens, sign_access_token,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const SECRET: &str = "a-secret-of-at-least-thirty-two-characters";
const ISSUER: &str = "http://127.0.0.1:54321/auth/v1";
const NOW: i64 = 1_795_000_000;
const USER: &str = "8f14e45f-ceea-467f-a0e6-2b7a51a4d7c1";

struct Noon;

impl Clock for Noon {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(NOW, 0).unwrap()
    }
}

fn verifier() -> SupabaseTokens {
    let options = SupabaseOptions {
        secret: SECRET.to_owned(),
        issuer: Some(ISSUER.to_owned()),
    };
    SupabaseTokens::new(options, Arc::new(Noon)).unwrap()
}

async fn verify(token: &str) -> Result<Actor, IdentityError> {
    let credentials = Credentials {
        bearer: Some(token.to_owned()),
        access_assertion: None,
    };
    verifier().verify(&credentials).await
}

async fn refusal(token: &str) -> String {
    match verify(token).await {
        Err(IdentityError::Refused(reason)) => reason,
        other => panic!("the token was not refused: {other:?}"),
    }
}

fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "sub": USER, "aud": "authenticated", "exp": NOW + 3600, "iat": NOW,
        "email": "someone@example.com", "phone": "", "role": "authenticated", "aal": "aal1",
        "amr": [{"method": "password", "timestamp": NOW}], "is_anonymous": false,
        "app_metadata": {"provider": "email"}, "user_metadata": {},
        "session_id": "5f0d1d1c-0f04-4a0e-a0f5-8c9d1d9c8d4e"
    })
}

fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}

fn with(member: &str, value: Value) -> String {
    let mut claims = good_claims();
    claims[member] = value;
    signed(&claims)
}

#[tokio::test]
async fn a_good_token_names_its_user() {
    let actor = verify(&signed(&good_claims())).await.unwrap();

    assert_eq!(actor.user_id().to_string(), USER);
    assert_eq!(actor.email(), Some("someone@example.com"));
}

#[tokio::test]
async fn a_token_that_we_sign_is_good() {
    let token = AccessToken {
        user_id: USER.parse::<UserId>().unwrap(),
        email: None,
        issuer: Some(ISSUER),
        issued_at: Noon.now(),
        valid_for: Duration::from_mins(1),
    };

    let actor = verify(&sign_access_token(SECRET, token).unwrap()).await;

    assert_eq!(actor.unwrap().user_id().to_string(), USER);
}

#[tokio::test]
async fn an_audience_in_a_list_is_good() {
    assert!(
        verify(&with("aud", json!(["x", "authenticated"])))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn no_token_is_missing_credentials() {
    let outcome = verifier().verify(&Credentials::default()).await;

    assert!(matches!(outcome, Err(IdentityError::Missing)));
}

#[tokio::test]
async fn claims_that_are_off_are_refused_with_their_reason() {
    for (member, value, reason) in [
        ("exp", json!(NOW - 31), "expired"),
        ("exp", Value::Null, "no time of expiry"),
        ("iat", json!(NOW + 3600), "not good yet"),
        ("nbf", json!(NOW + 3600), "not good yet"),
        ("iss", json!("https://elsewhere/auth/v1"), "somebody else"),
        ("iss", Value::Null, "somebody else"),
        ("aud", json!("anon"), "audience"),
        ("aud", Value::Null, "audience"),
        ("role", json!("service_role"), "role"),
        ("role", json!("supabase_admin"), "role"),
        ("role", Value::Null, "role"),
        ("sub", json!("not-a-uuid"), "subject"),
        ("sub", json!(""), "subject"),
        ("is_anonymous", json!(true), "anonymous"),
        ("exp", json!("soon"), "three parts"),
    ] {
        let said = refusal(&with(member, value.clone())).await;

        assert!(said.contains(reason), "{member} = {value}: {said}");
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_refused() {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", "NONE"] {
        let header = part(&json!({"alg": algorithm, "typ": "JWT"}));
        let token = format!("{header}.{}.", part(&good_claims()));

        assert!(refusal(&token).await.contains("HS256"), "{algorithm}");
    }
}

#[tokio::test]
async fn another_secret_or_algorithm_is_refused() {
    let sign = |algorithm, secret: &str| {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), &good_claims(), &key).unwrap()
    };

    let forged = sign(
        Algorithm::HS256,
        "some-other-secret-of-thirty-two-characters",
    );
    assert!(refusal(&forged).await.contains("signature"));
    let other = sign(Algorithm::HS512, SECRET);
    assert!(refusal(&other).await.contains("HS256"));
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    assert!(refusal("sb_publishable_abc").await.contains("API key"));
    assert!(refusal("one.two").await.contains("three parts"));
    assert!(refusal("a.b.c").await.contains("HS256"));
    assert!(refusal(&"x".repeat(9000)).await.contains("longer"));
}

#[test]
fn a_short_secret_is_refused_and_never_shown() {
    let options = SupabaseOptions {
        secret: "hunter2".to_owned(),
        issuer: None,
    };

    assert!(!format!("{options:?}").contains("hunter2"));
    assert_eq!(
        SupabaseTokens::new(options, Arc::new(Noon)).unwrap_err(),
        SupabaseOptionsError::ShortSecret { bytes: 7 }
    );
}

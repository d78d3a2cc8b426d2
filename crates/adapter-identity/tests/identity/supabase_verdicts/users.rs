use std::sync::Arc;
use std::time::Duration;

use atelier_identity::{RemoteKeysOptions, SupabaseOptions, SupabaseTokens, sign_access_token};
use atelier_testkit::ManualClock;
use atelier_testkit::build::EPOCH;
use atelier_testkit::jwks_double::{JwksDouble, KeysFault};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::{GOOD, ISSUER, claiming, claims, judge, row};
use crate::support::{
    CURRENT, EMAIL, Expected, RSA, SECRET, STANDBY, USER, Verdict, hmac, hs256, now, with,
};

#[tokio::test]
async fn tokens_of_users_are_good() {
    let ours = atelier_identity::AccessToken {
        user_id: USER.parse().unwrap(),
        email: Some(EMAIL),
        issuer: Some(ISSUER),
        issued_at: EPOCH,
        valid_for: Duration::from_mins(1),
    };
    let kid = |kid: &str| json!({"alg": "HS256", "typ": "JWT", "kid": kid});
    let hooked = with(claims(), "amr", json!(["password"]));
    judge(vec![
        row("ES256 by the current key", CURRENT.sign(&claims()), GOOD),
        row("ES256 by the standby key", STANDBY.sign(&claims()), GOOD),
        row("RS256", RSA.sign(&claims()), GOOD),
        row("HS256 without a key id", hs256(&claims()), GOOD),
        row(
            "HS256 with a key id that no JWKS has",
            hmac(&kid("x"), &claims(), SECRET.as_bytes(), Algorithm::HS256),
            GOOD,
        ),
        row(
            "one of our own making",
            sign_access_token(SECRET, ours).unwrap(),
            GOOD,
        ),
        row(
            "an audience in a list",
            claiming("aud", json!(["x", "authenticated"])),
            GOOD,
        ),
        row(
            "no e-mail address",
            claiming("email", json!("")),
            Expected::User(None),
        ),
        row("claims that a hook changed", CURRENT.sign(&hooked), GOOD),
        row(
            "expired within the leeway",
            claiming("exp", json!(now() - 29)),
            GOOD,
        ),
        row(
            "issued within the leeway",
            claiming("iat", json!(now() + 29)),
            GOOD,
        ),
        row(
            "no second factor asked for",
            claiming("aal", Value::Null),
            GOOD,
        ),
        row(
            "anonymous, and allowed",
            claiming("is_anonymous", json!(true)),
            GOOD,
        )
        .when(|_, options| options.allow_anonymous = true),
        row("a second factor", claiming("aal", json!("aal2")), GOOD)
            .when(|_, options| options.require_aal2 = true),
        row("HS256 while the JWKS is down", hs256(&claims()), GOOD)
            .when(|double, _| double.fail(Some(KeysFault::Reset))),
        row(
            "the issuer is not looked at if none is configured",
            hs256(&with(claims(), "iss", Value::Null)),
            GOOD,
        )
        .when(|_, options| {
            options.issuer = None;
            options.jwks = None;
        }),
    ])
    .await;
}

/// A session as Supabase Auth hands it out, and the key that signed it.
#[tokio::test]
async fn a_recorded_session_is_good() {
    const SESSION: &str = include_str!("../../samples/token_password_200.json");
    const KEYS: &str = include_str!("../../samples/supabase_jwks_es256_and_rs256.json");
    let session: Value = serde_json::from_str(SESSION).unwrap();
    let double = JwksDouble::start().unwrap();
    double.fail(Some(KeysFault::json(200, KEYS)));
    let options = SupabaseOptions {
        issuer: Some(ISSUER.to_owned()),
        jwks: Some(RemoteKeysOptions::at(double.jwks_url())),
        ..SupabaseOptions::default()
    };
    let clock = Arc::new(ManualClock::default());
    let tokens = SupabaseTokens::new(options, clock, Handle::current()).unwrap();

    let verdict = Verdict::of(&tokens, session["access_token"].as_str().unwrap()).await;

    let user_id = session["user"]["id"].as_str().unwrap();
    assert!(verdict.to_string().contains(user_id), "{verdict}");
}

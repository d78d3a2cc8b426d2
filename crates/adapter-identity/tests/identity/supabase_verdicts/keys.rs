use std::time::Duration;

use atelier_identity::{RemoteKeysOptions, SupabaseOptions};
use atelier_testkit::jwks_double::{JwksDouble, KeysFault};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{GOOD, claims, judge, row};
use crate::support::{CURRENT, Expected, FORGED, RSA, hs256, with};

#[tokio::test]
async fn keys_that_cannot_be_had_are_nobodys_fault_but_no_way_in() {
    let token = || CURRENT.sign(&claims());
    let faulty = |name: &'static str, fault: KeysFault, words: &'static str| {
        row(name, token(), Expected::Unavailable(words))
            .when(move |double, _| double.fail(Some(fault.clone())))
    };
    let impatient = |double: &JwksDouble, options: &mut SupabaseOptions, fault: KeysFault| {
        double.fail(Some(fault));
        options.jwks.as_mut().unwrap().answer_within = Duration::from_millis(200);
    };
    let huge = format!(r#"{{"keys":[], "more": "{}"}}"#, "x".repeat(300 * 1024));
    judge(vec![
        faulty("down", KeysFault::Reset, "connection failed"),
        row("slow", token(), Expected::Unavailable("within 200 ms"))
            .when(move |double, options| impatient(double, options, KeysFault::Stall)),
        row(
            "slow in the middle",
            token(),
            Expected::Unavailable("within 200 ms"),
        )
        .when(move |double, options| impatient(double, options, KeysFault::StallInBody)),
        faulty("huge", KeysFault::json(200, huge), "longer than"),
        faulty("a page", KeysFault::page(200), "no JSON Web Key Set"),
        faulty(
            "no keys in it",
            KeysFault::json(200, "{}"),
            "no JSON Web Key Set",
        ),
        faulty("an error", KeysFault::page(500), "status 500"),
        faulty("not there", KeysFault::page(404), "status 404"),
        faulty("no content", KeysFault::json(204, ""), "status 204"),
        row(
            "nobody listens",
            token(),
            Expected::Unavailable("connection failed"),
        )
        .when(|_, options| {
            options.jwks = Some(RemoteKeysOptions::at("http://127.0.0.1:1/jwks"));
        }),
    ])
    .await;
}

#[tokio::test]
async fn keys_that_are_not_fit_are_as_good_as_none() {
    let unknown = Expected::Refused("key that this server does not know");
    let publishing = |name: &'static str, member: &'static str, value: Value| {
        row(name, CURRENT.sign(&claims()), unknown).when(move |double, _| {
            double.publish_jwks(vec![with(CURRENT.jwk(), member, value.clone())]);
        })
    };
    let weak = URL_SAFE_NO_PAD.encode([0xff; 128]);
    judge(vec![
        row("no keys at all", CURRENT.sign(&claims()), unknown)
            .when(|double, _| double.publish(&[])),
        publishing("no id", "kid", Value::Null),
        publishing("another id", "kid", json!("other")),
        publishing("for encryption", "use", json!("enc")),
        publishing("for signing", "key_ops", json!(["sign"])),
        publishing("of another curve", "crv", json!("P-384")),
        publishing("of another algorithm", "alg", json!("ES384")),
        publishing("of a family that does not fit", "alg", json!("RS256")),
        publishing("of another type", "kty", json!("OKP")),
        row("an RSA key of 1024 bits", RSA.sign(&claims()), unknown).when(move |double, _| {
            double.publish_jwks(vec![with(RSA.jwk(), "n", json!(weak.clone()))]);
        }),
        row("a secret that is published", hs256(&claims()), GOOD).when(|double, _| {
            let secret = URL_SAFE_NO_PAD.encode("published");
            double.publish_jwks(vec![json!({"kty": "oct", "kid": "k", "k": secret})]);
        }),
        row("a good key among bad ones", CURRENT.sign(&claims()), GOOD).when(|double, _| {
            double.publish_jwks(vec![json!(7), json!({}), CURRENT.jwk()]);
        }),
        row(
            "the first of two keys with one id",
            FORGED.sign(&claims()),
            Expected::Refused("signature"),
        )
        .when(|double, _| double.publish(&[&CURRENT, &FORGED])),
        row(
            "two kinds of keys with one id",
            RSA.sign_with_header(&json!({"alg": "RS256", "kid": "current"}), &claims()),
            GOOD,
        )
        .when(|double, _| {
            double.publish_jwks(vec![
                CURRENT.jwk(),
                with(RSA.jwk(), "kid", json!("current")),
            ]);
        }),
    ])
    .await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = JwksDouble::start().unwrap();
    elsewhere.publish(&[&CURRENT]);
    let location = elsewhere.jwks_url();

    let row = row(
        "a redirect",
        CURRENT.sign(&claims()),
        Expected::Unavailable("redirect"),
    )
    .when(move |double, _| double.fail(Some(KeysFault::redirect(&location))));
    judge(vec![row]).await;

    assert_eq!(elsewhere.count(), 0);
}

use serde_json::{Value, json};

use super::{ISSUER, claiming, claims, headed, judge, row};
use crate::support::{CURRENT, Expected, FORGED, now, with};

#[tokio::test]
async fn claims_are_judged_one_by_one() {
    let rule = |member: &'static str, value: Value, words: &'static str| {
        row(member, claiming(member, value), Expected::Refused(words))
    };
    let mut rows = vec![
        rule("exp", json!(now() - 31), "expired"),
        rule("exp", Value::Null, "no time of expiry"),
        rule("exp", json!("soon"), "claims"),
        rule("iat", json!(now() + 31), "not good yet"),
        rule("nbf", json!(now() + 31), "not good yet"),
        rule(
            "iss",
            json!("https://elsewhere.supabase.co/auth/v1"),
            "somebody else",
        ),
        rule("iss", json!(format!("{ISSUER}/")), "somebody else"),
        rule("iss", json!(ISSUER.to_uppercase()), "somebody else"),
        rule("iss", json!([ISSUER]), "claims"),
        rule("iss", Value::Null, "somebody else"),
        rule("aud", json!("anon"), "audience"),
        rule("aud", json!(["x", "y"]), "audience"),
        rule("aud", json!([]), "audience"),
        rule("aud", Value::Null, "audience"),
        rule("role", json!("service_role"), "role"),
        rule("role", json!("anon"), "role"),
        rule("role", json!("supabase_admin"), "role"),
        rule("role", json!("postgres"), "role"),
        rule("role", json!("Authenticated"), "role"),
        rule("role", Value::Null, "role"),
        rule("sub", json!("not-a-uuid"), "subject"),
        rule("sub", json!("8f14e45fceea467fa0e62b7a51a4d7c1"), "subject"),
        rule("sub", json!(""), "subject"),
        rule("sub", Value::Null, "subject"),
        rule("is_anonymous", json!(true), "anonymous"),
        rule("is_anonymous", json!("no"), "claims"),
        rule("aal", json!("aal1"), "second factor").when(|_, options| options.require_aal2 = true),
        rule("aal", Value::Null, "second factor").when(|_, options| options.require_aal2 = true),
    ];
    let header = json!({"alg": "ES256", "kid": "current"});
    for nonsense in [json!([]), json!("claims"), json!(7)] {
        let token = CURRENT.sign_with_header(&header, &nonsense);
        rows.push(row(
            "claims that are none",
            token,
            Expected::Refused("claims"),
        ));
    }
    judge(rows).await;
}

#[tokio::test]
async fn the_order_of_the_checks_is_that_of_the_record() {
    // Each token breaks two neighbours of the list; the first one is told.
    let both = |one: (&str, Value), other: (&str, Value)| {
        let claims = with(claims(), one.0, one.1);
        CURRENT.sign(&with(claims, other.0, other.1))
    };
    let expired = || ("exp", json!(now() - 3600));
    judge(vec![
        row(
            "critical, then algorithm",
            headed(&json!({"alg": "none", "crit": []})),
            Expected::Refused("crit"),
        ),
        row(
            "algorithm, then key id",
            headed(&json!({"alg": "PS256"})),
            Expected::Refused("accepts"),
        ),
        row(
            "signature, then times",
            FORGED.sign(&with(claims(), "exp", json!(1))),
            Expected::Refused("signature"),
        ),
        row(
            "times, then issuer",
            both(expired(), ("iss", json!("x"))),
            Expected::Refused("expired"),
        ),
        row(
            "issuer, then audience",
            both(("iss", json!("x")), ("aud", json!("x"))),
            Expected::Refused("somebody else"),
        ),
        row(
            "audience, then role",
            both(("aud", json!("x")), ("role", json!("x"))),
            Expected::Refused("audience"),
        ),
        row(
            "role, then subject",
            both(("role", json!("x")), ("sub", json!("x"))),
            Expected::Refused("role"),
        ),
        row(
            "subject, then anonymous",
            both(("sub", json!("x")), ("is_anonymous", json!(true))),
            Expected::Refused("subject"),
        ),
    ])
    .await;
}

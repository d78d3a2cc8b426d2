//! The verdicts on assertions of Cloudflare Access: every rule of
//! `reference/platform/PROTOCOLS.md` section 3 broken once.

use std::sync::Arc;

use atelier_domain::identity::Identity;
use atelier_domain::ports::TokenVerifier;
use atelier_identity::{CloudflareAccess, CloudflareOptions, RemoteKeysOptions};
use atelier_testkit::ManualClock;
use atelier_testkit::jwks_double::{JwksDouble, KeysFault, unsigned_token};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::support::{
    CURRENT, EMAIL, Expected, FORGED_RSA, NEXT_RSA, RSA, Verdict, hmac, now, reclaimed, with,
};

const TEAM: &str = "https://atelier.cloudflareaccess.com";
const AUD: &str = "4714c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6f2";
const SECOND_AUD: &str = "9f2c1358e65fe4b408ad6d432a5f878f08194bdb4752441fd56faefa9b2b6aa1";
const SUBJECT: &str = "7335d417-61da-459d-899c-0a01c76a2f94";
const CLIENT: &str = "e367826f93b8d71185e03fe518aff3b4.access";
const PERSON: Expected = Expected::Person(SUBJECT);
const SERVICE: Expected = Expected::Service(CLIENT);

fn person() -> Value {
    json!({
        "aud": [AUD], "email": EMAIL, "exp": now() + 86_400, "iat": now(), "nbf": now(),
        "iss": TEAM, "type": "app", "identity_nonce": "6ei69kawdKzMIAPF", "sub": SUBJECT,
        "country": "PT", "custom": {"groups": ["admins"]}
    })
}

fn service() -> Value {
    json!({
        "type": "app", "aud": AUD, "exp": now() + 86_400, "iss": TEAM, "common_name": CLIENT,
        "iat": now(), "sub": ""
    })
}

fn access(double: &JwksDouble) -> CloudflareAccess {
    let options = CloudflareOptions {
        team_domain: "atelier".to_owned(),
        audiences: vec![AUD.to_owned(), format!(" {SECOND_AUD}\n")],
        certs: Some(RemoteKeysOptions::at(double.certs_url())),
    };
    let clock = Arc::new(ManualClock::default());
    CloudflareAccess::new(options, clock, Handle::current()).unwrap()
}

async fn judge(rows: &[(&str, String, Expected)]) {
    let double = JwksDouble::start().unwrap();
    double.publish(&[&RSA, &NEXT_RSA, &CURRENT]);
    let access = access(&double);
    let mut surprises = Vec::new();
    for (name, token, expected) in rows {
        let verdict = Verdict::of(&access, token).await;
        if !verdict.is(*expected) {
            surprises.push(format!("{name}: {verdict}, not {expected:?}"));
        }
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

fn person_with(member: &str, value: Value) -> String {
    RSA.sign(&with(person(), member, value))
}

#[tokio::test]
async fn people_and_service_tokens_of_the_team_are_good() {
    judge(&[
        ("a person", RSA.sign(&person()), PERSON),
        (
            "by the other key of a rotation",
            NEXT_RSA.sign(&person()),
            PERSON,
        ),
        ("a service token", RSA.sign(&service()), SERVICE),
        (
            "a service token without `sub`",
            RSA.sign(&with(service(), "sub", Value::Null)),
            SERVICE,
        ),
        (
            "our second application",
            person_with("aud", json!([SECOND_AUD])),
            PERSON,
        ),
        (
            "several audiences",
            person_with("aud", json!(["x", AUD])),
            PERSON,
        ),
        (
            "an audience that is no list",
            person_with("aud", json!(AUD)),
            PERSON,
        ),
        (
            "an empty common name",
            person_with("common_name", json!("")),
            PERSON,
        ),
        (
            "expired within the leeway",
            person_with("exp", json!(now() - 29)),
            PERSON,
        ),
    ])
    .await;
}

#[tokio::test]
async fn assertions_that_break_a_rule_are_refused() {
    let algorithm = Expected::Refused("accepts: RS256");
    let unknown = Expected::Refused("key that this server does not know");
    let other_application = Expected::Refused("another application");
    let nobody = Expected::Refused("neither one person");
    let header = |kid: &str| json!({"alg": "RS256", "kid": kid});
    let hs256 = json!({"alg": "HS256", "kid": "rsa"});
    judge(&[
        ("ES256", CURRENT.sign(&person()), algorithm),
        (
            "HS256 with the public key",
            hmac(
                &hs256,
                &person(),
                RSA.public_pem().as_bytes(),
                Algorithm::HS256,
            ),
            algorithm,
        ),
        (
            "none",
            unsigned_token(&json!({"alg": "none", "kid": "rsa"}), &person()),
            algorithm,
        ),
        (
            "RS256 under the name of an EC key",
            RSA.sign_with_header(&header("current"), &person()),
            Expected::Refused("does not fit"),
        ),
        (
            "no key id",
            RSA.sign_with_header(&json!({"alg": "RS256"}), &person()),
            Expected::Refused("`kid`"),
        ),
        (
            "an unknown key id",
            RSA.sign_with_header(&header("x"), &person()),
            unknown,
        ),
        (
            "the key id of `public_cert`",
            RSA.sign_with_header(&header("not-to-be-used"), &person()),
            unknown,
        ),
        (
            "another key under a known name",
            FORGED_RSA.sign(&person()),
            Expected::Refused("signature"),
        ),
        (
            "another payload",
            reclaimed(&RSA.sign(&service()), &person()),
            Expected::Refused("signature"),
        ),
        (
            "a critical extension",
            RSA.sign_with_header(
                &json!({"alg": "RS256", "kid": "rsa", "crit": ["x"]}),
                &person(),
            ),
            Expected::Refused("crit"),
        ),
        (
            "too long",
            person_with("custom", json!("x".repeat(8192))),
            Expected::Refused("longer"),
        ),
        (
            "no token",
            "CF_Authorization".to_owned(),
            Expected::Refused("three parts"),
        ),
        (
            "another team",
            person_with("iss", json!("https://evil.cloudflareaccess.com")),
            Expected::Refused("somebody else"),
        ),
        (
            "a slash too many",
            person_with("iss", json!(format!("{TEAM}/"))),
            Expected::Refused("somebody else"),
        ),
        (
            "no issuer",
            person_with("iss", Value::Null),
            Expected::Refused("somebody else"),
        ),
        (
            "another application of the team",
            person_with("aud", json!(["f".repeat(64)])),
            other_application,
        ),
        (
            "an audience that lacks its end",
            person_with("aud", json!([AUD.trim_end_matches('2')])),
            other_application,
        ),
        (
            "no audience",
            person_with("aud", Value::Null),
            other_application,
        ),
        (
            "expired",
            person_with("exp", json!(now() - 31)),
            Expected::Refused("expired"),
        ),
        (
            "no time of expiry",
            person_with("exp", Value::Null),
            Expected::Refused("no time of expiry"),
        ),
        (
            "not yet",
            person_with("nbf", json!(now() + 31)),
            Expected::Refused("not good yet"),
        ),
        (
            "issued later",
            person_with("iat", json!(now() + 31)),
            Expected::Refused("not good yet"),
        ),
        (
            "a session of the whole organisation",
            person_with("type", json!("org")),
            Expected::Refused("not one for an application"),
        ),
        (
            "no type",
            person_with("type", Value::Null),
            Expected::Refused("not one for an application"),
        ),
        (
            "no e-mail address",
            person_with("email", Value::Null),
            nobody,
        ),
        (
            "an empty e-mail address",
            person_with("email", json!("")),
            nobody,
        ),
        ("no subject", person_with("sub", Value::Null), nobody),
        ("an empty subject", person_with("sub", json!("")), nobody),
        (
            "a person and a service",
            person_with("common_name", json!(CLIENT)),
            nobody,
        ),
        (
            "a service with a subject",
            RSA.sign(&with(service(), "sub", json!(SUBJECT))),
            nobody,
        ),
        (
            "a service with an e-mail address",
            RSA.sign(&with(service(), "email", json!(EMAIL))),
            nobody,
        ),
        (
            "nobody",
            RSA.sign(&with(service(), "common_name", Value::Null)),
            nobody,
        ),
        (
            "an e-mail address that is a list",
            person_with("email", json!([EMAIL])),
            Expected::Refused("claims"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn an_identity_names_its_issuer() {
    let double = JwksDouble::start().unwrap();
    double.publish(&[&RSA]);
    let access = access(&double);

    let person = access.verify(&RSA.sign(&person())).await.unwrap();
    let service = access.verify(&RSA.sign(&service())).await.unwrap();

    assert!(matches!(person, Identity::External(person) if person.issuer == TEAM));
    assert!(matches!(service, Identity::Service(service) if service.issuer == TEAM));
    assert_eq!(access.issuer(), TEAM);
}

#[tokio::test]
async fn without_keys_nobody_can_tell() {
    let double = JwksDouble::start().unwrap();
    double.fail(Some(KeysFault::page(503)));

    let verdict = Verdict::of(&access(&double), &RSA.sign(&person())).await;

    assert!(verdict.is(Expected::Unavailable("status 503")), "{verdict}");
}

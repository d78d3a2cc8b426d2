use atelier_identity::SignatureAlgorithm;
use atelier_testkit::jwks_double::unsigned_token;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::{World, claims, headed, judge, row};
use crate::support::{
    CURRENT, Expected, FORGED, FORGED_RSA, RSA, SECRET, Verdict, der, hmac, reclaimed, resigned,
    with,
};

#[tokio::test]
async fn no_algorithm_is_taken_from_the_token() {
    let refused = Expected::Refused("algorithm that this server accepts: ES256, RS256, HS256");
    let confused = Expected::Refused("does not fit the key");
    let bad = Expected::Refused("signature is not good");
    let named = |algorithm: &str| json!({"alg": algorithm, "kid": "current", "typ": "JWT"});
    let with_secret =
        |header: &Value, secret: &[u8]| hmac(header, &claims(), secret, Algorithm::HS256);
    let bare = json!({"alg": "HS256", "typ": "JWT"});
    let jwk = CURRENT.jwk();
    let point = [jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap()]
        .map(|number| URL_SAFE_NO_PAD.decode(number).unwrap())
        .concat();
    let mut rows = vec![
        row(
            "HS256 with the public key of the key it names",
            with_secret(&named("HS256"), CURRENT.public_pem().as_bytes()),
            bad,
        ),
        row(
            "HS256 with the PEM of an EC key",
            with_secret(&bare, CURRENT.public_pem().as_bytes()),
            bad,
        ),
        row(
            "HS256 with the PEM of an RSA key",
            with_secret(&bare, RSA.public_pem().as_bytes()),
            bad,
        ),
        row(
            "HS256 with the JWK",
            with_secret(&bare, jwk.to_string().as_bytes()),
            bad,
        ),
        row("HS256 with the point", with_secret(&bare, &point), bad),
        row(
            "HS256 with the modulus",
            with_secret(
                &bare,
                &URL_SAFE_NO_PAD
                    .decode(RSA.jwk()["n"].as_str().unwrap())
                    .unwrap(),
            ),
            bad,
        ),
        row("HS256 with nothing", with_secret(&bare, b""), bad),
        row(
            "HS256 with another secret",
            with_secret(&bare, b"another secret of another project"),
            bad,
        ),
        row(
            "HS256 with a public key, and no secret known",
            with_secret(&bare, CURRENT.public_pem().as_bytes()),
            Expected::Refused("accepts: ES256, RS256"),
        )
        .when(|_, options| options.secret = None),
        row(
            "HS384",
            hmac(
                &named("HS384"),
                &claims(),
                SECRET.as_bytes(),
                Algorithm::HS384,
            ),
            refused,
        ),
        row(
            "HS512",
            hmac(
                &named("HS512"),
                &claims(),
                SECRET.as_bytes(),
                Algorithm::HS512,
            ),
            refused,
        ),
        row(
            "ES256 under the name of an RSA key",
            CURRENT.sign_with_header(&json!({"alg": "ES256", "kid": "rsa"}), &claims()),
            confused,
        ),
        row(
            "RS256 under the name of an EC key",
            RSA.sign_with_header(&named("RS256"), &claims()),
            confused,
        ),
        row(
            "RS256 where ES256 alone is wanted",
            RSA.sign(&claims()),
            Expected::Refused("accepts: ES256"),
        )
        .when(|_, options| options.algorithms = vec![SignatureAlgorithm::Es256]),
        row(
            "ES256 where only the secret is known",
            CURRENT.sign(&claims()),
            Expected::Refused("accepts: HS256"),
        )
        .when(|_, options| options.jwks = None),
    ];
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        rows.push(row(
            "none",
            unsigned_token(&named(algorithm), &claims()),
            refused,
        ));
    }
    for algorithm in [
        "es256", "ES384", "ES256K", "PS256", "RS512", "EdDSA", "RSA-OAEP",
    ] {
        rows.push(row(
            "an algorithm that is not ours",
            headed(&named(algorithm)),
            refused,
        ));
    }
    judge(rows).await;
}

#[tokio::test]
async fn the_secret_goes_with_no_name_of_a_published_key() {
    let World { tokens, _double } = World::new(|_, _| {});
    tokens.check_keys().await.unwrap();
    let header = json!({"alg": "HS256", "kid": "current"});

    for secret in [SECRET.as_bytes(), CURRENT.public_pem().as_bytes()] {
        let token = hmac(&header, &claims(), secret, Algorithm::HS256);
        let verdict = Verdict::of(&tokens, &token).await;
        assert!(
            verdict.is(Expected::Refused("does not fit the key")),
            "{verdict}"
        );
    }
}

#[tokio::test]
async fn no_key_is_taken_from_the_token_and_no_signature_bends() {
    let unknown = Expected::Refused("key that this server does not know");
    let bad = Expected::Refused("signature is not good");
    let critical = Expected::Refused("crit");
    let good = CURRENT.sign(&claims());
    let by_rsa = RSA.sign(&claims());
    let flipped = |mut signature: Vec<u8>| {
        signature[40] ^= 1;
        signature
    };
    let brought = json!({"alg": "ES256", "kid": "mine", "jwk": FORGED.jwk(),
        "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/cert.pem"});
    let brought_under_a_known_name = with(brought.clone(), "kid", json!("current"));
    let someone_else = with(
        claims(),
        "sub",
        json!("00000000-0000-4000-8000-000000000001"),
    );
    judge(vec![
        row(
            "no key id",
            headed(&json!({"alg": "ES256", "typ": "JWT"})),
            Expected::Refused("`kid`"),
        ),
        row(
            "no key id, RS256",
            RSA.sign_with_header(&json!({"alg": "RS256"}), &claims()),
            Expected::Refused("`kid`"),
        ),
        row(
            "an unknown key id",
            headed(&json!({"alg": "ES256", "kid": "nobody's"})),
            unknown,
        ),
        row(
            "an empty key id",
            headed(&json!({"alg": "ES256", "kid": ""})),
            unknown,
        ),
        row(
            "a key that the token brings along",
            FORGED.sign_with_header(&brought, &claims()),
            unknown,
        ),
        row(
            "the same under a known name",
            FORGED.sign_with_header(&brought_under_a_known_name, &claims()),
            bad,
        ),
        row(
            "another key under a known name",
            FORGED.sign(&claims()),
            bad,
        ),
        row(
            "another RSA key under a known name",
            FORGED_RSA.sign(&claims()),
            bad,
        ),
        row(
            "a signature in DER",
            resigned(&good, |signature| der(&signature)),
            bad,
        ),
        row(
            "a signature of zeros",
            resigned(&good, |signature| vec![0; signature.len()]),
            bad,
        ),
        row("one bit is another", resigned(&good, flipped), bad),
        row("one bit is another, RS256", resigned(&by_rsa, flipped), bad),
        row(
            "a signature that is too short",
            resigned(&good, |signature| signature[..63].to_vec()),
            bad,
        ),
        row(
            "a signature that is too long",
            resigned(&good, |signature| [signature, vec![0]].concat()),
            bad,
        ),
        row("no signature", resigned(&good, |_| Vec::new()), bad),
        row("a signature with padding", format!("{good}="), bad),
        row("another payload", reclaimed(&good, &someone_else), bad),
        row(
            "a critical extension",
            headed(&json!({"alg": "ES256", "kid": "current", "crit": ["exp"]})),
            critical,
        ),
        row(
            "nothing is critical, and says so",
            headed(&json!({"alg": "ES256", "kid": "current", "crit": null})),
            critical,
        ),
        row(
            "a payload that is not encoded",
            headed(&json!({"alg": "ES256", "kid": "current", "b64": false, "crit": ["b64"]})),
            critical,
        ),
    ])
    .await;
}

//! How long a verdict takes whose key is known. It must not ask anybody, which
//! is asserted by counting.
#![expect(
    clippy::unwrap_used,
    reason = "what this stumbles over is a failed measurement"
)]

use std::hint::black_box;
use std::sync::Arc;

use atelier_domain::ports::TokenVerifier;
use atelier_identity::{RemoteKeysOptions, SupabaseOptions, SupabaseTokens};
use atelier_testkit::ManualClock;
use atelier_testkit::build::EPOCH;
use atelier_testkit::jwks_double::{JwksDouble, SigningKey};
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use tokio::runtime::Runtime;

const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

fn verify(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let double = JwksDouble::start().unwrap();
    let (es256, rs256) = (SigningKey::es256("ec"), SigningKey::rs256("rsa"));
    double.publish(&[&es256, &rs256]);
    let options = SupabaseOptions {
        issuer: Some(double.issuer()),
        jwks: Some(RemoteKeysOptions::at(double.jwks_url())),
        secret: Some(SECRET.to_owned()),
        ..SupabaseOptions::default()
    };
    let clock = Arc::new(ManualClock::default());
    let tokens = SupabaseTokens::new(options, clock, runtime.handle().clone()).unwrap();
    let now = EPOCH.timestamp();
    let claims = json!({
        "iss": double.issuer(), "sub": "8f14e45f-ceea-467f-a0e6-2b7a51a4d7c1",
        "aud": "authenticated", "exp": now + 3600, "iat": now, "email": "someone@example.com",
        "phone": "", "role": "authenticated", "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now}], "is_anonymous": false,
        "app_metadata": {"provider": "email", "providers": ["email"]}, "user_metadata": {},
        "session_id": "5f0d1d1c-0f04-4a0e-a0f5-8c9d1d9c8d4e"
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let hs256 = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();

    for (name, token) in [
        ("ES256", es256.sign(&claims)),
        ("RS256", rs256.sign(&claims)),
        ("HS256", hs256),
    ] {
        runtime.block_on(tokens.verify(&token)).unwrap();
        criterion.bench_function(&format!("verify/{name}"), |bencher| {
            bencher
                .to_async(&runtime)
                .iter(|| async { black_box(tokens.verify(black_box(&token)).await.unwrap()) });
        });
    }
    assert_eq!(double.count(), 1, "a known key asks nobody");
}

criterion_group!(benches, verify);
criterion_main!(benches);

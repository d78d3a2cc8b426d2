//! Options that cannot work are told at the start.

use std::sync::Arc;

use atelier_domain::ports::IdentityError;
use atelier_identity::{
    CloudflareAccess, CloudflareOptions, CloudflareOptionsError, RemoteKeysOptions,
    RemoteKeysOptionsError, SignatureAlgorithm, SupabaseOptions, SupabaseOptionsError,
    SupabaseTokens,
};
use atelier_testkit::ManualClock;
use atelier_testkit::jwks_double::{JwksDouble, KeysFault};
use tokio::runtime::Handle;

use crate::support::{CURRENT, RSA, SECRET};

const ISSUER: &str = "https://abcdefghijklmnopqrst.supabase.co/auth/v1";

fn supabase(options: SupabaseOptions) -> Result<SupabaseTokens, SupabaseOptionsError> {
    SupabaseTokens::new(options, Arc::new(ManualClock::default()), Handle::current())
}

fn with_secret(secret: &str) -> SupabaseOptions {
    SupabaseOptions {
        secret: Some(secret.to_owned()),
        ..SupabaseOptions::default()
    }
}

fn with_jwks(url: &str) -> SupabaseOptions {
    SupabaseOptions {
        issuer: Some(ISSUER.to_owned()),
        jwks: Some(RemoteKeysOptions::at(url)),
        ..SupabaseOptions::default()
    }
}

fn mistake(options: SupabaseOptions) -> SupabaseOptionsError {
    supabase(options).unwrap_err()
}

#[tokio::test]
async fn a_secret_that_anybody_may_know_is_refused() {
    assert!(matches!(
        mistake(with_secret("hunter2")),
        SupabaseOptionsError::ShortSecret { bytes: 7 }
    ));
    for public in [CURRENT.public_pem(), &CURRENT.jwk().to_string()] {
        assert!(matches!(
            mistake(with_secret(public)),
            SupabaseOptionsError::KeyAsSecret
        ));
    }
}

#[tokio::test]
async fn no_secret_is_ever_shown() {
    let options = with_secret(SECRET);

    assert!(!format!("{options:?}").contains(SECRET));
    assert!(!format!("{:?}", supabase(options).unwrap()).contains(SECRET));
}

#[tokio::test]
async fn an_algorithm_needs_keys_and_keys_need_an_issuer() {
    let only = |algorithm, options| SupabaseOptions {
        algorithms: vec![algorithm],
        ..options
    };
    for keyless in [
        SupabaseOptions::default(),
        only(SignatureAlgorithm::Es256, with_secret(SECRET)),
        only(SignatureAlgorithm::Hs256, with_jwks("https://x.example")),
    ] {
        assert!(matches!(mistake(keyless), SupabaseOptionsError::NoKeys));
    }
    let from_anybody = SupabaseOptions {
        issuer: None,
        ..with_jwks("https://x.example")
    };
    assert!(matches!(
        mistake(from_anybody),
        SupabaseOptionsError::NoIssuer
    ));
}

#[tokio::test]
async fn keys_from_an_unsafe_address_are_refused() {
    assert!(matches!(
        mistake(with_jwks("http://x.example/jwks")),
        SupabaseOptionsError::Keys(RemoteKeysOptionsError::Url)
    ));
}

#[tokio::test]
async fn cloudflare_needs_a_team_and_an_audience() {
    let access = |team: &str, audience: &str| {
        let options = CloudflareOptions {
            team_domain: team.to_owned(),
            audiences: vec![audience.to_owned()],
            certs: None,
        };
        CloudflareAccess::new(options, Arc::new(ManualClock::default()), Handle::current())
    };

    assert!(access("team", "aud").is_ok());
    assert!(matches!(
        access("https://evil.example", "aud").unwrap_err(),
        CloudflareOptionsError::TeamDomain
    ));
    assert!(matches!(
        access("team", " ").unwrap_err(),
        CloudflareOptionsError::NoAudience
    ));
}

#[tokio::test]
async fn a_self_check_tells_how_many_keys_there_are_or_why_none() {
    let double = JwksDouble::start().unwrap();
    double.publish(&[&CURRENT, &RSA]);
    let published = supabase(with_jwks(&double.jwks_url())).unwrap();

    assert_eq!(published.check_keys().await.unwrap(), 2);
    assert_eq!(double.count(), 1);
    assert_eq!(
        supabase(with_secret(SECRET))
            .unwrap()
            .check_keys()
            .await
            .unwrap(),
        0
    );
    double.fail(Some(KeysFault::Reset));
    let unreachable = supabase(with_jwks(&double.jwks_url())).unwrap();
    assert!(matches!(
        unreachable.check_keys().await,
        Err(IdentityError::Unavailable(_))
    ));
}

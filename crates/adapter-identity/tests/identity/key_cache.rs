//! When keys are fetched, and when not: `reference/platform/PROTOCOLS.md` section 2.1.

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::identity::Identity;
use atelier_domain::ports::{IdentityError, TokenVerifier};
use atelier_identity::{RemoteKeysOptions, SupabaseOptions, SupabaseTokens};
use atelier_testkit::jwks_double::{JwksDouble, KeysFault, SigningKey};
use atelier_testkit::{ManualClock, PATIENCE, wait_until};
use chrono::TimeDelta;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::support::{CURRENT, SECRET, STANDBY, USER, hs256, now};

const MINUTE: Duration = Duration::from_mins(1);

struct World {
    double: JwksDouble,
    clock: Arc<ManualClock>,
    tokens: Arc<SupabaseTokens>,
}

impl World {
    /// Publishes one key; nobody has asked for it yet.
    fn new() -> Self {
        Self::on(Handle::current())
    }

    fn on(io: Handle) -> Self {
        let double = JwksDouble::start().unwrap();
        double.publish(&[&CURRENT]);
        let clock = Arc::new(ManualClock::default());
        let options = SupabaseOptions {
            issuer: Some(double.issuer()),
            jwks: Some(RemoteKeysOptions::at(double.jwks_url())),
            secret: Some(SECRET.to_owned()),
            ..SupabaseOptions::default()
        };
        let tokens = SupabaseTokens::new(options, Arc::clone(&clock) as Arc<_>, io).unwrap();
        Self {
            double,
            clock,
            tokens: Arc::new(tokens),
        }
    }

    fn claims(&self) -> serde_json::Value {
        json!({"iss": self.double.issuer(), "sub": USER, "aud": "authenticated",
            "exp": now() + 1_000_000, "iat": now() - 1_000_000, "role": "authenticated"})
    }

    async fn verify(&self, key: &SigningKey) -> Result<Identity, IdentityError> {
        let token = key.sign(&self.claims());
        let verdict = timeout(PATIENCE, self.tokens.verify(&token));
        verdict.await.unwrap()
    }

    async fn takes(&self, key: &SigningKey) -> bool {
        self.verify(key).await.is_ok()
    }

    async fn refuses(&self, key: &SigningKey) -> bool {
        matches!(self.verify(key).await, Err(IdentityError::Refused(_)))
    }

    async fn cannot_tell(&self, key: &SigningKey) -> bool {
        matches!(self.verify(key).await, Err(IdentityError::Unavailable(_)))
    }

    /// Waits until so many requests have come.
    async fn is_asked(&self, times: usize) {
        let what = format!("request number {times}");
        wait_until(&what, PATIENCE, async || self.double.count() == times).await;
    }

    fn spawn(&self, key: &SigningKey) -> tokio::task::JoinHandle<bool> {
        let (tokens, token) = (Arc::clone(&self.tokens), key.sign(&self.claims()));
        tokio::spawn(async move { tokens.verify(&token).await.is_ok() })
    }
}

#[tokio::test]
async fn a_known_key_asks_nobody() {
    let world = World::new();
    assert_eq!(world.double.count(), 0);

    for _ in 0..100 {
        assert!(world.takes(&CURRENT).await);
    }

    assert_eq!(world.double.count(), 1);
}

#[tokio::test]
async fn the_first_tokens_share_one_fetch() {
    let world = World::new();
    world.double.hold();
    let waiting: Vec<_> = (0..50).map(|_| world.spawn(&CURRENT)).collect();
    world.is_asked(1).await;
    world.double.release();

    for verdict in waiting {
        assert!(verdict.await.unwrap());
    }
    assert_eq!(world.double.count(), 1);
}

#[tokio::test]
async fn tokens_of_a_new_key_share_one_fetch() {
    let world = World::new();
    assert!(world.takes(&CURRENT).await);
    world.double.publish(&[&CURRENT, &STANDBY]);
    world.clock.advance(Duration::from_secs(30));

    world.double.hold();
    let waiting: Vec<_> = (0..50).map(|_| world.spawn(&STANDBY)).collect();
    world.is_asked(2).await;
    world.double.release();

    for verdict in waiting {
        assert!(verdict.await.unwrap());
    }
    assert_eq!(world.double.count(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch_in_half_a_minute() {
    let world = World::new();
    assert!(world.takes(&CURRENT).await);
    let nobodys = SigningKey::es256("nobody's");

    for _ in 0..100 {
        assert!(world.refuses(&nobodys).await);
    }
    assert_eq!(world.double.count(), 1, "a fetch just happened");

    world.clock.advance(Duration::from_secs(29));
    assert!(world.refuses(&nobodys).await);
    assert_eq!(world.double.count(), 1);

    world.clock.advance(Duration::from_secs(1));
    for _ in 0..100 {
        assert!(world.refuses(&nobodys).await);
    }
    assert_eq!(world.double.count(), 2);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_does_not_hold_up_a_known_one() {
    let world = World::new();
    assert!(world.takes(&CURRENT).await);
    world.clock.advance(MINUTE);
    world.double.hold();
    let flood: Vec<_> = (0..50).map(|_| world.spawn(&STANDBY)).collect();
    world.is_asked(2).await;

    assert!(world.takes(&CURRENT).await);

    world.double.release();
    for verdict in flood {
        assert!(!verdict.await.unwrap());
    }
}

#[tokio::test]
async fn a_rotation_takes_old_and_new_tokens_until_the_old_key_is_gone() {
    let world = World::new();
    assert!(world.takes(&CURRENT).await);

    world.double.publish(&[&CURRENT, &STANDBY]);
    world.clock.advance(MINUTE);
    assert!(world.takes(&STANDBY).await);
    assert!(world.takes(&CURRENT).await);
    assert_eq!(world.double.count(), 2);

    world.double.publish(&[&STANDBY]);
    world.clock.advance(10 * MINUTE);
    wait_until("the old key is gone", PATIENCE, async || {
        world.refuses(&CURRENT).await
    })
    .await;
    assert!(world.takes(&STANDBY).await);
    assert_eq!(world.double.count(), 3);
}

#[tokio::test]
async fn keys_are_renewed_in_the_background_after_ten_minutes() {
    let world = World::new();
    assert!(world.takes(&CURRENT).await);
    world.clock.advance(Duration::from_secs(599));
    assert!(world.takes(&CURRENT).await);
    assert_eq!(world.double.count(), 1);

    world.clock.advance(Duration::from_secs(1));
    world.double.hold();
    for _ in 0..10 {
        assert!(world.takes(&CURRENT).await, "it waits for the fetch");
    }
    world.is_asked(2).await;
    world.double.release();
}

#[tokio::test]
async fn the_publisher_may_shorten_the_ten_minutes() {
    let world = World::new();
    world.double.set_cache_control(Some("public, max-age=120"));
    assert!(world.takes(&CURRENT).await);

    world.clock.advance(2 * MINUTE);
    assert!(world.takes(&CURRENT).await);

    world.is_asked(2).await;
}

#[tokio::test]
async fn keys_that_cannot_be_renewed_are_good_for_an_hour() {
    let world = World::new();
    assert!(world.takes(&CURRENT).await);
    world.double.fail(Some(KeysFault::page(500)));

    world.clock.advance(10 * MINUTE);
    assert!(world.takes(&CURRENT).await);
    world.is_asked(2).await;
    wait_until("the failure is known", PATIENCE, async || {
        // After a failure nobody can say whether a key is new.
        world.cannot_tell(&STANDBY).await
    })
    .await;
    for _ in 0..100 {
        assert!(world.takes(&CURRENT).await);
    }
    assert_eq!(world.double.count(), 2, "a fetch just failed");

    world.clock.advance(Duration::from_secs(2_999));
    assert!(world.takes(&CURRENT).await);
    world.is_asked(3).await;
    world.clock.advance(Duration::from_secs(1));
    assert!(world.cannot_tell(&CURRENT).await);

    world.double.fail(None);
    wait_until("it recovers", PATIENCE, async || {
        world.clock.advance(Duration::from_secs(5));
        world.takes(&CURRENT).await
    })
    .await;
}

#[tokio::test]
async fn without_keys_a_failure_is_told_at_once_for_five_seconds() {
    let world = World::new();
    world.double.fail(Some(KeysFault::Reset));
    for _ in 0..100 {
        assert!(world.cannot_tell(&CURRENT).await);
    }
    assert_eq!(world.double.count(), 1);

    world.double.fail(None);
    world.clock.advance(Duration::from_secs(4));
    assert!(world.cannot_tell(&CURRENT).await);
    world.clock.advance(Duration::from_secs(1));
    assert!(world.takes(&CURRENT).await);
    assert_eq!(world.double.count(), 2);
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_one_who_asked_goes_away() {
    let world = World::new();
    world.double.hold();
    let impatient = world.spawn(&CURRENT);
    world.is_asked(1).await;
    impatient.abort();
    assert!(impatient.await.unwrap_err().is_cancelled());
    world.double.release();

    assert!(world.takes(&CURRENT).await);
    assert_eq!(world.double.count(), 1);
}

#[tokio::test]
async fn a_token_of_the_secret_asks_nobody() {
    let world = World::new();
    world.double.hold();

    let token = hs256(&world.claims());
    let verdict = timeout(PATIENCE, world.tokens.verify(&token));

    assert!(verdict.await.unwrap().is_ok());
    assert_eq!(world.double.count(), 0);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_the_keys_stale_not_immortal() {
    let world = World::new();
    assert!(world.takes(&CURRENT).await);

    world
        .clock
        .set(atelier_testkit::build::EPOCH - TimeDelta::days(1));
    world.verify(&CURRENT).await.ok();

    world.is_asked(2).await;
}

/// A runtime of actix has no part in the I/O: here it could not even tell the time.
#[test]
fn any_runtime_may_ask() {
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let world = World::on(io.handle().clone());
    let token = CURRENT.sign(&world.claims());
    let bare = || {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
    };

    assert!(bare().block_on(world.tokens.verify(&token)).is_ok());
    // The one that caused the fetch is gone.
    assert!(bare().block_on(world.tokens.verify(&token)).is_ok());
    assert_eq!(world.double.count(), 1);
}

#[test]
fn a_server_that_stops_leaves_nobody_waiting() {
    let io = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let world = World::on(io.handle().clone());
    let token = CURRENT.sign(&world.claims());
    io.shutdown_background();

    let asking = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let verdict = asking.block_on(async { timeout(PATIENCE, world.tokens.verify(&token)).await });

    assert!(matches!(
        verdict.unwrap(),
        Err(IdentityError::Unavailable(_))
    ));
}

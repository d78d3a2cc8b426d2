//! The time, the ids and the secrets of a real server.

use atelier_domain::ports::{Clock, IdGen, SecretGen};
use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

/// The machine's clock, in the database's precision.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "this is the Clock port")]
        let now = Utc::now();
        now.trunc_subsecs(6)
    }
}

/// Random ids that begin with the time: version 7 (RFC 9562 section 5.7).
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdGen for RandomIds {
    fn new_id(&self) -> Uuid {
        #[expect(clippy::disallowed_methods, reason = "this is the IdGen port")]
        Uuid::now_v7()
    }
}

/// Secrets from the system's source of randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomSecrets;

impl SecretGen for RandomSecrets {
    #[expect(
        clippy::expect_used,
        reason = "a system that gives no randomness cannot keep a secret; nothing may go on then"
    )]
    fn secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the system gives randomness");
        secret
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_has_whole_microseconds() {
        assert_eq!(SystemClock.now().timestamp_subsec_nanos() % 1_000, 0);
    }
}

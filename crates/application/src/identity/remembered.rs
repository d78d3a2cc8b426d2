use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::identity::{ExternalIdentity, IdentityLink};
use chrono::{DateTime, Utc};

/// How long a link is taken from memory: after that, one that was removed by an
/// administrator is noticed.
const LIFETIME: Duration = Duration::from_secs(30);

/// How many are remembered at once.
const CAPACITY: usize = 10_000;

/// An issuer and a subject.
type Key = (String, String);

/// Whom identities stand for, as the database said a moment ago, and until when
/// that is taken.
#[derive(Default)]
pub(super) struct Remembered(Mutex<HashMap<Key, (IdentityLink, DateTime<Utc>)>>);

impl Remembered {
    pub(super) fn find(
        &self,
        identity: &ExternalIdentity,
        now: DateTime<Utc>,
    ) -> Option<IdentityLink> {
        let links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (link, until) = links.get(&key(identity))?;
        (now < *until).then_some(*link)
    }

    pub(super) fn keep(&self, identity: &ExternalIdentity, link: IdentityLink, now: DateTime<Utc>) {
        let mut links = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if links.len() >= CAPACITY {
            links.retain(|_, (_, until)| now < *until);
        }
        if links.len() >= CAPACITY {
            links.clear();
        }
        links.insert(key(identity), (link, now + LIFETIME));
    }
}

fn key(identity: &ExternalIdentity) -> Key {
    (identity.issuer.clone(), identity.subject.clone())
}

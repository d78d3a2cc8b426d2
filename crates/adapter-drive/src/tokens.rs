use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atelier_domain::ports::{Clock, RemoteError};
use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::backoff::{Backoff, Patience};
use crate::credentials::{DriveCredentials, Kind};
use crate::token_endpoint::{Denied, Granted};
use crate::transport::{Transport, Trouble};

/// How long before its end a token is renewed: what Google's own library takes
/// (`reference/platform/PROTOCOLS.md` section 4.1).
const SKEW: Duration = Duration::from_secs(225);

/// How long a refusal for good is believed before Google is asked again.
const GRUDGE: TimeDelta = TimeDelta::minutes(1);

/// This server's access tokens: one at a time, renewed by one request for all
/// who wait.
#[derive(Clone)]
pub(crate) struct AccessTokens {
    shared: Arc<Shared>,
    runtime: Handle,
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AccessTokens(..)")
    }
}

struct Shared {
    transport: Transport,
    patience: Patience,
    credentials: DriveCredentials,
    clock: Arc<dyn Clock>,
    renewals: AtomicU64,
    state: Mutex<State>,
}

struct State {
    access: Option<Access>,
    /// Google may replace it.
    refresh_token: Option<String>,
    refusal: Option<Refusal>,
}

struct Access {
    token: String,
    renew_at: DateTime<Utc>,
}

struct Refusal {
    why: NoToken,
    /// Which renewal it was.
    renewal: u64,
    stands_until: DateTime<Utc>,
}

/// Why there is no access token, for everybody who waited for it.
#[derive(Clone, Debug, Error)]
pub(crate) enum NoToken {
    #[error("{0}")]
    ForGood(String),
    #[error("Google hands out no access token just now")]
    ForNow {
        retry_after: Option<Duration>,
        #[source]
        trouble: Arc<Trouble>,
    },
    #[error("{0}")]
    Nonsense(&'static str),
    #[error("the renewal of the access token broke off")]
    BrokenOff,
}

impl From<NoToken> for RemoteError {
    fn from(none: NoToken) -> Self {
        match none {
            NoToken::ForGood(words) => Self::Unauthorized(words),
            NoToken::ForNow { retry_after, .. } => Self::Unavailable {
                retry_after,
                source: Box::new(none),
            },
            NoToken::BrokenOff => Self::Unavailable {
                retry_after: None,
                source: Box::new(none),
            },
            NoToken::Nonsense(_) => Self::Backend(Box::new(none)),
        }
    }
}

impl AccessTokens {
    pub(crate) fn new(
        transport: Transport,
        patience: Patience,
        credentials: DriveCredentials,
        clock: Arc<dyn Clock>,
        runtime: Handle,
    ) -> Self {
        let known = match &credentials.0 {
            Kind::User(user) => user.access.clone(),
            Kind::Account(_) => None,
        };
        let state = State {
            access: known.map(|(token, expiry)| Access {
                token,
                renew_at: expiry - SKEW,
            }),
            refresh_token: None,
            refusal: None,
        };
        let shared = Shared {
            transport,
            patience,
            credentials,
            clock,
            renewals: AtomicU64::new(0),
            state: Mutex::new(state),
        };
        Self {
            shared: Arc::new(shared),
            runtime,
        }
    }

    /// An access token that is good for a while.
    ///
    /// A renewal goes on when the one who asked for it goes away: others wait
    /// for it, and a new refresh token may come with it.
    pub(crate) async fn current(&self) -> Result<String, NoToken> {
        let seen = self.shared.renewals.load(Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        let work = self
            .runtime
            .spawn(async move { shared.current(seen).await });
        work.await.unwrap_or(Err(NoToken::BrokenOff))
    }

    /// Takes note that Drive does not accept a token that was given out.
    pub(crate) async fn refused(&self, token: &str) {
        let mut state = self.shared.state.lock().await;
        if state
            .access
            .as_ref()
            .is_some_and(|known| known.token == token)
        {
            state.access = None;
        }
    }
}

impl Shared {
    /// `seen` is how many renewals had ended before the caller came: it shares
    /// the failure of any later one.
    async fn current(&self, seen: u64) -> Result<String, NoToken> {
        let mut state = self.state.lock().await;
        let now = self.clock.now();
        if let Some(access) = state.access.as_ref().filter(|access| now < access.renew_at) {
            return Ok(access.token.clone());
        }
        if let Some(refusal) = &state.refusal
            && (refusal.renewal > seen || now < refusal.stands_until)
        {
            return Err(refusal.why.clone());
        }
        let outcome = self.renew(state.refresh_token.as_deref()).await;
        let renewal = self.renewals.fetch_add(1, Ordering::SeqCst) + 1;
        let now = self.clock.now();
        match outcome {
            Ok(granted) => {
                let token = granted.access_token.clone();
                state.take(granted, now);
                Ok(token)
            }
            Err(why) => {
                state.note(why.clone(), renewal, now);
                Err(why)
            }
        }
    }

    async fn renew(&self, newer_refresh_token: Option<&str>) -> Result<Granted, NoToken> {
        let mut backoff = Backoff::new(self.patience);
        loop {
            let now = self.clock.now();
            let outcome = match &self.credentials.0 {
                Kind::User(user) => {
                    let refresh_token = newer_refresh_token.unwrap_or(&user.refresh_token);
                    self.transport.refresh(user, refresh_token, now).await
                }
                Kind::Account(account) => self.transport.vouch(account, now).await,
            };
            let (trouble, retry_after) = match outcome {
                Ok(granted) => return Ok(granted),
                Err(Denied::ForGood(words)) => return Err(NoToken::ForGood(words)),
                Err(Denied::Nonsense(words)) => return Err(NoToken::Nonsense(words)),
                Err(Denied::ForNow {
                    trouble,
                    retry_after,
                }) => (trouble, retry_after),
            };
            let Some(pause) = backoff.next(retry_after) else {
                return Err(NoToken::ForNow {
                    retry_after,
                    trouble: Arc::new(trouble),
                });
            };
            tokio::time::sleep(pause).await;
        }
    }
}

impl State {
    fn take(&mut self, granted: Granted, now: DateTime<Utc>) {
        // A token of a short life would never be used otherwise.
        let good_for = granted.life.saturating_sub(SKEW.min(granted.life / 2));
        self.access = Some(Access {
            token: granted.access_token,
            renew_at: now + good_for,
        });
        if granted.refresh_token.is_some() {
            self.refresh_token = granted.refresh_token;
        }
        self.refusal = None;
    }

    fn note(&mut self, why: NoToken, renewal: u64, now: DateTime<Utc>) {
        let stands_until = match &why {
            NoToken::ForGood(_) => now + GRUDGE,
            NoToken::ForNow { .. } | NoToken::Nonsense(_) | NoToken::BrokenOff => now,
        };
        self.access = None;
        self.refusal = Some(Refusal {
            why,
            renewal,
            stands_until,
        });
    }
}

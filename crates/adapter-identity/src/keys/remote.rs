use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use atelier_domain::ports::Clock;
use jsonwebtoken::DecodingKey;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::fetch::{Publisher, Trouble};
use super::key_set::{Found, KeySet};
use super::options::{RemoteKeysOptions, RemoteKeysOptionsError};
use super::state::{Landing, State};
use crate::jws::Jws;
use crate::refusal::{Failure, Refusal};

/// Nobody can say whether a token is good: the keys cannot be fetched.
#[derive(Clone, Debug, Error)]
#[error("the keys that sign tokens cannot be fetched from {url}")]
pub(crate) struct KeysUnavailable {
    url: String,
    #[source]
    trouble: Option<Arc<Trouble>>,
}

/// The keys that somebody publishes, kept and renewed.
pub(crate) struct RemoteKeys {
    shared: Arc<Shared>,
    io: Handle,
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RemoteKeys")
            .field("url", &self.shared.publisher.url().as_str())
            .finish_non_exhaustive()
    }
}

struct Shared {
    publisher: Publisher,
    clock: Arc<dyn Clock>,
    /// Held for lookups alone, never while anything is awaited.
    state: Mutex<State>,
}

/// What a question to the keys comes to.
enum Look<T> {
    Answer(T),
    /// The keys that there are have no answer, and the latest ones have none either.
    NoAnswer,
    Unavailable(KeysUnavailable),
    /// New keys are on their way.
    Wait(Landing),
}

impl RemoteKeys {
    /// Nothing is fetched yet. All I/O happens on `io`.
    pub(crate) fn new(
        options: &RemoteKeysOptions,
        clock: Arc<dyn Clock>,
        io: Handle,
    ) -> Result<Self, RemoteKeysOptionsError> {
        let shared = Shared {
            publisher: Publisher::new(options)?,
            clock,
            state: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            io,
        })
    }

    /// The key that a token names. Waits for a fetch only if that key is unknown.
    pub(crate) async fn key_of(&self, jws: &Jws<'_>) -> Result<Arc<DecodingKey>, Failure> {
        let key_id = jws.key_id.as_deref().ok_or(Refusal::NoKeyId)?;
        let found = self.ask(|keys| keys.find(key_id, jws.algorithm)).await?;
        match found {
            Some(Found::Key(key)) => Ok(key),
            Some(Found::OtherAlgorithm) => Err(Refusal::KeyMismatch.into()),
            None => Err(Refusal::UnknownKey.into()),
        }
    }

    /// Whether a key is known just now; nothing is fetched to find out.
    pub(crate) fn knows(&self, key_id: &str) -> bool {
        let now = self.shared.clock.now();
        let state = self.shared.state();
        state.keys(now).is_some_and(|keys| keys.knows(key_id))
    }

    /// How many keys there are; waits for a fetch if there are none yet.
    pub(crate) async fn count(&self) -> Result<usize, KeysUnavailable> {
        let count = self.ask(|keys| Some(keys.count())).await?;
        Ok(count.unwrap_or(0))
    }

    /// Puts a question to the keys that there are, and again after a fetch if they have no answer
    /// and a fetch is due or under way. The wait is as long as one fetch at most, because a fetch
    /// has a bound.
    async fn ask<T>(
        &self,
        question: impl Fn(&KeySet) -> Option<T> + Send,
    ) -> Result<Option<T>, KeysUnavailable> {
        let mut look = self.look(&question, true);
        if let Look::Wait(landing) = &mut look {
            // Nothing is ever sent: what ends this is that the sender goes away.
            while landing.changed().await.is_ok() {}
            look = self.look(&question, false);
        }
        match look {
            Look::Answer(answer) => Ok(Some(answer)),
            Look::NoAnswer => Ok(None),
            Look::Unavailable(unavailable) => Err(unavailable),
            Look::Wait(_) => Err(self.shared.unavailable(None)),
        }
    }

    fn look<T>(&self, question: impl Fn(&KeySet) -> Option<T>, may_wait: bool) -> Look<T> {
        let now = self.shared.clock.now();
        let mut state = self.shared.state();
        let keys = state.keys(now).cloned();
        let answer = keys.as_ref().and_then(|keys| question(keys));
        let mut flight = state.flight();
        let is_wanted = answer.is_none() || state.is_stale(now);
        if flight.is_none() && is_wanted && state.may_fetch(now) {
            let (sender, landing) = state.begin(now);
            self.io.spawn(fly(Arc::clone(&self.shared), sender));
            flight = Some(landing);
        }
        match (answer, flight) {
            (Some(answer), _) => Look::Answer(answer),
            (None, Some(landing)) if may_wait => Look::Wait(landing),
            // After a failure nobody knows whether the key is new or of nobody's.
            (None, _) if keys.is_none() || state.trouble().is_some() => {
                Look::Unavailable(self.shared.unavailable(state.trouble()))
            }
            (None, _) => Look::NoAnswer,
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unavailable(&self, trouble: Option<Arc<Trouble>>) -> KeysUnavailable {
        KeysUnavailable {
            url: self.publisher.url().to_string(),
            trouble,
        }
    }
}

/// One fetch. It goes on when the one who asked for it goes away: others wait for it.
async fn fly(shared: Arc<Shared>, landing: watch::Sender<()>) {
    let begun_at = shared.clock.now();
    let outcome = shared.publisher.fetch().await.map_err(Arc::new);
    let url = shared.publisher.url();
    match &outcome {
        Ok(fetched) => tracing::debug!(
            %url,
            keys = fetched.keys.count(),
            fresh_for_seconds = fetched.fresh_for.as_secs(),
            "fetched the keys that sign tokens"
        ),
        Err(trouble) => tracing::warn!(
            %url,
            error = %chain(trouble.as_ref()),
            "the keys that sign tokens could not be fetched: those at hand are good for an hour"
        ),
    }
    let now = shared.clock.now();
    shared.state().end(begun_at, now, outcome);
    // Whoever waits looks again now, and not before.
    drop(landing);
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

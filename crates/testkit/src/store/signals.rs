use atelier_domain::ports::{RunSignals, RunTopic, SignalStream};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::{self, Sender, error::TrySendError};

use super::{FakeStore, State};

/// What wakes whoever waits for the runs of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeRunSignals(pub(super) FakeStore);

/// Somebody who listens. The channel holds one signal: several come as one.
pub(super) struct Watcher {
    topic: RunTopic,
    wake: Sender<()>,
}

impl State {
    /// Wakes whoever watches `topic`.
    pub(super) fn signal(&mut self, topic: RunTopic) {
        let end = match topic {
            RunTopic::Run(id) => self
                .runs
                .get(&id)
                .filter(|row| row.run.status.is_final())
                .map(|_| RunTopic::End(id)),
            RunTopic::Queue | RunTopic::End(_) => None,
        };
        self.watchers.retain(|watcher| {
            (watcher.topic != topic && Some(watcher.topic) != end)
                || !matches!(watcher.wake.try_send(()), Err(TrySendError::Closed(())))
        });
    }
}

impl RunSignals for FakeRunSignals {
    fn watch(&self, topic: RunTopic) -> SignalStream {
        let (wake, woken) = mpsc::channel(1);
        let mut state = self.0.lock();
        state.watchers.retain(|watcher| !watcher.wake.is_closed());
        state.watchers.push(Watcher { topic, wake });
        stream::unfold(woken, async |mut woken| Some((woken.recv().await?, woken))).boxed()
    }
}

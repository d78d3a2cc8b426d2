//! What only the database and its pool know, read when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ports::{QueueFigures, RunQueue};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::logging::Chain;

/// How long figures are given out again: whoever asks in a loop, and anybody may, does not load the
/// database.
const AGE: Duration = Duration::from_secs(5);
/// How long the database may take. Whoever reads measurements waits no longer, either.
const WAIT: Duration = Duration::from_secs(2);

/// The connections of this process to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionFigures {
    /// Connections that nobody uses.
    pub idle: usize,
    /// Connections that somebody uses.
    pub in_use: usize,
    /// Those who wait for one.
    pub waiting: usize,
}

impl ConnectionFigures {
    pub(super) fn by_state(self) -> [(&'static str, u64); 3] {
        [
            ("idle", self.idle),
            ("in_use", self.in_use),
            ("waiting", self.waiting),
        ]
        .map(|(state, count)| (state, u64::try_from(count).unwrap_or(u64::MAX)))
    }
}

/// What was read. What could not be read is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// The queue, as the database has it: the same for every process.
    pub queue: Option<QueueFigures>,
    /// This process's connections.
    pub connections: Option<ConnectionFigures>,
}

type CountConnections = Box<dyn Fn() -> ConnectionFigures + Send + Sync>;

/// Reads figures, not more often than every five seconds.
pub struct FigureReader {
    queue: Arc<dyn RunQueue>,
    connections: CountConnections,
    latest: Mutex<Option<(Instant, Option<QueueFigures>)>>,
}

impl fmt::Debug for FigureReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FigureReader")
            .finish_non_exhaustive()
    }
}

impl FigureReader {
    /// Reads the queue, and counts connections.
    pub fn new(
        queue: Arc<dyn RunQueue>,
        connections: impl Fn() -> ConnectionFigures + Send + Sync + 'static,
    ) -> Self {
        Self {
            queue,
            connections: Box::new(connections),
            latest: Mutex::new(None),
        }
    }

    /// What is known, at most five seconds old. Whoever comes while it is read waits for it; a
    /// database that says nothing is not asked again at once.
    pub async fn read(&self) -> Figures {
        let mut latest = self.latest.lock().await;
        let queue = match *latest {
            Some((read, queue)) if read.elapsed() < AGE => queue,
            _ => {
                let queue = self.ask().await;
                *latest = Some((Instant::now(), queue));
                queue
            }
        };
        Figures {
            queue,
            connections: Some((self.connections)()),
        }
    }

    async fn ask(&self) -> Option<QueueFigures> {
        match timeout(WAIT, self.queue.figures()).await {
            Ok(Ok(figures)) => Some(figures),
            Ok(Err(error)) => {
                tracing::warn!(error = %Chain(&error), "the queue could not be measured");
                None
            }
            Err(_elapsed) => {
                tracing::warn!("the queue could not be measured: the database says nothing");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use atelier_domain::ports::WorkflowRepo as _;
    use atelier_testkit::build::{a_new_run, a_workflow, an_actor};
    use atelier_testkit::{FakeStore, enqueue};

    use super::*;

    fn reader(store: &FakeStore) -> FigureReader {
        FigureReader::new(Arc::new(store.queue()), ConnectionFigures::default)
    }

    async fn waiting(reader: &FigureReader) -> Option<u64> {
        reader.read().await.queue.map(|queue| queue.waiting)
    }

    #[tokio::test(start_paused = true)]
    async fn the_database_is_asked_once_in_five_seconds_however_often_anybody_asks() {
        let store = FakeStore::new();
        let reader = reader(&store);
        let alice = an_actor();
        let workflow = store.workflows().create(&alice, a_workflow()).await;
        let workflow = workflow.expect("the store works").id;

        assert_eq!(waiting(&reader).await, Some(0));
        enqueue(&store.runs(), &alice, a_new_run(workflow)).await;
        assert_eq!(waiting(&reader).await, Some(0));
        tokio::time::advance(AGE).await;

        assert_eq!(waiting(&reader).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_fails_leaves_its_figures_out_and_the_others_in() {
        let store = FakeStore::new();
        let reader = reader(&store);
        store.outage().begin();

        let failed = reader.read().await;
        store.outage().end();
        let soon = reader.read().await;
        tokio::time::advance(AGE).await;
        let later = reader.read().await;

        assert_eq!((failed.queue, soon.queue), (None, None));
        assert_eq!(failed.connections, Some(ConnectionFigures::default()));
        assert!(later.queue.is_some());
    }
}

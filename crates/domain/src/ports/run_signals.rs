use std::pin::Pin;

use futures_core::Stream;

use crate::ids::RunId;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunTopic {
    /// A run was put into the queue, or back into it; or a transfer of a LoRA
    /// waits for a worker.
    Queue,
    /// Something happened to this run.
    Run(RunId),
    /// This run is over.
    End(RunId),
}

/// Ends only when the source of signals is gone for good.
pub type SignalStream = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// Wakes whoever waits for runs.
///
/// Signals are hints: several may come as one, one may come for nothing, and
/// while the connection behind them is down none come at all. So whoever
/// listens watches first, reads second, waits third, and reads again after a
/// bounded time whatever happens.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait RunSignals: Send + Sync {
    /// Begins to listen at once: a change that becomes visible after this
    /// call gives an item.
    fn watch(&self, topic: RunTopic) -> SignalStream;
}

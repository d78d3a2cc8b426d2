//! The one queue of the server: a heap ordered by priority number and prompt id, one running prompt, and the history they end in.
//!
//! All three are behind one lock, so that a prompt is always in exactly one of them.

use std::cmp::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::graph::Prompt;
use crate::history::{Entry, History};

/// A prompt that was accepted. Its JSON form is `[number, prompt_id, prompt, extra_data, [output node ids]]`.
#[derive(Clone, Debug)]
pub(crate) struct QueueItem {
    /// The priority as it was answered: an integer from the counter, a float from the client.
    pub(crate) number: Value,
    pub(crate) prompt_id: String,
    pub(crate) prompt: Arc<Prompt>,
    pub(crate) extra_data: Arc<Map<String, Value>>,
    pub(crate) outputs: Vec<String>,
}

impl QueueItem {
    fn compare(&self, other: &Self) -> Ordering {
        let priority = |item: &Self| item.number.as_f64().unwrap_or_default();
        priority(self)
            .total_cmp(&priority(other))
            .then_with(|| self.prompt_id.cmp(&other.prompt_id))
    }
}

impl Serialize for QueueItem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (
            &self.number,
            &self.prompt_id,
            &self.prompt.nodes,
            self.extra_data.as_ref(),
            &self.outputs,
        )
            .serialize(serializer)
    }
}

/// Same priority number and same prompt id as a queued prompt: the real server fails to compare the two, after it has queued both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tie;

/// What `GET /queue` shows.
#[derive(Debug, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) queue_running: Vec<QueueItem>,
    pub(crate) queue_pending: Vec<QueueItem>,
}

#[derive(Debug, Default)]
struct State {
    heap: Vec<QueueItem>,
    running: Option<QueueItem>,
    interrupt: bool,
    closed: bool,
    history: History,
}

impl State {
    fn remaining(&self) -> usize {
        self.heap.len() + usize::from(self.running.is_some())
    }
}

/// The queue, shared between the request handlers and the executor.
#[derive(Debug, Default)]
pub(crate) struct PromptQueue {
    state: Mutex<State>,
    changed: Condvar,
}

impl PromptQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a prompt and tells `announce` how many are now there, before anybody can take it. With a [`Tie`] it is queued too,
    /// but nothing is announced.
    pub(crate) fn put(&self, item: QueueItem, announce: impl FnOnce(usize)) -> Result<(), Tie> {
        let mut state = self.lock();
        state.heap.push(item);
        let last = state.heap.len() - 1;
        let result = sift_towards_root(&mut state.heap, last);
        if result.is_ok() {
            announce(state.remaining());
        }
        self.changed.notify_all();
        result
    }

    /// Takes the next prompt and makes it the running one, clearing any interrupt that came too late for the one before.
    /// Waits for one; `None` once the queue is closed.
    pub(crate) fn take(&self) -> Option<QueueItem> {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| !state.closed && state.heap.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        let item = pop(&mut state.heap)?;
        state.running = Some(item.clone());
        state.interrupt = false;
        Some(item)
    }

    /// Moves the running prompt into the history.
    pub(crate) fn finish(&self, entry: Entry) {
        let mut state = self.lock();
        if !state.closed {
            state.running = None;
            state.history.insert(entry);
        }
    }

    /// Ends everything: the executor stops at its next boundary, and nothing is taken any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits for `duration`, less if the queue is closed meanwhile.
    pub(crate) fn pause(&self, duration: std::time::Duration) {
        let _woken = self
            .changed
            .wait_timeout_while(self.lock(), duration, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
    }

    /// Pending and running prompts together.
    pub(crate) fn remaining(&self) -> usize {
        self.lock().remaining()
    }

    /// The running prompts, and the pending ones in heap order.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        Snapshot {
            queue_running: state.running.iter().cloned().collect(),
            queue_pending: state.heap.clone(),
        }
    }

    /// Removes one pending prompt with this id.
    pub(crate) fn delete(&self, prompt_id: &str) -> bool {
        delete_pending(&mut self.lock().heap, prompt_id)
    }

    /// Removes all pending prompts.
    pub(crate) fn wipe(&self) {
        self.lock().heap.clear();
    }

    /// Interrupts whatever runs, or only this prompt if it runs.
    pub(crate) fn interrupt(&self, only: Option<&str>) {
        let mut state = self.lock();
        let hit = match (only, &state.running) {
            (None, _) => true,
            (Some(prompt_id), Some(running)) => running.prompt_id == prompt_id,
            (Some(_), None) => false,
        };
        state.interrupt |= hit;
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.lock().interrupt
    }

    /// Interrupts this prompt if it runs, dequeues it if it is pending. The flag tells whether it was either,
    /// the second one whether the queue is now shorter.
    pub(crate) fn cancel(&self, prompt_id: &str) -> (bool, bool) {
        let mut state = self.lock();
        if state
            .running
            .as_ref()
            .is_some_and(|running| running.prompt_id == prompt_id)
        {
            state.interrupt = true;
            return (true, false);
        }
        let removed = delete_pending(&mut state.heap, prompt_id);
        (removed, removed)
    }

    /// Reads or changes the history.
    pub(crate) fn history<T>(&self, access: impl FnOnce(&mut History) -> T) -> T {
        access(&mut self.lock().history)
    }

    /// Everything at one moment.
    pub(crate) fn everything(&self) -> Everything {
        let state = self.lock();
        let mut pending = state.heap.clone();
        pending.sort_by(QueueItem::compare);
        Everything {
            running: state.running.clone(),
            pending,
            finished: state.history.all(),
        }
    }
}

/// Queue and history at one moment.
#[derive(Debug)]
pub(crate) struct Everything {
    pub(crate) running: Option<QueueItem>,
    /// In the order in which they will run.
    pub(crate) pending: Vec<QueueItem>,
    /// With their ids, the oldest first.
    pub(crate) finished: Vec<(String, Arc<Entry>)>,
}

fn delete_pending(heap: &mut Vec<QueueItem>, prompt_id: &str) -> bool {
    let Some(position) = heap.iter().position(|item| item.prompt_id == prompt_id) else {
        return false;
    };
    heap.remove(position);
    let items = std::mem::take(heap);
    for item in items {
        heap.push(item);
        let last = heap.len() - 1;
        // A tie between two prompts was reported when the second one was queued.
        sift_towards_root(heap, last).unwrap_or(());
    }
    true
}

/// Restores the heap order after an item was put at `position`; an equal parent stays where it is.
fn sift_towards_root(heap: &mut [QueueItem], mut position: usize) -> Result<(), Tie> {
    while position > 0 {
        let parent = (position - 1) / 2;
        let (Some(item), Some(above)) = (heap.get(position), heap.get(parent)) else {
            return Ok(());
        };
        match item.compare(above) {
            Ordering::Less => heap.swap(position, parent),
            Ordering::Equal => return Err(Tie),
            Ordering::Greater => return Ok(()),
        }
        position = parent;
    }
    Ok(())
}

/// Removes the smallest item.
fn pop(heap: &mut Vec<QueueItem>) -> Option<QueueItem> {
    if heap.is_empty() {
        return None;
    }
    let first = heap.swap_remove(0);
    let mut position = 0;
    loop {
        let smaller_child = [2 * position + 1, 2 * position + 2]
            .into_iter()
            .filter_map(|child| heap.get(child).map(|item| (child, item)))
            .min_by(|(_, left), (_, right)| left.compare(right));
        let (Some((child, below)), Some(item)) = (smaller_child, heap.get(position)) else {
            return Some(first);
        };
        if item.compare(below) != Ordering::Greater {
            return Some(first);
        }
        heap.swap(position, child);
        position = child;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{PromptQueue, QueueItem, Tie};

    fn item(number: f64, prompt_id: &str) -> QueueItem {
        QueueItem {
            number: json!(number),
            prompt_id: prompt_id.to_owned(),
            prompt: std::sync::Arc::default(),
            extra_data: std::sync::Arc::default(),
            outputs: Vec::new(),
        }
    }

    #[test]
    fn the_smallest_number_runs_first_and_then_the_smallest_id() {
        let queue = PromptQueue::default();
        for (number, id) in [(3.0, "c"), (1.0, "z"), (-2.0, "m"), (1.0, "a"), (7.0, "b")] {
            assert_eq!(queue.put(item(number, id), |_| ()), Ok(()));
        }
        let order: Vec<_> = (0..5).map(|_| queue.take().unwrap().prompt_id).collect();
        assert_eq!(order, ["m", "a", "z", "c", "b"]);
    }

    #[test]
    fn a_tie_is_reported_but_queued() {
        let queue = PromptQueue::default();
        assert_eq!(queue.put(item(0.0, "a"), |_| ()), Ok(()));
        assert_eq!(queue.put(item(0.0, "a"), |_| ()), Err(Tie));
        assert_eq!(queue.remaining(), 2);
    }

    #[test]
    fn delete_removes_one_of_two_with_the_same_id() {
        let queue = PromptQueue::default();
        for number in [0.0, 1.0] {
            assert_eq!(queue.put(item(number, "a"), |_| ()), Ok(()));
        }
        assert!(queue.delete("a"));
        assert_eq!(queue.remaining(), 1);
    }

    #[test]
    fn an_interrupt_of_another_prompt_has_no_effect() {
        let queue = PromptQueue::default();
        assert_eq!(queue.put(item(0.0, "a"), |_| ()), Ok(()));
        queue.take().unwrap();
        queue.interrupt(Some("b"));
        assert!(!queue.is_interrupted());
        queue.interrupt(Some("a"));
        assert!(queue.is_interrupted());
    }
}

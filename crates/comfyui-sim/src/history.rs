//! What finished prompts leave behind (`reference/comfyui/PROTOCOL.md` section 5).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::json::Ordered;
use crate::queue::QueueItem;

/// How many entries may be there before the next one evicts the oldest.
const CAPACITY: usize = 10_000;

/// How a prompt ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    Success,
    Error,
    Interrupted,
}

/// One finished prompt.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) item: QueueItem,
    pub(crate) outputs: Vec<(String, Value)>,
    pub(crate) ending: Ending,
    /// The events of the prompt that are kept: start, cached, and how it ended.
    pub(crate) messages: Vec<(&'static str, Value)>,
    readable_at: Instant,
}

impl Entry {
    pub(crate) fn new(
        item: QueueItem,
        outputs: Vec<(String, Value)>,
        ending: Ending,
        messages: Vec<(&'static str, Value)>,
        delay: Duration,
    ) -> Self {
        Self {
            item,
            outputs,
            ending,
            messages,
            readable_at: Instant::now() + delay,
        }
    }

    /// The `status` member.
    pub(crate) fn status(&self) -> Value {
        let success = self.ending == Ending::Success;
        json!({
            "status_str": if success { "success" } else { "error" },
            "completed": success,
            "messages": self.messages,
        })
    }

    /// The time stamp of the message of this type.
    pub(crate) fn time_of(&self, types: &[&str]) -> Option<&Value> {
        let (_, data) = self
            .messages
            .iter()
            .find(|(name, _)| types.contains(name))?;
        data.get("timestamp")
    }

    fn meta(&self) -> Ordered<Value> {
        let describe = |node_id: &String| json!({"node_id": node_id, "display_node": node_id, "parent_node": null, "real_node_id": node_id});
        Ordered(
            self.outputs
                .iter()
                .map(|(node_id, _)| (node_id.clone(), describe(node_id)))
                .collect(),
        )
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'entry> {
            prompt: &'entry QueueItem,
            outputs: Ordered<Value>,
            status: Value,
            meta: Ordered<Value>,
        }
        Shape {
            prompt: &self.item,
            outputs: Ordered(self.outputs.clone()),
            status: self.status(),
            meta: self.meta(),
        }
        .serialize(serializer)
    }
}

/// All finished prompts, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    order: VecDeque<String>,
    entries: HashMap<String, Arc<Entry>>,
}

impl History {
    /// Adds an entry. An older one with the same id is overwritten and keeps its place.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let prompt_id = entry.item.prompt_id.clone();
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        if self
            .entries
            .insert(prompt_id.clone(), Arc::new(entry))
            .is_none()
        {
            self.order.push_back(prompt_id);
        }
    }

    /// One entry, if it is there and readable.
    pub(crate) fn get(&self, prompt_id: &str) -> Option<Arc<Entry>> {
        let entry = self.entries.get(prompt_id)?;
        (entry.readable_at <= Instant::now()).then(|| Arc::clone(entry))
    }

    /// The readable entries, the oldest first.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Entry>)> {
        self.order
            .iter()
            .filter_map(|id| self.get(id).map(|entry| (id.clone(), entry)))
            .collect()
    }

    pub(crate) fn delete(&mut self, prompt_id: &str) {
        if self.entries.remove(prompt_id).is_some() {
            self.order.retain(|id| id != prompt_id);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use serde_json::json;

    use super::{Ending, Entry, History};
    use crate::queue::QueueItem;

    fn entry(prompt_id: &str, delay: Duration) -> Entry {
        let item = QueueItem {
            number: json!(0),
            prompt_id: prompt_id.to_owned(),
            prompt: Arc::default(),
            extra_data: Arc::default(),
            outputs: Vec::new(),
        };
        Entry::new(item, Vec::new(), Ending::Success, Vec::new(), delay)
    }

    #[test]
    fn the_oldest_entries_are_evicted_beyond_ten_thousand_and_one() {
        let mut history = History::default();
        for number in 0..10_050 {
            history.insert(entry(&number.to_string(), Duration::ZERO));
        }
        let all = history.all();
        assert_eq!(all.len(), 10_001);
        assert_eq!(all[0].0, "49");
    }

    #[test]
    fn a_second_entry_with_the_same_id_takes_the_place_of_the_first() {
        let mut history = History::default();
        for id in ["a", "b", "a"] {
            history.insert(entry(id, Duration::ZERO));
        }
        let ids: Vec<_> = history.all().into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn a_late_entry_is_not_readable_yet() {
        let mut history = History::default();
        history.insert(entry("a", Duration::from_hours(1)));
        assert!(history.get("a").is_none());
    }
}

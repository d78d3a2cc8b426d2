use std::fmt;

use atelier_domain::ports::{BackendQueue, ComfyError};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use super::backend::Backend;

#[derive(Deserialize)]
struct Queue {
    queue_running: Vec<Item>,
    queue_pending: Vec<Item>,
}

/// `[number, prompt_id, prompt, extra_data, outputs]`; what comes after the
/// first two is everybody's graphs, and is not kept.
struct Item {
    number: f64,
    prompt_id: String,
}

impl Backend {
    pub(crate) async fn queue(&self) -> Result<BackendQueue, ComfyError> {
        let answer = self
            .transport
            .get("/queue", &["queue"], self.transport.long())
            .await?;
        let Queue {
            queue_running,
            mut queue_pending,
        } = answer.json()?;
        // What comes is a heap.
        queue_pending.sort_by(|a, b| {
            a.number
                .total_cmp(&b.number)
                .then_with(|| a.prompt_id.cmp(&b.prompt_id))
        });
        let ids = |items: Vec<Item>| items.into_iter().map(|item| item.prompt_id).collect();
        Ok(BackendQueue {
            running: ids(queue_running),
            pending: ids(queue_pending),
        })
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an item of the queue")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Item, A::Error> {
        let number = sequence
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(0, &self))?;
        let prompt_id = sequence
            .next_element()?
            .ok_or_else(|| A::Error::invalid_length(1, &self))?;
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item { number, prompt_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_any_length_are_read() {
        let queue: Queue = serde_json::from_str(
            r#"{"queue_running": [[0, "a", {}, {}, ["9"]]], "queue_pending": [[-1.5, "b", {}, {}, [], {"new": 1}], [2, "c"]]}"#,
        )
        .unwrap();

        assert_eq!(queue.queue_running[0].prompt_id, "a");
        assert_eq!(
            queue
                .queue_pending
                .iter()
                .map(|item| item.number)
                .collect::<Vec<_>>(),
            [-1.5, 2.0]
        );
    }
}

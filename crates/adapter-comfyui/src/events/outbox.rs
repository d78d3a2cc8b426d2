use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use atelier_domain::ports::{ComfyError, ComfyEvent};
use tokio::sync::Notify;

/// How many events wait for a slow consumer.
const CAPACITY: usize = 1024;

/// Between the socket, which is always drained, and a consumer who may be
/// slow: a socket that is not read would stall the events of all clients
/// (`reference/comfyui/PROTOCOL.md` section 6). What a later event makes
/// pointless is dropped first, and the end of a prompt last.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<ComfyEvent>,
    end: Option<End>,
}

#[derive(Debug)]
enum End {
    /// With nothing more to say.
    Quiet,
    Failed(ComfyError),
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // A queue is whole after each of its methods.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, event: ComfyEvent) {
        self.state().push(event);
        self.news.notify_one();
    }

    /// Ends the stream, after what waits.
    pub(crate) fn end(&self, error: Option<ComfyError>) {
        self.state().end = Some(error.map_or(End::Quiet, End::Failed));
        self.news.notify_one();
    }

    /// The next event; for one consumer.
    pub(crate) async fn next(&self) -> Option<Result<ComfyEvent, ComfyError>> {
        loop {
            if let Some(next) = self.state().take() {
                return next;
            }
            self.news.notified().await;
        }
    }
}

impl State {
    fn push(&mut self, event: ComfyEvent) {
        if let Some(older) = self.waiting.back_mut()
            && replaces(&event, older)
        {
            *older = event;
            return;
        }
        // A picture is large, and only the latest is shown.
        if let Some(prompt_id) = preview_of(&event) {
            self.waiting
                .retain(|older| preview_of(older) != Some(prompt_id));
        }
        if self.waiting.len() == CAPACITY {
            let dispensable = self.waiting.iter().position(is_transient);
            let dispensable =
                dispensable.or_else(|| self.waiting.iter().position(|event| !is_end(event)));
            self.waiting.remove(dispensable.unwrap_or(0));
        }
        self.waiting.push_back(event);
    }

    /// `None` while there is nothing to say.
    #[expect(
        clippy::option_option,
        reason = "the inner one is the end of the stream"
    )]
    fn take(&mut self) -> Option<Option<Result<ComfyEvent, ComfyError>>> {
        if let Some(event) = self.waiting.pop_front() {
            return Some(Some(Ok(event)));
        }
        match self.end.replace(End::Quiet) {
            Some(End::Failed(error)) => Some(Some(Err(error))),
            Some(End::Quiet) => Some(None),
            None => {
                self.end = None;
                None
            }
        }
    }
}

fn preview_of(event: &ComfyEvent) -> Option<&str> {
    match event {
        ComfyEvent::Preview { prompt_id, .. } => Some(prompt_id),
        _ => None,
    }
}

fn is_transient(event: &ComfyEvent) -> bool {
    matches!(
        event,
        ComfyEvent::Progress { .. } | ComfyEvent::Preview { .. } | ComfyEvent::QueueRemaining(_)
    )
}

fn is_end(event: &ComfyEvent) -> bool {
    matches!(event, ComfyEvent::Ended { .. })
}

/// Whether nobody needs the older event once there is the newer one.
fn replaces(newer: &ComfyEvent, older: &ComfyEvent) -> bool {
    match (newer, older) {
        (ComfyEvent::QueueRemaining(_), ComfyEvent::QueueRemaining(_)) => true,
        (
            ComfyEvent::Progress {
                prompt_id, node_id, ..
            },
            ComfyEvent::Progress {
                prompt_id: older_prompt,
                node_id: older_node,
                ..
            },
        ) => prompt_id == older_prompt && node_id == older_node,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_domain::ports::{PreviewFormat, PreviewImage};

    fn progress(node: &str, value: u32) -> ComfyEvent {
        ComfyEvent::Progress {
            prompt_id: "p".into(),
            node_id: node.into(),
            value,
            max: 20,
        }
    }

    fn ended(prompt: usize) -> ComfyEvent {
        ComfyEvent::Ended {
            prompt_id: prompt.to_string(),
        }
    }

    async fn rest(outbox: &Outbox) -> Vec<ComfyEvent> {
        outbox.end(None);
        let mut events = Vec::new();
        while let Some(event) = outbox.next().await {
            events.push(event.unwrap());
        }
        events
    }

    #[tokio::test]
    async fn steps_of_one_node_become_one() {
        let outbox = Outbox::default();

        for event in [
            progress("1", 1),
            progress("1", 2),
            progress("2", 1),
            progress("2", 2),
        ] {
            outbox.push(event);
        }

        assert_eq!(rest(&outbox).await, [progress("1", 2), progress("2", 2)]);
    }

    #[tokio::test]
    async fn a_full_outbox_keeps_the_ends_of_prompts() {
        let outbox = Outbox::default();

        for prompt in 0..CAPACITY {
            outbox.push(ComfyEvent::Started {
                prompt_id: prompt.to_string(),
            });
            outbox.push(progress(&prompt.to_string(), 1));
            outbox.push(ended(prompt));
        }

        let events = rest(&outbox).await;
        assert_eq!(events.len(), CAPACITY);
        assert_eq!(events, (0..CAPACITY).map(ended).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn of_many_previews_the_latest_waits() {
        let preview = |picture: &'static [u8]| ComfyEvent::Preview {
            prompt_id: "p".into(),
            node_id: "3".into(),
            image: PreviewImage {
                content_type: PreviewFormat::Jpeg,
                bytes: picture.into(),
            },
        };
        let outbox = Outbox::default();

        for event in [preview(b"1"), progress("3", 1), preview(b"2"), ended(1)] {
            outbox.push(event);
        }

        assert_eq!(
            rest(&outbox).await,
            [progress("3", 1), preview(b"2"), ended(1)]
        );
    }

    #[tokio::test]
    async fn an_error_comes_after_what_waits_and_once() {
        let outbox = Outbox::default();
        outbox.push(ended(1));

        outbox.end(Some(ComfyError::ServerError { status: 500 }));

        assert!(matches!(
            outbox.next().await,
            Some(Ok(ComfyEvent::Ended { .. }))
        ));
        assert!(matches!(
            outbox.next().await,
            Some(Err(ComfyError::ServerError { .. }))
        ));
        assert!(outbox.next().await.is_none());
        assert!(outbox.next().await.is_none());
    }
}

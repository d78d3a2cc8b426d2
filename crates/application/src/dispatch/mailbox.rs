use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use atelier_domain::graph::GraphWork;
use atelier_domain::ports::{ComfyEvent, PreviewImage};
use atelier_domain::run::RunProgress;
use tokio::sync::Notify;

/// Nodes of one prompt that are counted; a graph has fewer, but the names come
/// from the backend.
const MAX_NODES: usize = 10_000;

/// What was heard of one prompt, folded together: however much comes while
/// nobody reads, it takes no more room and blocks nobody.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    heard: Mutex<Heard>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    anything: bool,
    ended: bool,
    done: BTreeSet<String>,
    current: Option<Current>,
    preview: Option<PreviewImage>,
}

#[derive(Debug)]
struct Current {
    node_id: String,
    /// `(done, all)`.
    steps: Option<(u32, u32)>,
}

/// What a follower reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Snapshot {
    /// Whether the prompt has begun, as far as was heard.
    pub(super) began: bool,
    /// Whether it was said to have ended.
    pub(super) ended: bool,
    pub(super) progress: RunProgress,
    /// The latest preview that nobody read yet.
    pub(super) preview: Option<PreviewImage>,
}

impl Mailbox {
    /// Takes an event of this prompt.
    pub(super) fn put(&self, event: ComfyEvent) {
        {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.fold(event);
        }
        self.wake.notify_one();
    }

    /// Wakes the follower although nothing was heard.
    pub(super) fn nudge(&self) {
        self.wake.notify_one();
    }

    /// Waits until something was put or nudged since the last wait.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    pub(super) fn read(&self, work: &GraphWork) -> Snapshot {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        Snapshot {
            began: heard.anything,
            ended: heard.ended,
            progress: heard.progress(work),
            preview: heard.preview.take(),
        }
    }
}

impl Heard {
    fn fold(&mut self, event: ComfyEvent) {
        self.anything = true;
        match event {
            ComfyEvent::QueueRemaining(_) | ComfyEvent::Started { .. } => {}
            ComfyEvent::Cached { nodes, .. } => {
                for node_id in nodes {
                    self.finish(node_id);
                }
            }
            ComfyEvent::Executing { node_id, .. } => self.enter(node_id, None),
            ComfyEvent::Progress {
                node_id,
                value,
                max,
                ..
            } => {
                self.enter(node_id, Some((value, max)));
            }
            ComfyEvent::Executed { node_id, .. } => self.finish(node_id),
            ComfyEvent::Ended { .. } => self.ended = true,
            ComfyEvent::Preview { image, .. } => self.preview = Some(image),
        }
    }

    /// One node runs at a time, so the one before is done.
    fn enter(&mut self, node_id: String, steps: Option<(u32, u32)>) {
        let before = self.current.replace(Current { node_id, steps });
        let is_another = |before: &Current| {
            self.current
                .as_ref()
                .is_some_and(|current| current.node_id != before.node_id)
        };
        if let Some(before) = before.filter(is_another) {
            self.finish(before.node_id);
        }
    }

    fn finish(&mut self, node_id: String) {
        if self.done.len() < MAX_NODES {
            self.done.insert(node_id);
        }
    }

    fn progress(&self, work: &GraphWork) -> RunProgress {
        let current = self
            .current
            .as_ref()
            .filter(|current| !self.done.contains(&current.node_id));
        let steps = current.and_then(|current| {
            let (done, all) = current.steps.filter(|(_, all)| *all > 0)?;
            Some((current.node_id.as_str(), done, all))
        });
        let done = || self.done.iter().map(String::as_str);
        RunProgress {
            value: work.share(done(), steps),
            nodes_done: work.count(done()),
            nodes_total: work.nodes(),
            current_node: current.map(|current| current.node_id.clone()),
            step: steps.map(|(_, done, _)| done),
            steps: steps.map(|(_, _, all)| all),
            ..RunProgress::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use atelier_domain::graph::PromptGraph;

    use super::*;

    fn executing(node: &str) -> ComfyEvent {
        ComfyEvent::Executing {
            prompt_id: "p".into(),
            node_id: node.into(),
        }
    }

    fn work() -> GraphWork {
        let graph = PromptGraph::parse(
            r#"{"1": {"class_type": "A", "inputs": {}}, "2": {"class_type": "A", "inputs": {}},
                "3": {"class_type": "KSampler", "inputs": {"steps": 10}}, "4": {"class_type": "A", "inputs": {}}}"#,
        );
        graph.unwrap().work()
    }

    #[test]
    fn a_node_is_done_when_the_next_one_runs() {
        let mailbox = Mailbox::default();
        mailbox.put(ComfyEvent::Cached {
            prompt_id: "p".into(),
            nodes: vec!["1".into()],
        });
        mailbox.put(executing("2"));
        mailbox.put(executing("3"));
        mailbox.put(ComfyEvent::Progress {
            prompt_id: "p".into(),
            node_id: "3".into(),
            value: 5,
            max: 10,
        });

        let progress = mailbox.read(&work()).progress;

        assert_eq!(
            (progress.nodes_done, progress.step, progress.steps),
            (2, Some(5), Some(10))
        );
        assert_eq!(progress.current_node.as_deref(), Some("3"));
        // Nodes 1 and 2, and half of what the sampler weighs with its steps.
        assert!((progress.value - 7.5 / 14.0).abs() < 1e-9);
    }

    #[test]
    fn absurd_steps_stay_within_bounds() {
        let mailbox = Mailbox::default();
        mailbox.put(ComfyEvent::Progress {
            prompt_id: "p".into(),
            node_id: "1".into(),
            value: u32::MAX,
            max: 0,
        });

        let progress = mailbox.read(&GraphWork::default()).progress;

        assert!((0.0..=1.0).contains(&progress.value));
        assert_eq!(progress.steps, None);
    }
}

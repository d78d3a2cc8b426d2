//! What every [`UsageRepo`] must do.

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{LoraFailure, NewLora, ReceivedLora};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    InputRepo, LoraRepo, RunQueue, RunRepo, UsageRepo, WorkflowRepo, WriteOutcome,
};
use atelier_domain::usage::Usage;

use super::KeepAlive;
use crate::build::{
    a_claim, a_new_lora, a_new_run, a_workflow, an_actor, an_input, an_output, next_time, received,
};

/// A store under test. It must be this harness's alone: a claim takes whatever
/// waits.
pub struct Harness {
    /// The usage under test.
    pub usage: Arc<dyn UsageRepo>,
    /// LoRAs in the same store.
    pub loras: Arc<dyn LoraRepo>,
    /// Pictures in the same store.
    pub inputs: Arc<dyn InputRepo>,
    /// Runs in the same store.
    pub runs: Arc<dyn RunRepo>,
    /// The same runs, for workers.
    pub queue: Arc<dyn RunQueue>,
    /// Workflows in the same store.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

impl Harness {
    async fn usage(&self, actor: &Actor) -> Usage {
        self.usage.of(actor).await.unwrap()
    }

    async fn reserved(&self, owner: &Actor, filename: &str, bytes_total: Option<u64>) -> LoraId {
        let new = NewLora {
            bytes_total,
            ..a_new_lora(filename)
        };
        self.loras.reserve(owner, new).await.unwrap().id
    }

    async fn ready(&self, owner: &Actor, filename: &str, file_size: u64) -> LoraId {
        let id = self.reserved(owner, filename, None).await;
        let received = ReceivedLora {
            file_size,
            ..received(filename.as_bytes())
        };
        let outcome = self.loras.mark_ready(owner, id, received).await.unwrap();
        assert!(matches!(outcome, WriteOutcome::Done(_)), "{outcome:?}");
        id
    }

    async fn enqueued(&self, owner: &Actor) {
        let workflow = self.workflows.create(owner, a_workflow()).await.unwrap();
        crate::enqueue(&*self.runs, owner, a_new_run(workflow.id)).await;
    }
}

/// Though others take up a lot.
pub async fn who_has_nothing_takes_up_nothing(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    h.ready(&bob, "a.safetensors", 1_000).await;
    h.inputs
        .add(&bob, an_input(&bob, "a.png", b"a"))
        .await
        .unwrap();
    h.enqueued(&bob).await;

    assert_eq!(h.usage(&alice).await, Usage::default());
}

/// Those on their way count with what is known of their size; what failed or
/// was deleted does not.
pub async fn loras_count_until_they_are_deleted_or_fail(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", 1_000).await;
    h.reserved(&alice, "b.safetensors", Some(200)).await;
    h.reserved(&alice, "c.safetensors", None).await;
    let broken = h.reserved(&alice, "d.safetensors", Some(5_000)).await;
    assert_eq!(h.usage(&alice).await.lora_bytes, 6_200);
    let failure = LoraFailure {
        code: "broken".to_owned(),
        message: "It is no LoRA.".to_owned(),
    };

    let failed = h.loras.mark_failed(&alice, broken, failure).await.unwrap();

    assert!(matches!(failed, WriteOutcome::Done(_)), "{failed:?}");
    assert_eq!(h.usage(&alice).await.lora_bytes, 1_200);
    let deleted = h.loras.delete(&alice, first).await.unwrap();
    assert_eq!(deleted, WriteOutcome::Done(()));
    assert_eq!(h.usage(&alice).await.lora_bytes, 200);
}

/// Each picture once, while it is there.
pub async fn inputs_count_until_they_are_deleted(h: &Harness) {
    let alice = an_actor();
    let mut last = None;
    for bytes in [b"1".as_slice(), b"22", b"333"] {
        let input = an_input(&alice, "a.png", bytes);
        last = Some(h.inputs.add(&alice, input).await.unwrap().id);
    }
    assert_eq!(h.usage(&alice).await.input_bytes, 6);

    let deleted = h.inputs.delete(&alice, last.unwrap(), next_time()).await;

    assert!(deleted.unwrap());
    assert_eq!(h.usage(&alice).await.input_bytes, 3);
}

/// And what they left behind.
pub async fn runs_count_where_they_stand(h: &Harness) {
    let alice = an_actor();
    for _ in 0..4 {
        h.enqueued(&alice).await;
    }
    let mut claimed = Vec::new();
    for _ in 0..2 {
        let run = crate::claim(&*h.queue, a_claim("backend-1")).await;
        claimed.push(run.expect("a run waits"));
    }
    let run = claimed.pop().unwrap();
    let output = |index, size_bytes| RunOutput {
        size_bytes,
        ..an_output(run.run_id, index)
    };

    let ended = h
        .queue
        .complete(
            run.run_id,
            run.token,
            vec![output(0, 3_000_000_000), output(1, 5)],
        )
        .await;

    ended.unwrap();
    let expected = Usage {
        output_bytes: 3_000_000_005,
        pending_runs: 2,
        running_runs: 1,
        ..Usage::default()
    };
    assert_eq!(h.usage(&alice).await, expected);
}

/// Tests a `UsageRepo`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! usage_repo_conformance {
    ($harness:expr) => {
        $crate::__cases! { usage_repo in usage_repo_conformance, $harness;
            who_has_nothing_takes_up_nothing,
            loras_count_until_they_are_deleted_or_fail,
            inputs_count_until_they_are_deleted,
            runs_count_where_they_stand,
        }
    };
}

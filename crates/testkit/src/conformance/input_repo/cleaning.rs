use atelier_domain::actor::Actor;
use atelier_domain::ids::{InputId, RunId};
use atelier_domain::input::Input;
use atelier_domain::ports::ClaimedRun;
use atelier_domain::run::NewRun;

use super::Harness;
use crate::build::{a_claim, a_new_run, a_workflow, an_actor, next_time};

impl Harness {
    async fn run_with(&self, owner: &Actor, inputs: &[InputId]) -> RunId {
        let workflow = self.workflows.create(owner, a_workflow()).await.unwrap();
        let new = NewRun {
            input_ids: inputs.to_vec(),
            ..a_new_run(workflow.id)
        };
        crate::enqueue(&*self.runs, owner, new).await.id
    }

    async fn claimed(&self) -> ClaimedRun {
        let claimed = crate::claim(&*self.queue, a_claim("backend-1")).await;
        claimed.expect("a run waits")
    }

    async fn cleanable(&self, limit: u16) -> Vec<InputId> {
        let found = self.inputs.cleanable(limit).await.unwrap();
        found.into_iter().map(|input| input.id).collect()
    }

    async fn loaded(&self, owner: &Actor, ids: &[InputId]) -> Vec<Input> {
        let loaded = self.inputs.load_many(owner.user_id(), ids.to_vec()).await;
        let mut loaded = loaded.unwrap();
        loaded.sort_by_key(|input| input.created_at);
        loaded
    }
}

/// Workers load it all the same, for the runs that wait for it.
pub async fn a_deleted_input_is_gone_for_its_owner_alone(h: &Harness) {
    let alice = an_actor();
    let kept = h.added(&alice, "kept.png", b"a").await;
    let gone = h.added(&alice, "gone.png", b"b").await;
    h.deleted(&alice, gone.id).await;

    assert_eq!(h.inputs.get(&alice, gone.id).await.unwrap(), None);
    assert_eq!(h.listed(&alice, 50).await, std::slice::from_ref(&kept));
    let again = h.inputs.delete(&alice, gone.id, next_time()).await;
    assert!(!again.unwrap());
    let both = h.loaded(&alice, &[gone.id, kept.id, gone.id]).await;
    assert_eq!(both, [kept, gone]);
}

/// Until its run is over, however that waits.
pub async fn what_an_unfinished_run_needs_is_kept(h: &Harness) {
    let alice = an_actor();
    let input = h.added(&alice, "a.png", b"a").await;
    let run = h.run_with(&alice, &[input.id]).await;
    assert_eq!(h.cleanable(10).await, [], "it is not deleted");
    h.deleted(&alice, input.id).await;
    assert_eq!(h.cleanable(10).await, [], "a run waits for it");

    let claimed = h.claimed().await;

    assert_eq!(claimed.run_id, run);
    assert_eq!(claimed.input_ids, [input.id]);
    assert_eq!(h.cleanable(10).await, [], "a run uses it");
    let ended = h.queue.complete(run, claimed.token, Vec::new()).await;
    ended.unwrap();
    assert_eq!(h.cleanable(10).await, [input.id]);
}

/// In turns of the size that is asked for.
pub async fn the_longest_deleted_inputs_are_cleaned_first(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let first = h.added(&alice, "a.png", b"a").await;
    let second = h.added(&bob, "a.png", b"a").await;
    let third = h.added(&alice, "b.png", b"b").await;
    h.deleted(&bob, second.id).await;
    h.deleted(&alice, third.id).await;
    h.deleted(&alice, first.id).await;

    assert_eq!(h.cleanable(2).await, [second.id, third.id]);
    assert_eq!(h.cleanable(9).await, [second.id, third.id, first.id]);
}

/// One that is there is nobody's to forget.
pub async fn only_deleted_inputs_are_forgotten(h: &Harness) {
    let alice = an_actor();
    let input = h.added(&alice, "a.png", b"a").await;

    h.inputs.forget(input.id).await.unwrap();

    assert_eq!(
        h.loaded(&alice, &[input.id]).await,
        std::slice::from_ref(&input)
    );
    h.deleted(&alice, input.id).await;
    h.inputs.forget(input.id).await.unwrap();
    assert_eq!(h.loaded(&alice, &[input.id]).await, []);
    assert_eq!(h.cleanable(10).await, []);
    h.inputs.forget(input.id).await.unwrap();
}

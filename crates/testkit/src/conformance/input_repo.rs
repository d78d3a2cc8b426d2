//! What every [`InputRepo`] must do.

mod cleaning;
mod names;

use std::collections::BTreeSet;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::InputId;
use atelier_domain::input::{Input, InputFormat, InputPath};
use atelier_domain::ports::{Conflict, InputRepo, RepoError, RunQueue, RunRepo, WorkflowRepo};
use tokio::task::JoinSet;

pub use cleaning::*;
pub use names::*;

use super::{KeepAlive, LIMITS, all_pages};
use crate::build::{an_actor, an_input, next_time};
use crate::random_id;

/// A store under test. It must be this harness's alone: cleaning looks at
/// everybody's pictures.
pub struct Harness {
    /// The repository under test.
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
    async fn added(&self, owner: &Actor, filename: &str, bytes: &[u8]) -> Input {
        let input = an_input(owner, filename, bytes);
        self.inputs.add(owner, input).await.unwrap()
    }

    async fn listed(&self, actor: &Actor, limit: u16) -> Vec<Input> {
        all_pages(limit, async |page| {
            self.inputs.list(actor, page).await.unwrap()
        })
        .await
    }

    async fn deleted(&self, owner: &Actor, id: InputId) {
        let deleted = self.inputs.delete(owner, id, next_time()).await;
        assert!(deleted.unwrap(), "the picture was not there");
    }
}

/// Every field comes back, whatever the format.
pub async fn a_stored_input_is_read_back(h: &Harness) {
    let alice = an_actor();
    for format in InputFormat::ALL {
        let input = an_input(&alice, "Foto (2).x", format.extension().as_bytes());
        let input = Input {
            format,
            comfyui_path: InputPath::of(alice.user_id(), &input.sha256, format),
            size_bytes: 5_000_000_000,
            width: u32::MAX,
            ..input
        };

        let stored = h.inputs.add(&alice, input.clone()).await.unwrap();

        assert_eq!(stored, input);
        let found = h.inputs.get(&alice, input.id).await.unwrap();
        assert_eq!(found, Some(input));
    }
}

/// Nobody else sees, finds, deletes or loads it.
pub async fn an_input_is_its_owners_alone(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let input = h.added(&alice, "a.png", b"a").await;

    assert_eq!(h.inputs.get(&bob, input.id).await.unwrap(), None);
    assert_eq!(h.listed(&bob, 50).await, []);
    assert_eq!(h.inputs.find(&bob, both_names(&input)).await.unwrap(), []);
    let deleted = h.inputs.delete(&bob, input.id, next_time()).await;
    assert!(!deleted.unwrap());
    let loaded = h.inputs.load_many(bob.user_id(), vec![input.id]).await;
    assert_eq!(loaded.unwrap(), []);
    assert_eq!(
        h.inputs.get(&alice, input.id).await.unwrap(),
        Some(input.clone())
    );
    let absent = InputId::new(random_id());
    assert_eq!(h.inputs.get(&alice, absent).await.unwrap(), None);
}

/// Whoever names another owner stores nothing.
pub async fn nobody_stores_inputs_for_others(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    // Both are known by now.
    h.added(&alice, "a.png", b"a").await;
    h.added(&bob, "a.png", b"a").await;

    let outcome = h.inputs.add(&alice, an_input(&bob, "b.png", b"b")).await;

    assert!(matches!(outcome, Err(RepoError::Backend(_))), "{outcome:?}");
    assert_eq!(h.listed(&bob, 50).await.len(), 1);
}

/// An id stands for one picture.
pub async fn an_input_id_is_taken_once(h: &Harness) {
    let alice = an_actor();
    let first = h.added(&alice, "a.png", b"a").await;
    let second = Input {
        id: first.id,
        ..an_input(&alice, "b.png", b"b")
    };

    let outcome = h.inputs.add(&alice, second).await;

    assert!(
        matches!(outcome, Err(RepoError::Conflict(Conflict::Id))),
        "{outcome:?}"
    );
}

/// MUST store nothing and answer the one that is there.
pub async fn the_same_bytes_under_the_same_name_are_stored_once(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let first = h.added(&alice, "a.png", b"a").await;

    assert_eq!(h.added(&alice, "a.png", b"a").await, first);
    let renamed = h.added(&alice, "b.png", b"a").await;
    let changed = h.added(&alice, "a.png", b"b").await;
    let bobs = h.added(&bob, "a.png", b"a").await;

    let ids = BTreeSet::from([first.id, renamed.id, changed.id, bobs.id]);
    assert_eq!(ids.len(), 4);
    assert_eq!(h.listed(&alice, 50).await.len(), 3);
    h.deleted(&alice, first.id).await;
    let again = h.added(&alice, "a.png", b"a").await;
    assert_ne!(again.id, first.id, "what is deleted stays so");
}

/// Eight uploads of one picture at once.
pub async fn the_same_bytes_at_once_are_stored_once(h: &Harness) {
    let alice = an_actor();
    let mut uploads = JoinSet::new();
    for _ in 0..8 {
        let inputs = Arc::clone(&h.inputs);
        let alice = alice.clone();
        uploads.spawn(async move {
            let input = an_input(&alice, "a.png", b"a");
            inputs.add(&alice, input).await.unwrap().id
        });
    }

    let ids: BTreeSet<InputId> = uploads.join_all().await.into_iter().collect();

    assert_eq!(ids.len(), 1);
    assert_eq!(h.listed(&alice, 50).await.len(), 1);
}

/// Newest first, page by page.
pub async fn inputs_are_listed_newest_first(h: &Harness) {
    let alice = an_actor();
    let mut expected = Vec::new();
    for number in 0..9_u8 {
        expected.insert(0, h.added(&alice, "a.png", &[number]).await);
    }
    let gone = expected.remove(4);
    h.deleted(&alice, gone.id).await;

    for limit in LIMITS {
        assert_eq!(h.listed(&alice, limit).await, expected, "{limit} a page");
    }
}

fn both_names(input: &Input) -> Vec<atelier_domain::input::InputName> {
    use atelier_domain::input::InputName;

    vec![
        InputName::Latest(input.filename.clone()),
        InputName::At(input.comfyui_path.clone()),
    ]
}

/// Tests an `InputRepo`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! input_repo_conformance {
    ($harness:expr) => {
        $crate::__cases! { input_repo in input_repo_conformance, $harness;
            a_stored_input_is_read_back,
            an_input_is_its_owners_alone,
            nobody_stores_inputs_for_others,
            an_input_id_is_taken_once,
            the_same_bytes_under_the_same_name_are_stored_once,
            the_same_bytes_at_once_are_stored_once,
            inputs_are_listed_newest_first,
            a_name_means_the_newest_and_a_path_what_is_there,
            what_is_meant_twice_is_found_once,
            a_deleted_input_is_gone_for_its_owner_alone,
            what_an_unfinished_run_needs_is_kept,
            the_longest_deleted_inputs_are_cleaned_first,
            only_deleted_inputs_are_forgotten,
        }
    };
}

//! What every [`WorkflowRepo`] must do.

mod lists;
mod writes;

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::ports::{RunRepo, WorkflowRepo};
use atelier_domain::workflow::{NewWorkflow, Workflow};

pub use lists::*;
pub use writes::*;

use super::KeepAlive;
use crate::build::a_workflow;
use crate::random_id;

/// A store under test. It may be shared with other tests.
pub struct Harness {
    /// The workflows under test.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Runs in the same store.
    pub runs: Arc<dyn RunRepo>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

impl Harness {
    async fn stored(&self, owner: &Actor, new: NewWorkflow) -> Workflow {
        self.workflows.create(owner, new).await.unwrap()
    }

    async fn private(&self, owner: &Actor) -> Workflow {
        self.stored(owner, a_workflow()).await
    }

    async fn public(&self, owner: &Actor) -> Workflow {
        let new = NewWorkflow {
            is_public: true,
            ..a_workflow()
        };
        self.stored(owner, new).await
    }

    async fn get(&self, actor: &Actor, id: WorkflowId) -> Option<Workflow> {
        self.workflows.get(actor, id).await.unwrap()
    }
}

/// A tag that no other test uses: what finds a case's own rows among the
/// public ones of everybody.
fn a_tag() -> String {
    random_id().simple().to_string()
}

/// Tests a `WorkflowRepo`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! workflow_repo_conformance {
    ($harness:expr) => {
        $crate::__cases! { workflow_repo in workflow_repo_conformance, $harness;
            what_is_created_is_read_back,
            odd_texts_are_read_back,
            a_taken_id_is_a_conflict,
            another_tenant_sees_no_private_workflow,
            another_tenant_changes_no_private_workflow,
            a_public_workflow_is_read_by_others_and_not_changed,
            a_workflow_that_becomes_private_is_gone_for_others,
            an_update_changes_what_it_names_and_raises_the_revision,
            an_empty_update_raises_the_revision_too,
            a_description_is_taken_away,
            a_stale_update_changes_nothing,
            of_two_updates_of_one_revision_one_wins,
            a_delete_takes_the_workflow_away,
            a_stale_delete_deletes_nothing,
            a_deleted_workflow_leaves_its_runs,
            what_is_absent_is_not_found,
            scopes_hold_own_and_public_workflows,
            pages_join_to_the_whole_list,
            rows_of_one_moment_are_paged_without_loss,
            pages_stay_in_place_while_rows_come,
            a_tag_filter_takes_the_whole_tag,
            a_text_filter_looks_at_name_and_description_whatever_the_case,
            a_text_filter_takes_wildcards_for_what_they_are,
            filters_hold_together,
        }
    };
}

use std::sync::Arc;

use atelier_application::workflows::{
    CreateWorkflow, UpdateWorkflow, WorkflowDraft, WorkflowError, WorkflowPatch,
};
use atelier_domain::ports::{MockWorkflowRepo, WorkflowRepo, WriteOutcome};
use atelier_domain::workflow::Revision;
use atelier_testkit::{FakeStore, ManualClock, SequentialIds, build::an_actor};

use crate::support::plain_graph;

fn draft() -> WorkflowDraft {
    WorkflowDraft {
        name: "House".to_owned(),
        description: Some("A house".to_owned()),
        workflow_json: plain_graph().to_string(),
        is_public: false,
        tags: vec!["house".to_owned()],
    }
}

fn creating(workflows: Arc<dyn WorkflowRepo>) -> CreateWorkflow {
    CreateWorkflow {
        workflows,
        clock: Arc::new(ManualClock::default()),
        ids: Arc::new(SequentialIds::new()),
    }
}

fn pointers(error: WorkflowError) -> Vec<String> {
    match error {
        WorkflowError::Invalid(violations) => {
            violations.into_iter().map(|fault| fault.pointer).collect()
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn every_fault_of_a_draft_is_told_and_nothing_is_stored() {
    let bad = WorkflowDraft {
        name: "x".repeat(201),
        description: Some("a\0b".to_owned()),
        workflow_json: r#"{"3": {"class_type": "KSampler", "inputs": {"model": ["99", 0]}}}"#
            .to_owned(),
        is_public: false,
        tags: vec!["fine".to_owned(), String::new()],
    };

    // A mock without expectations: storing anything would panic.
    let refused = creating(Arc::new(MockWorkflowRepo::new()))
        .execute(&an_actor(), bad)
        .await;

    assert_eq!(
        pointers(refused.unwrap_err()),
        [
            "/name",
            "/description",
            "/workflow_json/3/inputs/model",
            "/tags/1"
        ]
    );
}

#[tokio::test]
async fn a_patch_changes_only_what_it_names() {
    let store = FakeStore::new();
    let actor = an_actor();
    let workflow = creating(Arc::new(store.workflows()))
        .execute(&actor, draft())
        .await
        .unwrap();
    let updating = UpdateWorkflow {
        workflows: Arc::new(store.workflows()),
        clock: Arc::new(ManualClock::default()),
    };
    let patch = WorkflowPatch {
        name: Some("Lake".to_owned()),
        description: Some(None),
        ..WorkflowPatch::default()
    };

    let outcome = updating
        .patch(&actor, workflow.id, patch, Some(Revision::FIRST))
        .await
        .unwrap();

    let WriteOutcome::Done(changed) = outcome else {
        panic!("not written: {outcome:?}")
    };
    assert_eq!(changed.name.as_str(), "Lake");
    assert_eq!(changed.description, None);
    assert_eq!(changed.workflow_json, workflow.workflow_json);
    assert_eq!(changed.tags, workflow.tags);
}

#[tokio::test]
async fn a_write_on_an_old_revision_changes_nothing() {
    let store = FakeStore::new();
    let actor = an_actor();
    let workflow = creating(Arc::new(store.workflows()))
        .execute(&actor, draft())
        .await
        .unwrap();
    let updating = UpdateWorkflow {
        workflows: Arc::new(store.workflows()),
        clock: Arc::new(ManualClock::default()),
    };

    let outcome = updating
        .replace(&actor, workflow.id, draft(), Some(Revision::new(7)))
        .await
        .unwrap();

    assert!(matches!(outcome, WriteOutcome::Stale(_)), "{outcome:?}");
}

#[test]
fn a_draft_in_a_log_holds_no_prompt() {
    assert!(!format!("{:?}", draft()).contains("EmptyImage"));
}

use atelier_domain::graph::GraphJson;
use atelier_domain::ids::WorkflowId;
use atelier_domain::ports::{Conflict, RepoError, WriteOutcome};
use atelier_domain::text::{Description, Name};
use atelier_domain::workflow::{NewWorkflow, Revision, WorkflowChange};

use super::Harness;
use crate::build::{a_graph_with_lora, a_new_run, a_workflow, an_actor, name, next_time, tags};
use crate::random_id;

fn description(text: &str) -> Description {
    Description::parse(text).expect("the case gives a good description")
}

fn renamed(text: &str) -> WorkflowChange {
    WorkflowChange {
        name: Some(name(text)),
        ..WorkflowChange::default()
    }
}

/// `get` gives what `create` was given and answered.
pub async fn what_is_created_is_read_back(h: &Harness) {
    let alice = an_actor();
    let new = NewWorkflow {
        description: Some(description("first line\nsecond line")),
        tags: tags(&["b", "a"]),
        is_public: true,
        ..a_workflow()
    };

    let created = h.stored(&alice, new.clone()).await;

    assert_eq!(created.id, new.id);
    assert_eq!(created.user_id, alice.user_id());
    assert_eq!(created.name, new.name);
    assert_eq!(created.description, new.description);
    assert_eq!(created.workflow_json, new.workflow_json);
    assert!(created.is_public);
    assert_eq!(created.tags, new.tags);
    assert_eq!(created.revision, Revision::FIRST);
    assert_eq!(created.created_at, new.created_at);
    assert_eq!(h.get(&alice, new.id).await, Some(created));
}

/// Quotes, backslashes, other scripts, an empty description and numbers that a
/// 64-bit float cannot hold come back as they were.
pub async fn odd_texts_are_read_back(h: &Harness) {
    let alice = an_actor();
    let graph = concat!(
        r#"{"1":{"class_type":"A","inputs":{"seed":18446744073709551615,"#,
        r#""small":1e-7,"text":"a \"quoted\" \\ line\nünï 日本 🙂"}}}"#
    );
    let new = NewWorkflow {
        name: name("it's \"quoted\", \\ and 日本 🙂 {},NULL"),
        description: Some(description("")),
        tags: tags(&["{}", "\"", "\\", "NULL", "null", "'", "🙂", "a b"]),
        workflow_json: GraphJson::from_trusted(graph),
        ..a_workflow()
    };

    let created = h.stored(&alice, new.clone()).await;
    let read = h.get(&alice, new.id).await.unwrap();

    assert_eq!(read, created);
    assert_eq!(read.name, new.name);
    assert_eq!(read.description, new.description);
    assert_eq!(read.tags, new.tags);
    let meaning = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let stored = meaning(read.workflow_json.as_str());
    assert_eq!(stored, meaning(graph), "{}", read.workflow_json.as_str());
}

/// An id is given once, also between tenants, and what has it stays as it is.
pub async fn a_taken_id_is_a_conflict(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let first = h.private(&alice).await;
    for actor in [&alice, &bob] {
        let second = NewWorkflow {
            id: first.id,
            name: name("Another"),
            ..a_workflow()
        };

        let outcome = h.workflows.create(actor, second).await;

        assert!(
            matches!(outcome, Err(RepoError::Conflict(Conflict::Id))),
            "{outcome:?}"
        );
    }
    assert_eq!(h.get(&alice, first.id).await, Some(first.clone()));
    assert_eq!(h.get(&bob, first.id).await, None);
}

/// To others a private workflow does not exist.
pub async fn another_tenant_sees_no_private_workflow(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.private(&alice).await;

    assert_eq!(h.get(&bob, workflow.id).await, None);
}

/// Writes of others miss a private workflow.
pub async fn another_tenant_changes_no_private_workflow(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.private(&alice).await;
    for expected in [None, Some(Revision::FIRST), Some(Revision::new(9))] {
        let update = h
            .workflows
            .update(&bob, workflow.id, renamed("Mine"), expected, next_time())
            .await;
        let delete = h.workflows.delete(&bob, workflow.id, expected).await;

        assert_eq!(update.unwrap(), WriteOutcome::NotFound);
        assert_eq!(delete.unwrap(), WriteOutcome::NotFound);
    }
    assert_eq!(h.get(&alice, workflow.id).await, Some(workflow));
}

/// Others read a public workflow; their writes say that it is not theirs.
pub async fn a_public_workflow_is_read_by_others_and_not_changed(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.public(&alice).await;

    let update = h
        .workflows
        .update(&bob, workflow.id, renamed("Mine"), None, next_time())
        .await;
    let delete = h.workflows.delete(&bob, workflow.id, None).await;

    assert_eq!(update.unwrap(), WriteOutcome::NotYours);
    assert_eq!(delete.unwrap(), WriteOutcome::NotYours);
    assert_eq!(h.get(&bob, workflow.id).await, Some(workflow));
}

/// Visibility follows the row: private again is gone for others.
pub async fn a_workflow_that_becomes_private_is_gone_for_others(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.public(&alice).await;
    let change = WorkflowChange {
        is_public: Some(false),
        ..WorkflowChange::default()
    };

    let outcome = h
        .workflows
        .update(&alice, workflow.id, change, None, next_time())
        .await;

    assert!(matches!(outcome.unwrap(), WriteOutcome::Done(_)));
    assert_eq!(h.get(&bob, workflow.id).await, None);
    assert!(h.get(&alice, workflow.id).await.is_some());
}

/// Members that the change names change, others stay; the revision rises by
/// one and the time is the caller's.
pub async fn an_update_changes_what_it_names_and_raises_the_revision(h: &Harness) {
    let alice = an_actor();
    let before = h.private(&alice).await;
    let at = next_time();
    let change = WorkflowChange {
        name: Some(name("New name")),
        description: Some(Some(description("New description"))),
        workflow_json: Some(a_graph_with_lora("a.safetensors")),
        is_public: Some(true),
        tags: Some(tags(&["new"])),
    };

    let renamed = h
        .workflows
        .update(&alice, before.id, renamed("Renamed"), None, at)
        .await;
    let WriteOutcome::Done(renamed) = renamed.unwrap() else {
        panic!("the owner's update did not happen");
    };
    assert_eq!(renamed.name, name("Renamed"));
    assert_eq!(renamed.revision, Revision::new(2));
    assert_eq!(renamed.updated_at, at);
    assert_eq!(renamed.created_at, before.created_at);
    assert_eq!(renamed.workflow_json, before.workflow_json);
    assert_eq!(renamed.tags, before.tags);
    assert_eq!(renamed.is_public, before.is_public);

    let changed = h
        .workflows
        .update(
            &alice,
            before.id,
            change.clone(),
            Some(renamed.revision),
            next_time(),
        )
        .await;
    let WriteOutcome::Done(changed) = changed.unwrap() else {
        panic!("the owner's update did not happen");
    };
    assert_eq!(Some(changed.name.clone()), change.name);
    assert_eq!(Some(changed.description.clone()), change.description);
    assert_eq!(Some(changed.workflow_json.clone()), change.workflow_json);
    assert_eq!(Some(changed.is_public), change.is_public);
    assert_eq!(Some(changed.tags.clone()), change.tags);
    assert_eq!(changed.revision, Revision::new(3));
    assert_eq!(h.get(&alice, before.id).await, Some(changed));
}

/// A change of nothing is a change.
pub async fn an_empty_update_raises_the_revision_too(h: &Harness) {
    let alice = an_actor();
    let before = h.private(&alice).await;

    let outcome = h
        .workflows
        .update(
            &alice,
            before.id,
            WorkflowChange::default(),
            None,
            next_time(),
        )
        .await;

    let WriteOutcome::Done(after) = outcome.unwrap() else {
        panic!("the owner's update did not happen");
    };
    assert_eq!(after.revision, Revision::new(2));
    assert_eq!(after.name, before.name);
}

/// `Some(None)` takes the description away, `None` leaves it.
pub async fn a_description_is_taken_away(h: &Harness) {
    let alice = an_actor();
    let new = NewWorkflow {
        description: Some(description("here")),
        ..a_workflow()
    };
    let workflow = h.stored(&alice, new).await;
    let without = WorkflowChange {
        description: Some(None),
        ..WorkflowChange::default()
    };

    for (change, expected) in [(renamed("x"), Some(description("here"))), (without, None)] {
        let outcome = h
            .workflows
            .update(&alice, workflow.id, change, None, next_time())
            .await;
        assert!(matches!(outcome.unwrap(), WriteOutcome::Done(_)));
        let read = h.get(&alice, workflow.id).await.unwrap();
        assert_eq!(read.description, expected);
    }
}

/// With another revision than the row's, nothing changes and the row comes
/// back.
pub async fn a_stale_update_changes_nothing(h: &Harness) {
    let alice = an_actor();
    let workflow = h.private(&alice).await;
    for wrong in [Revision::new(0), Revision::new(2), Revision::new(i64::MAX)] {
        let outcome = h
            .workflows
            .update(&alice, workflow.id, renamed("x"), Some(wrong), next_time())
            .await;

        assert_eq!(outcome.unwrap(), WriteOutcome::Stale(workflow.clone()));
    }
    assert_eq!(h.get(&alice, workflow.id).await, Some(workflow));
}

/// Eight writers with the same revision: one writes, seven are told.
pub async fn of_two_updates_of_one_revision_one_wins(h: &Harness) {
    let alice = an_actor();
    let workflow = h.private(&alice).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (repo, alice) = (std::sync::Arc::clone(&h.workflows), alice.clone());
        let change = renamed(&format!("writer {writer}"));
        writers.spawn(async move {
            let expected = Some(Revision::FIRST);
            repo.update(&alice, workflow.id, change, expected, next_time())
                .await
                .unwrap()
        });
    }

    let outcomes = writers.join_all().await;

    let winners: Vec<Name> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            WriteOutcome::Done(row) => Some(row.name.clone()),
            WriteOutcome::Stale(_) => None,
            other => panic!("{other:?}"),
        })
        .collect();
    let read = h.get(&alice, workflow.id).await.unwrap();
    assert_eq!(winners, [read.name]);
    assert_eq!(read.revision, Revision::new(2));
}

/// A deleted workflow is gone, also from lists, and its id stays unused.
pub async fn a_delete_takes_the_workflow_away(h: &Harness) {
    let alice = an_actor();
    let workflow = h.public(&alice).await;

    let deleted = h
        .workflows
        .delete(&alice, workflow.id, Some(workflow.revision))
        .await;

    assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));
    assert_eq!(h.get(&alice, workflow.id).await, None);
    let again = h.workflows.delete(&alice, workflow.id, None).await;
    assert_eq!(again.unwrap(), WriteOutcome::NotFound);
}

/// With another revision than the row's, the row stays.
pub async fn a_stale_delete_deletes_nothing(h: &Harness) {
    let alice = an_actor();
    let workflow = h.private(&alice).await;

    let outcome = h
        .workflows
        .delete(&alice, workflow.id, Some(Revision::new(2)))
        .await;

    assert_eq!(outcome.unwrap(), WriteOutcome::Stale(()));
    assert_eq!(h.get(&alice, workflow.id).await, Some(workflow));
}

/// The runs of a deleted workflow stay, without it; those of others too.
pub async fn a_deleted_workflow_leaves_its_runs(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.public(&alice).await;
    let mut runs = Vec::new();
    for actor in [&alice, &bob] {
        let run = crate::enqueue(&*h.runs, actor, a_new_run(workflow.id)).await;
        assert_eq!(run.workflow_id, Some(workflow.id));
        runs.push((actor, run.id));
    }

    let deleted = h.workflows.delete(&alice, workflow.id, None).await;

    assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));
    for (actor, id) in runs {
        let run = h.runs.get(actor, id).await.unwrap().unwrap();
        assert_eq!(run.workflow_id, None);
    }
}

/// Ids that nobody has are absent, not errors.
pub async fn what_is_absent_is_not_found(h: &Harness) {
    let alice = an_actor();
    let id = WorkflowId::new(random_id());

    let update = h
        .workflows
        .update(&alice, id, renamed("x"), None, next_time())
        .await;
    let delete = h.workflows.delete(&alice, id, Some(Revision::FIRST)).await;

    assert_eq!(h.get(&alice, id).await, None);
    assert_eq!(update.unwrap(), WriteOutcome::NotFound);
    assert_eq!(delete.unwrap(), WriteOutcome::NotFound);
}

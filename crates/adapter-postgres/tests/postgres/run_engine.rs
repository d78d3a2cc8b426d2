//! What the suites cannot reach of the queue: other transactions, and the passing of time.

use std::time::Duration;

use atelier_domain::idempotency::EarlierRequest;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{
    BackendReport, ClaimOutcome, ClaimRequest, EnqueueOutcome, EnqueueTerms, PreviewFormat,
    PreviewImage, RunPreviews, RunQueue, RunRepo, WorkflowRepo,
};
use atelier_domain::run::NewRun;
use atelier_postgres::{PgOptions, PgStore};
use atelier_testkit::build::{
    a_claim, a_new_run, a_request_under, a_workflow, an_actor, an_answer, terms,
};
use atelier_testkit::{PATIENCE, enqueue, random_id, wait_until};
use futures_util::StreamExt;

use crate::support::{Database, Kind, io, scalar};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_key_another_transaction_holds_is_under_way() {
    let database = Database::new(Kind::Bare).await;
    let runs = database.store().runs();
    let alice = an_actor();
    let workflow = database.store().workflows();
    let workflow = workflow.create(&alice, a_workflow()).await.unwrap();
    let request = a_request_under("key", "body");
    let other = database.admin().await;
    other
        .batch_execute(&format!(
            "begin; select pg_advisory_xact_lock(atelier.idempotency_lock('{}', '{}', '{}', 'key'))",
            alice.user_id(),
            request.method,
            request.path
        ))
        .await
        .unwrap();
    let once = || EnqueueTerms {
        idempotency: Some((request.clone(), an_answer("mine"))),
        ..terms()
    };
    let underway = EarlierRequest::Underway;

    let earlier = runs.earlier_request(&alice, &request).await.unwrap();
    assert_eq!(earlier, Some(underway.clone()));
    let outcome = runs.enqueue(&alice, a_new_run(workflow.id), once()).await;
    assert_eq!(outcome.unwrap(), EnqueueOutcome::Earlier(underway));
    let bob = runs.earlier_request(&an_actor(), &request).await.unwrap();
    assert_eq!(bob, None, "somebody else's key is another one");

    other.batch_execute("rollback").await.unwrap();
    let outcome = runs.enqueue(&alice, a_new_run(workflow.id), once()).await;
    let outcome = outcome.unwrap();
    assert!(
        matches!(outcome, EnqueueOutcome::Enqueued(_)),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_nobody_speaks_of_any_more_is_not_waited_for() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store();
    let queue = store.queue();
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    let tell = async |backend: &str| {
        let report = BackendReport {
            backend: backend.to_owned(),
            worker: "w".to_owned(),
            answers: true,
            max_in_flight: 1,
            foreign_prompts: 0,
            checkpoint: Some("a".to_owned()),
        };
        queue.tell_backend(report).await.unwrap();
    };
    tell("better").await;
    let new = NewRun {
        checkpoint: Some("a".to_owned()),
        ..a_new_run(workflow.id)
    };
    enqueue(&store.runs(), &alice, new).await;
    let claim = async || {
        let request = ClaimRequest {
            affinity: Duration::from_hours(1),
            ..a_claim("worse")
        };
        queue.claim(request).await.unwrap()
    };
    let outcome = claim().await;
    assert!(matches!(outcome, ClaimOutcome::Deferred(_)), "{outcome:?}");

    let age = "update public.comfyui_backends set told_at = told_at - interval";
    admin
        .batch_execute(&format!("{age} '20 seconds'"))
        .await
        .unwrap();
    let outcome = claim().await;

    assert!(matches!(outcome, ClaimOutcome::Claimed(_)), "{outcome:?}");
    // Long gone ones are swept away by whoever speaks next.
    admin
        .batch_execute(&format!("{age} '2 hours'"))
        .await
        .unwrap();
    tell("another").await;
    let left = scalar(
        &admin,
        "select string_agg(name, ',') from public.comfyui_backends",
    )
    .await;
    assert_eq!(left.as_deref(), Some("another"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_checkpoint_can_have_loses_no_run() {
    let database = Database::new(Kind::Bare).await;
    let store = database.store();
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    for name in ["x".repeat(1_001), "a\0b".to_owned()] {
        let new = NewRun {
            checkpoint: Some(name),
            ..a_new_run(workflow.id)
        };
        let run = enqueue(&store.runs(), &alice, new).await;

        let blueprint = store.runs().blueprint(&alice, run.id).await.unwrap();

        assert_eq!(blueprint.unwrap().checkpoint, None);
    }
}

/// A worker asks what nobody can give: it must not make the database busy meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_backend_is_told_so_at_once() {
    let database = Database::new(Kind::Bare).await;
    let store = database.store();
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    for _ in 0..2 {
        enqueue(&store.runs(), &alice, a_new_run(workflow.id)).await;
    }
    let full = || ClaimRequest {
        max_in_flight: 1,
        ..a_claim("backend")
    };
    let first = store.queue().claim(full()).await.unwrap();
    assert!(matches!(first, ClaimOutcome::Claimed(_)));
    let begun = tokio::time::Instant::now();

    let second = store.queue().claim(full()).await.unwrap();

    assert_eq!(second, ClaimOutcome::Nothing);
    // It would go on trying for two seconds.
    assert!(begun.elapsed() < Duration::from_millis(1_500));
}

/// Likewise if what waits is of people who have enough under way.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_enough_under_way_keeps_no_worker_trying() {
    let database = Database::new(Kind::Bare).await;
    let store = database.store();
    for alice in [an_actor(), an_actor()] {
        let workflow = store
            .workflows()
            .create(&alice, a_workflow())
            .await
            .unwrap();
        for _ in 0..2 {
            enqueue(&store.runs(), &alice, a_new_run(workflow.id)).await;
        }
    }
    let one_each = || ClaimRequest {
        max_running: Some(1),
        ..a_claim("backend")
    };
    for _ in 0..2 {
        let claimed = store.queue().claim(one_each()).await.unwrap();
        assert!(matches!(claimed, ClaimOutcome::Claimed(_)));
    }
    let begun = tokio::time::Instant::now();

    let third = store.queue().claim(one_each()).await.unwrap();

    assert_eq!(third, ClaimOutcome::Nothing);
    // It would go on trying for two seconds.
    assert!(begun.elapsed() < Duration::from_millis(1_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_none_loses_no_run() {
    let database = Database::new(Kind::Bare).await;
    let store = database.store();
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    for text in ["x".repeat(101), "a\0b".to_owned()] {
        let new = NewRun {
            trace_parent: Some(text),
            ..a_new_run(workflow.id)
        };
        let run = enqueue(&store.runs(), &alice, new).await;

        let claimed = atelier_testkit::claim(&store.queue(), a_claim("backend")).await;

        let claimed = claimed.unwrap();
        assert_eq!((claimed.run_id, claimed.trace_parent), (run.id, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_on_the_channels_of_previews_is_ignored() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let (watching, working) = (database.store().previews(), database.store().previews());
    let run = RunId::new(random_id());
    let mut stream = watching.watch(run);
    wait_until("the wish is known", PATIENCE, async || {
        working.is_wanted(run)
    })
    .await;
    admin
        .batch_execute(&format!(
            "select pg_notify(channel, payload)
             from unnest(array['atelier_previews', 'atelier_preview_wishes', 'atelier_runs']) as channel,
               unnest(array['', 'x', '{run}', '1 {run}', '1 1 {run} 0 2 image/jpeg AAAA',
                 '1 1 {run} 0 1 image/jpeg ?', '1 1 {run} 0 1 text/html AAAA']) as payload"
        ))
        .await
        .unwrap();
    let image = PreviewImage {
        content_type: PreviewFormat::Png,
        bytes: vec![1; 30_000].into(),
    };

    working.publish(run, image.clone()).await.unwrap();

    let first = tokio::time::timeout(PATIENCE, stream.next()).await;
    assert_eq!(first, Ok(Some(image)));
}

/// There is none at this address.
#[tokio::test(flavor = "multi_thread")]
async fn within_one_process_previews_need_no_database() {
    let options = PgOptions::new("postgres://nobody@127.0.0.1:1/nothing");
    let previews = PgStore::connect(&options, io()).unwrap().previews();
    let run = RunId::new(random_id());
    let mut stream = previews.watch(run);
    let image = PreviewImage {
        content_type: PreviewFormat::Jpeg,
        bytes: vec![1; 10].into(),
    };

    previews.publish(run, image.clone()).await.unwrap();

    let first = tokio::time::timeout(PATIENCE, stream.next()).await;
    assert_eq!(first, Ok(Some(image)));
}

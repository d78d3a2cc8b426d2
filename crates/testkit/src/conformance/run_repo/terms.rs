use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest, StoredAnswer};
use atelier_domain::ids::{InputId, LoraId, RunId};
use atelier_domain::ports::{Conflict, EnqueueOutcome, EnqueueTerms, RepoError};
use atelier_domain::run::{NewRun, RunBlueprint, RunFilter, RunPriority, RunStatus};
use tokio::task::JoinSet;

use super::{Harness, without_position};
use crate::build::{a_new_run, a_request_under, an_actor, an_answer, terms};
use crate::random_id;

impl Harness {
    async fn new_run(&self, owner: &Actor) -> NewRun {
        a_new_run(self.workflow_of(owner).await)
    }

    async fn runs_of(&self, owner: &Actor) -> usize {
        self.listed(owner, RunFilter::default(), 50).await.len()
    }
}

fn at_most(max_pending: u32) -> EnqueueTerms {
    EnqueueTerms {
        max_pending,
        ..terms()
    }
}

fn once(request: IdempotentRequest, answer: StoredAnswer) -> EnqueueTerms {
    EnqueueTerms {
        idempotency: Some((request, answer)),
        ..terms()
    }
}

fn is_enqueued(outcome: &EnqueueOutcome) -> bool {
    matches!(outcome, EnqueueOutcome::Enqueued(_))
}

/// Its place, as long as it waits; and the more urgent the nearer.
pub async fn a_waiting_run_knows_its_place(h: &Harness) {
    let alice = an_actor();
    let place = async |id| {
        let run = h.runs.get(&alice, id).await.unwrap().unwrap();
        run.queue_position
    };
    let later = h.new_run(&alice).await;
    let later = crate::enqueue(&*h.runs, &alice, later).await.id;
    let urgent = NewRun {
        priority: RunPriority::HIGHEST,
        ..h.new_run(&alice).await
    };
    let urgent = crate::enqueue(&*h.runs, &alice, urgent).await.id;

    assert!(place(urgent).await < place(later).await);
    h.cancelled(&alice, later).await;
    assert_eq!(place(later).await, None);
    assert!(place(urgent).await.is_some());
}

/// What a run was asked for with is read back.
pub async fn a_run_keeps_its_priority_timeout_and_what_it_repeats(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let first = h.new_run(&alice).await;
    let first = crate::enqueue(&*h.runs, &alice, first).await.id;
    let again = NewRun {
        workflow_id: None,
        priority: RunPriority::LOWEST,
        timeout_s: 86_400,
        retry_of: Some(first),
        ..h.new_run(&alice).await
    };

    let run = crate::enqueue(&*h.runs, &alice, again.clone()).await;

    assert_eq!(run.priority, RunPriority::LOWEST);
    assert_eq!(run.timeout_s, 86_400);
    assert_eq!(run.retry_of, Some(first));
    assert_eq!(run.workflow_id, None);
    let read = h.runs.get(&alice, run.id).await.unwrap().unwrap();
    assert_eq!(without_position(read), run);
    // What is not there, or somebody else's, is not repeated.
    for absent in [first, RunId::new(random_id())] {
        let new = NewRun {
            retry_of: Some(absent),
            ..h.new_run(&bob).await
        };
        let run = crate::enqueue(&*h.runs, &bob, new).await;
        assert_eq!(run.retry_of, None);
        let read = h.runs.get(&bob, run.id).await.unwrap().unwrap();
        assert_eq!(read.retry_of, None);
    }
}

/// Everything that is needed to do it again, for its owner alone.
pub async fn a_blueprint_holds_what_a_run_needs(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let new = NewRun {
        lora_ids: vec![LoraId::new(random_id()), LoraId::new(random_id())],
        input_ids: vec![InputId::new(random_id()), InputId::new(random_id())],
        checkpoint: Some("sd.safetensors".to_owned()),
        priority: RunPriority::HIGHEST,
        timeout_s: 60,
        ..h.new_run(&alice).await
    };
    crate::enqueue(&*h.runs, &alice, new.clone()).await;
    h.cancelled(&alice, new.id).await;

    let blueprint = h.runs.blueprint(&alice, new.id).await.unwrap();

    let expected = RunBlueprint {
        status: RunStatus::Cancelled,
        workflow_id: new.workflow_id,
        input_params: new.input_params,
        graph: new.graph,
        nodes_total: new.nodes_total,
        lora_ids: new.lora_ids,
        input_ids: new.input_ids,
        checkpoint: new.checkpoint,
        priority: new.priority,
        timeout_s: new.timeout_s,
    };
    assert_eq!(blueprint, Some(expected));
    assert_eq!(h.runs.blueprint(&bob, new.id).await.unwrap(), None);
    let absent = RunId::new(random_id());
    assert_eq!(h.runs.blueprint(&alice, absent).await.unwrap(), None);
}

/// The cap counts the person's own waiting runs, and nothing of a refused one
/// is left.
pub async fn nobody_has_more_runs_waiting_than_allowed(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let mut ids = Vec::new();
    for _ in 0..2 {
        let new = h.new_run(&alice).await;
        ids.push(new.id);
        let outcome = h.runs.enqueue(&alice, new, at_most(2)).await.unwrap();
        assert!(is_enqueued(&outcome), "{outcome:?}");
    }
    let refused = h.new_run(&alice).await;

    let outcome = h.runs.enqueue(&alice, refused.clone(), at_most(2)).await;

    assert_eq!(outcome.unwrap(), EnqueueOutcome::TooManyPending);
    assert_eq!(h.runs.get(&alice, refused.id).await.unwrap(), None);
    assert_eq!(h.runs_of(&alice).await, 2);
    let of_bob = h.new_run(&bob).await;
    let outcome = h.runs.enqueue(&bob, of_bob, at_most(1)).await.unwrap();
    assert!(is_enqueued(&outcome), "{outcome:?}");
    h.cancelled(&alice, ids.pop().unwrap()).await;
    let outcome = h.runs.enqueue(&alice, refused, at_most(2)).await.unwrap();
    assert!(is_enqueued(&outcome), "{outcome:?}");
}

/// Twelve at once where five may wait: of somebody new, too.
pub async fn the_cap_holds_for_many_requests_at_once(h: &Harness) {
    let owner = an_actor();
    let workflow = h.workflow_of(&owner).await;
    for person in [owner, an_actor()] {
        let mut callers = JoinSet::new();
        for _ in 0..12 {
            let (runs, person) = (Arc::clone(&h.runs), person.clone());
            callers.spawn(async move {
                let outcome = runs.enqueue(&person, a_new_run(workflow), at_most(5)).await;
                is_enqueued(&outcome.unwrap())
            });
        }

        let enqueued = callers.join_all().await;

        assert_eq!(enqueued.iter().filter(|enqueued| **enqueued).count(), 5);
        assert_eq!(h.runs_of(&person).await, 5);
    }
}

/// The second time it is answered as it was, byte for byte, and nothing runs.
pub async fn a_request_is_carried_out_once(h: &Harness) {
    let alice = an_actor();
    let request = a_request_under("\"a key, with \u{22}quotes\"".trim_matches('"'), "body");
    let answer = StoredAnswer {
        status: 202,
        location: None,
        body: "{ \"a\" :\t1.50, \"ü\\u0000\": null }\n".to_owned(),
    };
    let earlier = h.runs.earlier_request(&alice, &request).await.unwrap();
    assert_eq!(earlier, None);
    let first = h.new_run(&alice).await;
    let outcome = h
        .runs
        .enqueue(&alice, first.clone(), once(request.clone(), answer.clone()))
        .await;
    assert!(is_enqueued(&outcome.unwrap()));
    let answered = EarlierRequest::Answered(answer);

    let earlier = h.runs.earlier_request(&alice, &request).await.unwrap();
    let second = h.new_run(&alice).await;
    let again = h
        .runs
        .enqueue(&alice, second.clone(), once(request, an_answer("another")))
        .await;

    assert_eq!(earlier.as_ref(), Some(&answered));
    assert_eq!(again.unwrap(), EnqueueOutcome::Earlier(answered));
    assert_eq!(h.runs_of(&alice).await, 1);
    assert_eq!(h.runs.get(&alice, second.id).await.unwrap(), None);
}

/// The same key for something else is a mistake.
pub async fn another_body_under_the_same_key_is_different(h: &Harness) {
    let alice = an_actor();
    let first = once(a_request_under("key", "body"), an_answer("first"));
    let new = h.new_run(&alice).await;
    h.runs.enqueue(&alice, new, first).await.unwrap();
    let request = a_request_under("key", "another body");

    let earlier = h.runs.earlier_request(&alice, &request).await.unwrap();
    let new = h.new_run(&alice).await;
    let second = h
        .runs
        .enqueue(&alice, new, once(request, an_answer("second")))
        .await;

    assert_eq!(earlier, Some(EarlierRequest::Different));
    let different = EnqueueOutcome::Earlier(EarlierRequest::Different);
    assert_eq!(second.unwrap(), different);
    assert_eq!(h.runs_of(&alice).await, 1);
}

/// The same key of somebody else, of another method or path is another one.
pub async fn keys_count_within_person_method_and_path(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let request = a_request_under("key", "body");
    let elsewhere = [
        (&bob, request.clone()),
        (
            &alice,
            IdempotentRequest {
                method: "PUT".to_owned(),
                ..request.clone()
            },
        ),
        (
            &alice,
            IdempotentRequest {
                path: "/workflows/2/run".to_owned(),
                ..request.clone()
            },
        ),
        (&alice, a_request_under("Key", "body")),
    ];
    let new = h.new_run(&alice).await;
    let terms = once(request, an_answer("first"));
    h.runs.enqueue(&alice, new, terms).await.unwrap();

    for (actor, request) in elsewhere {
        let earlier = h.runs.earlier_request(actor, &request).await.unwrap();
        assert_eq!(earlier, None, "{request:?}");
        let new = h.new_run(actor).await;
        let terms = once(request, an_answer("another"));
        let outcome = h.runs.enqueue(actor, new, terms).await.unwrap();
        assert!(is_enqueued(&outcome), "{outcome:?}");
    }
}

/// After that the same request is a new one, whatever its body.
pub async fn answers_are_forgotten_after_a_day(h: &Harness) {
    let alice = an_actor();
    for body in ["body", "body", "another body"] {
        let request = a_request_under("key", body);
        let earlier = h.runs.earlier_request(&alice, &request).await.unwrap();
        assert_eq!(earlier, None);
        let new = h.new_run(&alice).await;
        let terms = once(request.clone(), an_answer(body));
        let outcome = h.runs.enqueue(&alice, new, terms).await.unwrap();
        assert!(is_enqueued(&outcome), "{outcome:?}");
        let earlier = h.runs.earlier_request(&alice, &request).await.unwrap();
        assert_eq!(earlier, Some(EarlierRequest::Answered(an_answer(body))));
        (h.age_answers)(alice.user_id()).await;
    }
}

/// What was not carried out may be tried again.
pub async fn a_refused_request_leaves_no_answer(h: &Harness) {
    let alice = an_actor();
    let request = a_request_under("key", "body");
    let new = h.new_run(&alice).await;
    let full = EnqueueTerms {
        max_pending: 0,
        ..once(request.clone(), an_answer("full"))
    };
    let outcome = h.runs.enqueue(&alice, new.clone(), full).await;
    assert_eq!(outcome.unwrap(), EnqueueOutcome::TooManyPending);
    crate::enqueue(&*h.runs, &alice, new.clone()).await;
    let taken = once(request.clone(), an_answer("taken"));
    let outcome = h.runs.enqueue(&alice, new, taken).await;
    assert!(matches!(outcome, Err(RepoError::Conflict(Conflict::Id))));

    let earlier = h.runs.earlier_request(&alice, &request).await.unwrap();

    assert_eq!(earlier, None);
    let new = h.new_run(&alice).await;
    let terms = once(request, an_answer("done"));
    let outcome = h.runs.enqueue(&alice, new, terms).await.unwrap();
    assert!(is_enqueued(&outcome), "{outcome:?}");
}

/// Of ten at once one is carried out; the others get its answer, or hear that
/// it is under way.
pub async fn requests_at_once_are_carried_out_once(h: &Harness) {
    let alice = an_actor();
    let workflow = h.workflow_of(&alice).await;
    for key in ["1", "2", "3"] {
        let mut callers = JoinSet::new();
        for _ in 0..10 {
            let (runs, alice) = (Arc::clone(&h.runs), alice.clone());
            callers.spawn(async move {
                let request = a_request_under(key, "body");
                let terms = once(request, an_answer(key));
                let outcome = runs.enqueue(&alice, a_new_run(workflow), terms).await;
                outcome.unwrap()
            });
        }

        let mut carried_out = 0;
        for outcome in callers.join_all().await {
            match outcome {
                EnqueueOutcome::Enqueued(_) => carried_out += 1,
                EnqueueOutcome::Earlier(EarlierRequest::Underway) => {}
                EnqueueOutcome::Earlier(EarlierRequest::Answered(answer)) => {
                    assert_eq!(answer, an_answer(key));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(carried_out, 1);
    }
    assert_eq!(h.runs_of(&alice).await, 3);
}

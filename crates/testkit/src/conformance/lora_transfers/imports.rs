use std::sync::Arc;

use atelier_domain::digest::Sha256Digest;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest, StoredAnswer};
use atelier_domain::lora::{LoraFilter, LoraSource, LoraStatus, NewLora};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{
    Conflict, ImportOutcome, ImportTerms, NewImport, RemoteFile, RepoError, RunTopic, TransferWork,
};
use futures_util::StreamExt as _;

use super::{Harness, a_failure};
use crate::build::{
    a_new_lora, a_remote_file, a_replacement, a_request_under, an_actor, an_answer, an_import,
    import_terms, received,
};
use crate::{PATIENCE, random_id};

fn once(request: IdempotentRequest, answer: StoredAnswer) -> ImportTerms {
    ImportTerms {
        idempotency: Some((request, answer)),
        ..import_terms()
    }
}

fn at_most(max_unfinished: u32) -> ImportTerms {
    ImportTerms {
        max_unfinished,
        ..import_terms()
    }
}

/// What a worker gets is what was asked for, whatever the file is called.
pub async fn a_begun_import_is_claimed_with_its_file(h: &Harness) {
    let alice = an_actor();
    let full = RemoteFile {
        source: LoraSource::Url {
            url: "https://example.org/a b?x=%00&y='#z".to_owned(),
        },
        resource_key: Some("0-AbC".to_owned()),
        name: Some("ün\"ï\\ 'a' \u{0} \u{202e}.safetensors".to_owned()),
        size_bytes: Some(5_000_000_000),
        revision: Some("0B-7".to_owned()),
        md5: Some("0123456789abcdef".repeat(2)),
        sha256: Some(Sha256Digest::new([9; 32])),
    };
    for (count, file) in [full, a_remote_file()].into_iter().enumerate() {
        let new = NewImport {
            lora: NewLora {
                source: file.source.clone(),
                bytes_total: file.size_bytes,
                ..a_new_lora(&format!("{count}.safetensors"))
            },
            file: file.clone(),
            held: None,
        };

        let lora = h.begun(&alice, new.clone()).await;

        assert_eq!(lora.id, new.lora.id);
        assert_eq!(lora.status, LoraStatus::Importing);
        assert_eq!(lora.source, file.source);
        assert_eq!(h.get(&alice, lora.id).await.as_ref(), Some(&lora));
        let claimed = h.next().await;
        assert_eq!(claimed.lora, lora);
        assert_eq!(claimed.work, TransferWork::Remote(file));
        assert_eq!(claimed.attempt, 1);
    }
}

/// No transfer, no claim; reserved uploads are none.
pub async fn where_nothing_waits_nothing_is_claimed(h: &Harness) {
    let alice = an_actor();
    assert!(h.nothing_waits().await);
    let new = a_new_lora("a.safetensors");
    h.loras.reserve(&alice, new).await.unwrap();
    assert!(h.nothing_waits().await);
}

/// Nothing of it is written, not even its answer.
pub async fn an_import_of_a_taken_filename_is_a_conflict(h: &Harness) {
    let alice = an_actor();
    let request = a_request_under("key", "{}");
    h.begun_as(&alice, "a.safetensors").await;
    h.next().await;

    let terms = once(request.clone(), an_answer("1"));
    let outcome = h
        .transfers
        .begin(&alice, an_import("a.safetensors"), terms)
        .await;

    assert!(
        matches!(outcome, Err(RepoError::Conflict(Conflict::LoraFilename))),
        "{outcome:?}"
    );
    assert!(h.nothing_waits().await);
    let earlier = h.transfers.earlier_request(&alice, &request).await;
    assert_eq!(earlier.unwrap(), None);
}

/// The one that it replaces goes on until the bytes are there.
pub async fn an_import_may_replace(h: &Harness) {
    let alice = an_actor();
    let first = h.begun_as(&alice, "a.safetensors").await;
    let claimed = h.next().await;
    let done = h
        .transfers
        .complete(first.id, claimed.token, received(b"1"))
        .await;
    assert!(done.unwrap().is_some());
    let file = a_remote_file();
    let new = NewImport {
        lora: NewLora {
            source: file.source.clone(),
            ..a_replacement("a.safetensors")
        },
        file,
        held: None,
    };
    let second = h.begun(&alice, new).await;
    let current = h.get(&alice, first.id).await.unwrap();
    assert_eq!(current.superseded_at, None);

    let claimed = h.next().await;
    let done = h
        .transfers
        .complete(second.id, claimed.token, received(b"2"))
        .await;

    let content = done.unwrap().unwrap().content.unwrap();
    assert_eq!(content.version.number(), 2);
    let earlier = h.get(&alice, first.id).await.unwrap();
    assert!(earlier.superseded_at.is_some());
}

/// The same request again gets its answer; another body is told apart, and so
/// is another person.
pub async fn an_import_is_begun_once_for_one_request(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let request = a_request_under("key", "{}");
    let answer = an_answer("the first one");
    let terms = once(request.clone(), answer.clone());
    let begun = h
        .transfers
        .begin(&alice, an_import("a.safetensors"), terms)
        .await;
    assert!(matches!(begun.unwrap(), ImportOutcome::Begun(_)));
    for (request, expected) in [
        (request.clone(), EarlierRequest::Answered(answer)),
        (a_request_under("key", "{ }"), EarlierRequest::Different),
    ] {
        let earlier = h.transfers.earlier_request(&alice, &request).await;
        assert_eq!(earlier.unwrap(), Some(expected.clone()));
        let terms = once(request, an_answer("the second one"));
        let again = h
            .transfers
            .begin(&alice, an_import("b.safetensors"), terms)
            .await;
        assert_eq!(again.unwrap(), ImportOutcome::Earlier(expected));
    }
    let earlier = h.transfers.earlier_request(&bob, &request).await;
    assert_eq!(earlier.unwrap(), None);
    h.next().await;
    assert!(h.nothing_waits().await, "one was begun");
}

/// Eight equal requests at once: one import.
pub async fn of_equal_imports_at_once_one_is_begun(h: &Harness) {
    let alice = an_actor();
    let mut callers = tokio::task::JoinSet::new();
    for count in 0..8 {
        let (transfers, alice) = (Arc::clone(&h.transfers), alice.clone());
        let terms = once(a_request_under("key", "{}"), an_answer("1"));
        let new = an_import(&format!("{count}.safetensors"));
        callers.spawn(async move { transfers.begin(&alice, new, terms).await.unwrap() });
    }

    let outcomes = callers.join_all().await;

    let begun = |outcome: &&ImportOutcome| matches!(outcome, ImportOutcome::Begun(_));
    assert_eq!(outcomes.iter().filter(begun).count(), 1, "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| !begun(outcome)) {
        assert!(
            matches!(
                outcome,
                ImportOutcome::Earlier(EarlierRequest::Underway | EarlierRequest::Answered(_))
            ),
            "{outcome:?}"
        );
    }
    h.next().await;
    assert!(h.nothing_waits().await);
}

/// A request that comes again after the answer's time is a new one.
pub async fn an_old_answer_is_not_given_again(h: &Harness) {
    let alice = an_actor();
    let request = a_request_under("key", "{}");
    for filename in ["a.safetensors", "b.safetensors"] {
        let terms = once(request.clone(), an_answer(filename));

        let outcome = h.transfers.begin(&alice, an_import(filename), terms).await;

        assert!(matches!(outcome.unwrap(), ImportOutcome::Begun(_)));
        let earlier = h.transfers.earlier_request(&alice, &request).await;
        let expected = EarlierRequest::Answered(an_answer(filename));
        assert_eq!(earlier.unwrap(), Some(expected));
        (h.age_answers)(alice.user_id()).await;
    }
}

/// Everybody has so many; those that are over or deleted do not count.
pub async fn people_have_so_many_unfinished_imports_and_no_more(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let mut count = 0;
    let mut begin = async |owner| {
        count += 1;
        let new = an_import(&format!("{count}.safetensors"));
        match h.transfers.begin(owner, new, at_most(2)).await.unwrap() {
            ImportOutcome::Begun(lora) => Some(lora.id),
            ImportOutcome::TooMany => None,
            ImportOutcome::Earlier(earlier) => panic!("{earlier:?}"),
        }
    };
    assert!(begin(&alice).await.is_some());
    let second = begin(&alice).await.unwrap();
    assert_eq!(begin(&alice).await, None);
    assert!(begin(&bob).await.is_some());

    let first = h.next().await;
    assert_eq!(begin(&alice).await, None, "it is under way");
    let failed = h.transfers.fail(first.lora.id, first.token, a_failure());
    failed.await.unwrap();
    assert!(begin(&alice).await.is_some());
    assert_eq!(begin(&alice).await, None);
    h.deleted(&alice, second).await;
    assert!(begin(&alice).await.is_some());

    let listed = h
        .loras
        .list(&alice, LoraFilter::default(), PageRequest::default());
    assert_eq!(listed.await.unwrap().items.len(), 3);
}

/// Nobody gets past the limit by asking often enough at once.
pub async fn of_many_imports_at_once_no_more_are_begun_than_allowed(h: &Harness) {
    let alice = an_actor();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (transfers, alice) = (Arc::clone(&h.transfers), alice.clone());
        let new = an_import(&format!("{}.safetensors", random_id()));
        callers.spawn(async move { transfers.begin(&alice, new, at_most(3)).await.unwrap() });
    }

    let outcomes = callers.join_all().await;

    let begun = |outcome: &&ImportOutcome| matches!(outcome, ImportOutcome::Begun(_));
    assert_eq!(outcomes.iter().filter(begun).count(), 3, "{outcomes:?}");
}

/// Whoever waits for runs hears of imports as well.
pub async fn a_new_import_wakes_the_workers(h: &Harness) {
    let mut stream = h.signals.watch(RunTopic::Queue);

    h.begun_as(&an_actor(), "a.safetensors").await;

    let item = tokio::time::timeout(PATIENCE, stream.next()).await;
    assert_eq!(item, Ok(Some(())), "an import wakes nobody");
}

/// However long no worker comes: its time begins when one does.
pub async fn an_import_that_waits_for_a_worker_is_not_abandoned(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    (h.abandon_reservation)(lora.id).await;

    assert!(!h.is_due(lora.id).await);
    let again = h.loras.reserve(&alice, a_new_lora("a.safetensors")).await;
    assert!(
        matches!(again, Err(RepoError::Conflict(Conflict::LoraFilename))),
        "{again:?}"
    );
    assert_eq!(h.next().await.lora.id, lora.id);
}

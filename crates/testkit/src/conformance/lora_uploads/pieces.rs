use std::sync::Arc;

use atelier_domain::ids::LoraId;
use atelier_domain::lora::{LoraStatus, NewLora};
use atelier_domain::ports::{
    AppendOutcome, Conflict, FinishedUpload, RepoError, ResumableUpload, RunTopic, TransferWork,
};
use futures_util::StreamExt as _;

use super::{Harness, MAX_PIECES, far_off, keys_of, of_length};
use crate::build::{a_new_lora, a_piece, a_replacement, a_transfer_claim, an_actor, received};
use crate::{PATIENCE, random_id};

/// As it was created, for its owner alone.
pub async fn a_created_upload_is_read_back(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let new = of_length("a.safetensors", 5_000_000_000);
    let metadata = "filename YS5zYWZldGVuc29ycw==,name w5xuxK8=".to_owned();
    let expires_at = far_off();

    let created = h
        .uploads
        .create(&alice, new.clone(), metadata.clone(), expires_at);

    let created = created.await.unwrap();
    let expected = ResumableUpload {
        lora_id: new.id,
        length: 5_000_000_000,
        offset: 0,
        metadata,
        expires_at,
        status: LoraStatus::Uploading,
    };
    assert_eq!(created, expected);
    assert_eq!(h.get(&alice, new.id).await, Some(expected));
    assert_eq!(h.get(&bob, new.id).await, None);
    let lora = h.lora(&alice, new.id).await.unwrap();
    assert_eq!(lora.status, LoraStatus::Uploading);
    assert_eq!((lora.bytes_done, lora.bytes_total), (0, new.bytes_total));
    let none = h.uploads.pieces(&alice, new.id).await.unwrap();
    assert_eq!(none, []);
    assert!(h.nothing_waits().await);
    let nobody = LoraId::new(random_id());
    assert_eq!(h.get(&alice, nobody).await, None);
    let other = h.loras.reserve(&alice, a_new_lora("b.safetensors")).await;
    assert_eq!(h.get(&alice, other.unwrap().id).await, None);
}

/// A place is reserved as for any other LoRA.
pub async fn an_upload_reserves_its_filename(h: &Harness) {
    let alice = an_actor();
    h.created(&alice, "a.safetensors", 10).await;
    let create = async |new| {
        h.uploads
            .create(&alice, new, String::new(), far_off())
            .await
    };

    let again = create(of_length("a.safetensors", 10)).await;
    assert!(
        matches!(again, Err(RepoError::Conflict(Conflict::LoraFilename))),
        "{again:?}"
    );
    let unbounded = create(a_new_lora("b.safetensors")).await;
    assert!(unbounded.is_err(), "{unbounded:?}");
    let replacing = NewLora {
        bytes_total: Some(10),
        ..a_replacement("a.safetensors")
    };
    create(replacing).await.unwrap();
}

/// Each piece begins where the one before it ends; the others are told where.
pub async fn pieces_are_appended_without_gaps(h: &Harness) {
    let alice = an_actor();
    let id = h.created(&alice, "a.safetensors", 10).await;
    let first = a_piece(&alice, id, 0, 4);
    let appended = AppendOutcome::Appended {
        offset: 4,
        is_complete: false,
    };
    assert_eq!(h.append(&alice, id, first.clone()).await, appended);
    for starts_at in [0, 3, 5, 10] {
        let elsewhere = h
            .append(&alice, id, a_piece(&alice, id, starts_at, 1))
            .await;
        assert_eq!(elsewhere, AppendOutcome::Elsewhere { offset: 4 });
    }
    assert_eq!(h.offset_of(&alice, id).await, 4);
    let lora = h.lora(&alice, id).await.unwrap();
    assert_eq!(lora.bytes_done, 4);
    assert!(h.nothing_waits().await);
    let second = a_piece(&alice, id, 4, 5);
    h.append(&alice, id, second.clone()).await;
    let pieces = h.uploads.pieces(&alice, id).await.unwrap();
    assert_eq!(pieces, [first, second]);
}

/// With the last piece a worker is called, who gets them all in order; until
/// it has put them together the LoRA is being uploaded.
pub async fn the_last_piece_begins_the_transfer(h: &Harness) {
    let alice = an_actor();
    let id = h.created(&alice, "a.safetensors", 10).await;
    let mut stream = h.signals.watch(RunTopic::Queue);
    let pieces = vec![
        a_piece(&alice, id, 0, 1),
        a_piece(&alice, id, 1, 8),
        a_piece(&alice, id, 9, 1),
    ];
    let mut outcome = AppendOutcome::Gone;
    for piece in &pieces {
        outcome = h.append(&alice, id, piece.clone()).await;
    }
    let complete = AppendOutcome::Appended {
        offset: 10,
        is_complete: true,
    };
    assert_eq!(outcome, complete);
    let item = tokio::time::timeout(PATIENCE, stream.next()).await;
    assert_eq!(item, Ok(Some(())), "the last piece wakes nobody");
    let upload = h.get(&alice, id).await.unwrap();
    assert_eq!((upload.offset, upload.status), (10, LoraStatus::Uploading));
    assert!(!h.is_finished(id).await);

    let claimed = h.transfers.claim(a_transfer_claim()).await;
    let claimed = claimed.unwrap().unwrap();
    assert_eq!(claimed.work, TransferWork::Pieces(pieces.clone()));
    assert_eq!(claimed.lora.id, id);
    let lease = std::time::Duration::from_mins(1);
    let report = h.transfers.report(id, claimed.token, 3, None, lease);
    assert!(report.await.unwrap());
    let lora = h.lora(&alice, id).await.unwrap();
    assert_eq!(lora.bytes_done, 10, "they all are there");
    let done = h
        .transfers
        .complete(id, claimed.token, received(b"0123456789"))
        .await;

    assert_eq!(done.unwrap().unwrap().status, LoraStatus::Ready);
    let upload = h.get(&alice, id).await.unwrap();
    assert_eq!(upload.status, LoraStatus::Ready);
    let again = h.append(&alice, id, a_piece(&alice, id, 10, 1)).await;
    assert_eq!(again, AppendOutcome::Gone);
    let expected = FinishedUpload {
        lora_id: id,
        pieces: keys_of(&pieces),
    };
    assert_eq!(h.finished().await, [expected]);
}

/// Eight pieces for one place at once: one is taken, and no byte twice.
pub async fn of_two_pieces_at_once_one_is_appended(h: &Harness) {
    let alice = an_actor();
    let id = h.created(&alice, "a.safetensors", 10).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (uploads, alice) = (Arc::clone(&h.uploads), alice.clone());
        let piece = a_piece(&alice, id, 0, 10);
        callers.spawn(async move {
            let appended = uploads
                .append(&alice, id, piece, MAX_PIECES, far_off())
                .await;
            appended.unwrap()
        });
    }

    let outcomes = callers.join_all().await;

    let appended = AppendOutcome::Appended {
        offset: 10,
        is_complete: true,
    };
    let elsewhere = AppendOutcome::Elsewhere { offset: 10 };
    let count = |wanted| {
        outcomes
            .iter()
            .filter(|outcome| **outcome == wanted)
            .count()
    };
    assert_eq!((count(appended), count(elsewhere)), (1, 7), "{outcomes:?}");
    assert_eq!(h.uploads.pieces(&alice, id).await.unwrap().len(), 1);
    assert!(!h.nothing_waits().await);
    assert!(h.nothing_waits().await);
}

/// What does not fit is a mistake of whoever cut it, and changes nothing.
pub async fn a_piece_that_does_not_fit_is_refused(h: &Harness) {
    let alice = an_actor();
    let id = h.created(&alice, "a.safetensors", 10).await;
    h.append(&alice, id, a_piece(&alice, id, 0, 4)).await;
    for size in [0, 7, u64::MAX] {
        let piece = a_piece(&alice, id, 4, size);
        let outcome = h
            .uploads
            .append(&alice, id, piece, MAX_PIECES, far_off())
            .await;
        assert!(outcome.is_err(), "{size}: {outcome:?}");
    }
    assert_eq!(h.offset_of(&alice, id).await, 4);
    assert_eq!(h.uploads.pieces(&alice, id).await.unwrap().len(), 1);
}

/// So many pieces and no more, which keeps hostile uploads small.
pub async fn an_upload_has_so_many_pieces_and_no_more(h: &Harness) {
    let alice = an_actor();
    let id = h.created(&alice, "a.safetensors", 10).await;
    for (starts_at, taken) in [(0, true), (1, true), (2, false)] {
        let piece = a_piece(&alice, id, starts_at, 1);
        let outcome = h.uploads.append(&alice, id, piece, 2, far_off()).await;
        let expected = if taken {
            AppendOutcome::Appended {
                offset: starts_at + 1,
                is_complete: false,
            }
        } else {
            AppendOutcome::TooManyPieces
        };
        assert_eq!(outcome.unwrap(), expected);
    }
    assert_eq!(h.offset_of(&alice, id).await, 2);
}

/// To others an upload does not exist.
pub async fn another_tenant_reads_and_appends_nothing(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let id = h.created(&alice, "a.safetensors", 10).await;
    h.append(&alice, id, a_piece(&alice, id, 0, 4)).await;

    let outcome = h.append(&bob, id, a_piece(&bob, id, 4, 4)).await;

    assert_eq!(outcome, AppendOutcome::Gone);
    assert_eq!(h.uploads.pieces(&bob, id).await.unwrap(), []);
    assert_eq!(h.get(&bob, id).await, None);
    assert_eq!(h.offset_of(&alice, id).await, 4);
    let nobody = LoraId::new(random_id());
    let outcome = h
        .append(&alice, nobody, a_piece(&alice, nobody, 0, 4))
        .await;
    assert_eq!(outcome, AppendOutcome::Gone);
}

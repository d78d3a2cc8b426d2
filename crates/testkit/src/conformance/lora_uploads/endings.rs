use atelier_domain::ids::LoraId;
use atelier_domain::lora::LoraStatus;
use atelier_domain::ports::{AppendOutcome, BlobOwner, FinishedUpload, WriteOutcome};

use super::{Harness, far_off};
use crate::build::{EPOCH, a_piece, an_actor};
use crate::random_id;

/// Whoever does not go on in time has to begin anew, and is told so.
pub async fn an_expired_upload_fails(h: &Harness) {
    let alice = an_actor();
    let late = h.created_until(&alice, "a.safetensors", 10, EPOCH).await;
    let going_on = h.created_until(&alice, "b.safetensors", 10, EPOCH).await;
    h.append(&alice, going_on, a_piece(&alice, going_on, 0, 4))
        .await;
    let (complete, _) = h.whole(&alice, "c.safetensors").await;
    let due = h.loras.due_for_cleaning(u16::MAX).await.unwrap();
    assert_eq!(due, [], "it fails as an upload");

    let finished = h.finished().await;

    let expected = FinishedUpload {
        lora_id: late,
        pieces: Vec::new(),
    };
    assert_eq!(finished, [expected]);
    let failed = h.lora(&alice, late).await.unwrap();
    assert_eq!(failed.status, LoraStatus::Failed);
    assert_eq!(failed.error.unwrap().code, "upload_expired");
    let upload = h.get(&alice, late).await.unwrap();
    assert_eq!(upload.status, LoraStatus::Failed);
    let outcome = h.append(&alice, late, a_piece(&alice, late, 0, 1)).await;
    assert_eq!(outcome, AppendOutcome::Gone);
    for id in [going_on, complete] {
        let upload = h.get(&alice, id).await.unwrap();
        assert_eq!(upload.expires_at, far_off(), "each piece pushes it ahead");
        assert_eq!(upload.status, LoraStatus::Uploading);
    }
}

/// Its filename is free for the next one; its pieces are cleaned away.
pub async fn an_expired_upload_gives_way(h: &Harness) {
    let alice = an_actor();
    let late = h.created_until(&alice, "a.safetensors", 10, EPOCH).await;

    let next = h.created(&alice, "a.safetensors", 10).await;

    assert_eq!(h.get(&alice, late).await, None);
    assert!(h.is_finished(late).await);
    assert!(!h.is_finished(next).await);
}

/// A deleted upload takes no more pieces, and those that it has are over.
pub async fn a_deleted_upload_is_over(h: &Harness) {
    let alice = an_actor();
    let id = h.created(&alice, "a.safetensors", 10).await;
    let piece = a_piece(&alice, id, 0, 4);
    h.append(&alice, id, piece.clone()).await;

    let deleted = h.loras.delete(&alice, id).await.unwrap();

    assert_eq!(deleted, WriteOutcome::Done(()));
    assert_eq!(h.get(&alice, id).await, None);
    let outcome = h.append(&alice, id, a_piece(&alice, id, 4, 6)).await;
    assert_eq!(outcome, AppendOutcome::Gone);
    let expected = FinishedUpload {
        lora_id: id,
        pieces: vec![piece.blob_key],
    };
    assert_eq!(h.finished().await, std::slice::from_ref(&expected));
    h.loras.forget(id).await.unwrap();
    assert_eq!(h.finished().await, [expected], "its row is gone");
    let owner = BlobOwner::Upload(id);
    let known = h.loras.known_owners(vec![owner.clone()]).await.unwrap();
    assert!(known.contains(&owner));

    h.uploads.forget(id).await.unwrap();
    assert_eq!(h.finished().await, []);
    let known = h.loras.known_owners(vec![owner]).await.unwrap();
    assert!(known.is_empty());
}

/// Forgetting an upload that goes on by mistake takes nothing away.
pub async fn forgetting_spares_uploads_that_go_on(h: &Harness) {
    let alice = an_actor();
    let id = h.created(&alice, "a.safetensors", 20).await;
    h.append(&alice, id, a_piece(&alice, id, 0, 4)).await;
    let (whole, pieces) = h.whole(&alice, "b.safetensors").await;
    for id in [id, whole] {
        h.uploads.forget(id).await.unwrap();
    }
    assert_eq!(h.offset_of(&alice, id).await, 4);
    assert_eq!(h.uploads.pieces(&alice, whole).await.unwrap(), pieces);
    let nobody = LoraId::new(random_id());
    h.uploads.forget(nobody).await.unwrap();
}

/// At most `limit` at once, and all of them in the end.
pub async fn finished_uploads_come_at_most_so_many_at_once(h: &Harness) {
    let alice = an_actor();
    for count in 0..5 {
        let filename = format!("{count}.safetensors");
        h.created_until(&alice, &filename, 10, EPOCH).await;
    }
    let mut left = 5;
    loop {
        let finished = h.uploads.finished(2).await.unwrap();
        assert_eq!(finished.len(), left.min(2));
        if finished.is_empty() {
            break;
        }
        left -= finished.len();
        for upload in finished {
            h.uploads.forget(upload.lora_id).await.unwrap();
        }
    }
}

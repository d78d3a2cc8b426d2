//! What becomes of wishes for imports, before any byte comes.

use std::sync::Arc;
use std::time::Duration;

use atelier_application::loras::{
    ImportLora, ImportLoraError, ImportRequest, Imported, LoraDetails,
};
use atelier_domain::idempotency::{EarlierRequest, StoredAnswer};
use atelier_domain::lora::{Lora, LoraFilter, LoraSource, LoraStatus, LoraVersion};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{LoraRepo as _, MockLoraTransfers, RemoteError, RemoteToken};
use atelier_testkit::build::{a_request_under, an_answer, safetensors_bytes};

use tokio::time::Instant;

use crate::support::Depot;

const FILE: &str = "1AbCdEfGhIjKlMnOp";

async fn begin(depot: &Depot, request: ImportRequest<'_>) -> Result<Imported, ImportLoraError> {
    depot.imports().execute(&depot.actor, request).await
}

fn named(filename: &str) -> ImportRequest<'static> {
    ImportRequest {
        filename: Some(filename.to_owned()),
        ..Depot::wish(FILE)
    }
}

fn answer(lora: &Lora) -> StoredAnswer {
    an_answer(&lora.id.to_string())
}

fn once(key: &str, body: &str) -> ImportRequest<'static> {
    ImportRequest {
        once: Some((a_request_under(key, body), &answer)),
        ..Depot::wish(FILE)
    }
}

#[track_caller]
fn begun(imported: Imported) -> (Lora, Option<StoredAnswer>) {
    match imported {
        Imported::Begun { lora, answer } => (*lora, answer),
        other => panic!("not begun: {other:?}"),
    }
}

async fn count(depot: &Depot) -> usize {
    let loras = depot.store.loras();
    loras
        .list(&depot.actor, LoraFilter::default(), PageRequest::default())
        .await
        .unwrap()
        .items
        .len()
}

#[tokio::test(start_paused = true)]
async fn what_the_source_says_against_it_is_told_and_keeps_no_place() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    let text = || "why, and what to do".to_owned();
    for error in [
        RemoteError::Invalid(text()),
        RemoteError::NotFound(text()),
        RemoteError::Refused(text()),
        RemoteError::Unauthorized(text()),
        RemoteError::NotConfigured(text()),
    ] {
        depot.drive.fail_next_metadata(error);

        let refused = begin(&depot, Depot::wish(FILE)).await.unwrap_err();

        assert!(matches!(refused, ImportLoraError::Remote(_)), "{refused:?}");
        assert_eq!(refused.to_string(), text());
    }
    depot.drive.outage().begin();
    let away = begin(&depot, Depot::wish(FILE)).await.unwrap_err();
    assert!(
        matches!(
            away,
            ImportLoraError::Remote(RemoteError::Unavailable { .. })
        ),
        "{away:?}"
    );
    assert_eq!(count(&depot).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_title_becomes_a_name_and_a_filename() {
    let depot = Depot::new();
    let bytes = safetensors_bytes(1);
    depot.drive.put(FILE, "My Style v2", bytes.clone());

    let (lora, answer) = begun(begin(&depot, Depot::wish(FILE)).await.unwrap());

    assert_eq!(lora.filename.as_str(), "My Style v2.safetensors");
    assert_eq!(lora.name.as_str(), "My Style v2");
    assert_eq!(lora.status, LoraStatus::Importing);
    assert_eq!(lora.bytes_total, Some(bytes.len() as u64));
    assert_eq!(
        lora.source,
        LoraSource::GoogleDrive {
            file_id: FILE.to_owned()
        }
    );
    assert_eq!(answer, None);
}

#[tokio::test(start_paused = true)]
async fn a_title_that_is_no_filename_asks_for_one() {
    let depot = Depot::new();
    for title in ["model.ckpt", "...", ""] {
        depot.drive.put(FILE, title, safetensors_bytes(1));

        let refused = begin(&depot, Depot::wish(FILE)).await.unwrap_err();

        let ImportLoraError::Invalid(violations) = refused else {
            panic!("{title}: {refused:?}")
        };
        assert_eq!(violations[0].pointer, "/filename");
        assert!(violations[0].detail.contains("is needed"), "{violations:?}");
    }
    begun(begin(&depot, named("b.safetensors")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_bad_request_is_refused_before_anybody_is_asked() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    let details = LoraDetails {
        name: Some(" ".to_owned()),
        description: Some("a\0".to_owned()),
        tags: vec!["a,b".to_owned()],
    };
    let bad_details = ImportRequest {
        details,
        ..Depot::wish(FILE)
    };
    for (request, expected) in [
        (bad_details, vec!["/name", "/description", "/tags/0"]),
        (named("../a.safetensors"), vec!["/filename"]),
    ] {
        let refused = begin(&depot, request).await.unwrap_err();

        let ImportLoraError::Invalid(violations) = refused else {
            panic!("{refused:?}")
        };
        let pointers: Vec<&str> = violations
            .iter()
            .map(|fault| fault.pointer.as_str())
            .collect();
        assert_eq!(pointers, expected);
    }
    assert_eq!(depot.drive.metadata_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_the_owner_says_is_kept() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    let request = ImportRequest {
        details: LoraDetails {
            name: Some("Ink".to_owned()),
            description: Some("for drawings".to_owned()),
            tags: vec!["ink".to_owned()],
        },
        ..Depot::wish(FILE)
    };
    let serving = depot.serve();

    let (lora, _) = begun(begin(&depot, request).await.unwrap());

    let lora = depot.settled(lora.id).await;
    serving.stop().await;
    assert_eq!(lora.status, LoraStatus::Ready);
    assert_eq!(lora.name.as_str(), "Ink");
    assert_eq!(lora.description.unwrap().as_str(), "for drawings");
    assert_eq!(lora.tags.as_slice().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_filename_is_taken_by_what_is_ready_and_by_what_comes() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    let serving = depot.serve();
    let ready = depot.import(FILE).await;
    depot.settled(ready.id).await;
    serving.stop().await;
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(2));

    let refused = begin(&depot, Depot::wish(FILE)).await.unwrap_err();
    assert!(
        matches!(&refused, ImportLoraError::FilenameTaken { existing: Some(id) } if *id == ready.id),
        "{refused:?}"
    );
    begun(begin(&depot, named("b.safetensors")).await.unwrap());
    let refused = begin(&depot, named("b.safetensors")).await.unwrap_err();
    assert!(
        matches!(refused, ImportLoraError::FilenameTaken { existing: None }),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_are_known_before_they_come() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    let serving = depot.serve();
    let lora = depot.import(FILE).await;
    let ready = depot.settled(lora.id).await;
    let downloads = depot.offsets();

    let again = begin(&depot, Depot::wish(FILE)).await.unwrap();

    assert_eq!(again, Imported::Same(Box::new(ready)));
    serving.stop().await;
    assert_eq!(depot.offsets(), downloads);
}

#[tokio::test(start_paused = true)]
async fn an_import_may_replace() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    let serving = depot.serve();
    let first = depot.import(FILE).await;
    depot.settled(first.id).await;
    depot.drive.change(FILE, safetensors_bytes(2));
    let request = ImportRequest {
        replaces: true,
        ..Depot::wish(FILE)
    };

    let (second, _) = begun(begin(&depot, request).await.unwrap());

    let second = depot.settled(second.id).await;
    serving.stop().await;
    assert_eq!(
        second.content.unwrap().version,
        LoraVersion::new(2).unwrap()
    );
    assert!(depot.lora(first.id).await.superseded_at.is_some());
    let first_bytes = depot.blobs.bytes_of(&first.blob_key);
    assert_eq!(first_bytes, Some(safetensors_bytes(1)));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_too_large_is_refused_by_its_metadata() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    depot
        .drive
        .tell(FILE, |file| file.size_bytes = Some(Depot::MAX_BYTES + 1));

    let refused = begin(&depot, Depot::wish(FILE)).await.unwrap_err();

    assert!(
        matches!(
            refused,
            ImportLoraError::TooLarge {
                limit_bytes: Depot::MAX_BYTES
            }
        ),
        "{refused:?}"
    );
    assert_eq!(count(&depot).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_person_has_so_many_unfinished_imports() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    for number in 0..Depot::MAX_UNFINISHED {
        let name = format!("{number}.safetensors");
        begun(begin(&depot, named(&name)).await.unwrap());
    }

    let refused = begin(&depot, named("more.safetensors")).await.unwrap_err();

    assert!(
        matches!(
            refused,
            ImportLoraError::TooMany {
                limit: Depot::MAX_UNFINISHED
            }
        ),
        "{refused:?}"
    );
    // Those that come home make room.
    let serving = depot.serve();
    tokio::time::sleep(Duration::from_secs(30)).await;
    begun(begin(&depot, named("more.safetensors")).await.unwrap());
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_again_gets_the_same_answer_and_no_second_import() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    let (lora, first) = begun(begin(&depot, once("k", "b")).await.unwrap());
    assert_eq!(first, Some(answer(&lora)));
    // Whatever becomes of the source: the answer is what it was.
    depot.drive.outage().begin();

    let again = begin(&depot, once("k", "b")).await.unwrap();
    let other = begin(&depot, once("k", "other")).await.unwrap_err();

    assert_eq!(again, Imported::Replayed(answer(&lora)));
    assert!(matches!(other, ImportLoraError::KeyReused), "{other:?}");
    assert_eq!(count(&depot).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_being_answered_is_not_begun_a_second_time() {
    let depot = Depot::new();
    let mut transfers = MockLoraTransfers::new();
    transfers
        .expect_earlier_request()
        .returning(|_, _| Ok(Some(EarlierRequest::Underway)));
    let imports = ImportLora {
        transfers: Arc::new(transfers),
        ..depot.imports()
    };

    let refused = imports.execute(&depot.actor, once("k", "b")).await;

    assert!(
        matches!(refused, Err(ImportLoraError::KeyUnderway)),
        "{refused:?}"
    );
    assert_eq!(depot.drive.metadata_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lent_token_is_used_by_this_process_alone_and_kept_nowhere() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    depot.drive.want_token(FILE, "ya29.secret");
    let request = ImportRequest {
        token: RemoteToken::parse("ya29.secret"),
        ..once("k", "b")
    };
    assert!(!format!("{request:?}").contains("ya29"));

    // Nobody else carries anything out.
    let (lora, _) = begun(begin(&depot, request).await.unwrap());

    let ready = depot.settled(lora.id).await;
    assert_eq!(ready.status, LoraStatus::Ready);
    assert!(!depot.transfers.kept().is_empty());
    assert!(!depot.transfers.kept().contains("ya29"));
}

#[tokio::test(start_paused = true)]
async fn an_import_with_a_lent_token_cannot_wait_for_a_source_that_is_away() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    depot.drive.hold_downloads_at(2_042);
    depot.drive.break_next_download_at(FILE, 3_000);
    let request = ImportRequest {
        token: RemoteToken::parse("ya29.secret"),
        ..Depot::wish(FILE)
    };
    let serving = depot.serve();
    let (lora, _) = begun(begin(&depot, request).await.unwrap());
    depot.downloads(1).await;
    depot.drive.outage().begin();
    depot.drive.release();

    let code = depot.failure(lora.id).await;

    serving.stop().await;
    assert_eq!(code, "source_unavailable");
    assert_eq!(depot.transfers.ends(), ["fail"]);
}

#[tokio::test(start_paused = true)]
async fn an_import_with_a_lent_token_ends_with_its_process() {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", safetensors_bytes(1));
    depot.drive.hold_downloads_at(2_042);
    let lent = |filename: &str| ImportRequest {
        filename: Some(filename.to_owned()),
        token: RemoteToken::parse("ya29.secret"),
        ..Depot::wish(FILE)
    };
    let imports = depot.imports();
    let first = imports
        .execute(&depot.actor, lent("first.safetensors"))
        .await;
    depot.downloads(1).await;

    let patience = Duration::from_secs(6);
    let begun_at = Instant::now();
    imports.transferring.finish_held(begun_at + patience).await;
    assert!(begun_at.elapsed() >= patience);

    let (first, _) = begun(first.unwrap());
    let failed = depot.lora(first.id).await;
    assert_eq!(failed.error.unwrap().code, "credential_gone");
    assert!(depot.blobs.keys().is_empty());
    // With nothing under way there is nothing to wait for.
    let again = Instant::now();
    imports.transferring.finish_held(again + patience).await;
    assert_eq!(again.elapsed(), Duration::ZERO);
    // One that comes too late does not begin.
    let second = imports
        .execute(&depot.actor, lent("second.safetensors"))
        .await;
    let (second, _) = begun(second.unwrap());
    assert_eq!(depot.failure(second.id).await, "credential_gone");
    assert_eq!(depot.offsets(), [0]);
}

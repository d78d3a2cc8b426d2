use std::sync::Arc;

use atelier_application::inputs::{UploadInput, UploadInputError, UploadedInput};
use atelier_domain::input::InputFormat;
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{Conflict, InputRepo, MockInputRepo, RepoError};
use atelier_domain::usage::Quotas;
use atelier_testkit::build::sha256_of;
use atelier_testkit::wait_until;
use bytes::Bytes;

use crate::support::{House, LONG, png};

async fn listed(house: &House) -> usize {
    let inputs = house.store.inputs();
    let page = inputs.list(&house.actor, PageRequest::default()).await;
    page.unwrap().items.len()
}

#[tokio::test(start_paused = true)]
async fn a_picture_is_kept_with_what_its_bytes_say() {
    let house = House::new();

    let input = house.picture("Foto (2).txt", 1).await;

    let bytes = png(1);
    assert_eq!(input.user_id, house.actor.user_id());
    assert_eq!(input.filename.as_str(), "Foto (2).txt");
    assert_eq!(input.format, InputFormat::Png);
    assert_eq!((input.width, input.height), (64, 32));
    assert_eq!(input.size_bytes, bytes.len() as u64);
    assert_eq!(input.sha256, sha256_of(&bytes));
    assert_eq!(
        input.blob_key.as_str(),
        format!("user-{}/inputs/{}", house.actor.user_id(), input.id)
    );
    let stored = house.blobs.bytes_of(&input.blob_key);
    assert_eq!(stored, Some(Bytes::from(bytes)));
    let found = house.store.inputs().get(&house.actor, input.id).await;
    assert_eq!(found.unwrap(), Some(input));
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_under_the_same_name_are_kept_once() {
    let house = House::new();
    let input = house.picture("a.png", 1).await;

    let again = house.upload_picture("a.png", png(1)).await.unwrap();
    let elsewhere = house.picture("b.png", 1).await;

    assert_eq!(again, UploadedInput::Same(Box::new(input.clone())));
    assert_eq!(elsewhere.comfyui_path, input.comfyui_path);
    assert_eq!(listed(&house).await, 2);
    assert_eq!(house.blobs.keys().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_leaves_nothing_behind() {
    let house = House::new();
    for (filename, bytes) in [
        (
            "a.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".to_vec(),
        ),
        ("a.png", b"<html>hello</html>".to_vec()),
        ("a.png", png(1)[..20].to_vec()),
        ("a.png", [png(1), vec![0; 100_000]].concat()),
        ("../a.png", png(1)),
        ("a.png [output]", png(1)),
        ("a.png", Vec::new()),
    ] {
        let refused = house.upload_picture(filename, bytes).await;

        assert!(refused.is_err(), "{filename} {refused:?}");
    }
    assert_eq!(house.blobs.keys(), []);
    assert_eq!(listed(&house).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_sender_who_goes_away_leaves_nothing_behind() {
    let house = House::new();
    let uploads = house.input_uploads();
    let mut dropped = uploads.begin(house.actor.clone(), "a.png").await.unwrap();
    dropped.write(Bytes::from(png(1))).await.unwrap();
    drop(dropped);
    let mut given_up = uploads.begin(house.actor.clone(), "b.png").await.unwrap();
    given_up.write(Bytes::from(png(1))).await.unwrap();
    given_up.abort().await;

    assert_eq!(house.blobs.keys(), []);
    assert_eq!(listed(&house).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_picture_beyond_the_quota_is_refused() {
    let house = House::new();
    house.picture("a.png", 1).await;
    let mut uploads = house.input_uploads();
    uploads.allowance.quotas = Quotas {
        input_bytes: Some(png(1).len() as u64 + 10),
        ..Quotas::default()
    };
    let mut upload = uploads.begin(house.actor.clone(), "b.png").await.unwrap();
    upload.write(Bytes::from(png(2))).await.unwrap();

    let refused = upload.finish().await;

    assert!(
        matches!(refused, Err(UploadInputError::Quota(_))),
        "{refused:?}"
    );
    assert_eq!(house.blobs.keys().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_for_a_moment_loses_no_picture() {
    let house = House::new();
    let uploads = house.input_uploads();
    let mut upload = uploads.begin(house.actor.clone(), "a.png").await.unwrap();
    upload.write(Bytes::from(png(1))).await.unwrap();
    house.store.outage().begin();
    let finishing = tokio::spawn(upload.finish());
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;

    house.store.outage().end();

    let uploaded = finishing.await.unwrap().unwrap();
    assert!(matches!(uploaded, UploadedInput::New(_)), "{uploaded:?}");
    assert_eq!(listed(&house).await, 1);
}

#[tokio::test(start_paused = true)]
async fn an_object_whose_row_was_refused_is_deleted() {
    let house = House::new();
    let mut inputs = MockInputRepo::new();
    inputs
        .expect_add()
        .returning(|_, _| Err(RepoError::Conflict(Conflict::Id)));
    let uploads = UploadInput {
        inputs: Arc::new(inputs) as Arc<dyn InputRepo>,
        ..house.input_uploads()
    };
    let mut upload = uploads.begin(house.actor.clone(), "a.png").await.unwrap();
    upload.write(Bytes::from(png(1))).await.unwrap();

    assert!(upload.finish().await.is_err());

    assert_eq!(house.blobs.keys(), []);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_picture_goes_with_its_object() {
    let house = House::new();
    let input = house.picture("a.png", 1).await;
    let inputs = house.store.inputs();
    let deleted = inputs
        .delete(&house.actor, input.id, input.created_at)
        .await;
    assert!(deleted.unwrap());

    let worker = house.start();

    wait_until("the cleaning", LONG, async || house.blobs.keys().is_empty()).await;
    worker.stop().await;
    let owner = house.actor.user_id();
    let left = inputs.load_many(owner, vec![input.id]).await.unwrap();
    assert_eq!(left, []);
}

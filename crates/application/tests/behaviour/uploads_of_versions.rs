//! Uploads under a filename that is taken.

use atelier_application::loras::{LoraDetails, LoraUpload, UploadLoraError, Uploaded};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFilter, LoraStatus, LoraVersion};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::LoraRepo as _;
use atelier_testkit::build::{a_new_lora, safetensors_bytes};
use bytes::Bytes;

use crate::support::House;

const NAME: &str = "a.safetensors";

async fn begin(house: &House, replaces: bool) -> LoraUpload {
    house
        .uploads()
        .begin(house.actor.clone(), NAME, None, replaces)
        .await
        .unwrap()
}

async fn versions(house: &House, id: LoraId) -> Vec<Lora> {
    let versions = house.store.loras().versions(&house.actor, id).await;
    versions.unwrap().unwrap()
}

async fn shelf(house: &House) -> Vec<Lora> {
    let loras = house.store.loras();
    loras
        .list(&house.actor, LoraFilter::default(), PageRequest::default())
        .await
        .unwrap()
        .items
}

fn taken(refused: &UploadLoraError) -> Option<LoraId> {
    match refused {
        UploadLoraError::FilenameTaken { existing } => *existing,
        other => panic!("not taken: {other:?}"),
    }
}

/// A file with one tensor of so many bytes.
fn other_size(data: usize) -> Bytes {
    let header = format!(r#"{{"a":{{"dtype":"U8","shape":[{data}],"data_offsets":[0,{data}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + data, 0);
    file.into()
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_again_store_nothing() {
    let house = House::new();
    let first = house.lora(NAME, 1).await;
    let keys = house.blobs.keys();

    for replaces in [false, true] {
        let again = house.upload(NAME, 1, replaces).await.unwrap();

        assert_eq!(again, Uploaded::Same(Box::new(first.clone())), "{replaces}");
        assert_eq!(
            shelf(&house).await,
            std::slice::from_ref(&first),
            "{replaces}"
        );
        assert_eq!(versions(&house, first.id).await.len(), 1);
    }
    // Whatever a replacement wrote before it was known to be the same goes with its row.
    let due = house.store.loras().due_for_cleaning(10).await.unwrap();
    let left: Vec<_> = house
        .blobs
        .keys()
        .into_iter()
        .filter(|key| due.iter().all(|lora| lora.blob_key != *key))
        .collect();
    assert_eq!(left, keys);
}

#[tokio::test(start_paused = true)]
async fn other_bytes_of_the_same_size_are_refused_at_their_end() {
    let house = House::new();
    let first = house.lora(NAME, 1).await;
    let keys = house.blobs.keys();

    let refused = house.upload(NAME, 2, false).await.unwrap_err();

    assert_eq!(taken(&refused), Some(first.id));
    assert_eq!(house.blobs.keys(), keys);
    assert_eq!(shelf(&house).await, [first]);
}

#[tokio::test(start_paused = true)]
async fn a_header_of_another_size_is_refused_before_the_rest_comes() {
    let house = House::new();
    let first = house.lora(NAME, 1).await;
    let mut upload = begin(&house, false).await;
    let file = other_size(1_000);

    upload.write(file.slice(..20)).await.unwrap();
    let refused = upload.write(file.slice(20..200)).await.unwrap_err();

    assert_eq!(taken(&refused), Some(first.id));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_lora_is_told_as_such_also_under_a_taken_name() {
    let house = House::new();
    house.lora(NAME, 1).await;
    let mut upload = begin(&house, false).await;

    let refused = upload.write(Bytes::from_static(b"\x80\x04\x95\0\0\0\0\0\0\0"));

    let refused = refused.await.unwrap_err();
    assert!(
        matches!(refused, UploadLoraError::NotSafetensors(_)),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_with_bad_details_are_refused() {
    let house = House::new();
    house.lora(NAME, 1).await;
    let mut upload = begin(&house, false).await;
    upload.write(safetensors_bytes(1)).await.unwrap();
    let details = LoraDetails {
        name: Some(" ".to_owned()),
        ..LoraDetails::default()
    };

    let refused = upload.finish(details).await.unwrap_err();

    assert!(
        matches!(refused, UploadLoraError::Invalid(_)),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_whose_bytes_are_still_on_their_way_is_taken_by_nobody_known() {
    let house = House::new();
    let loras = house.store.loras();
    loras.reserve(&house.actor, a_new_lora(NAME)).await.unwrap();

    let refused = house.upload(NAME, 1, false).await.unwrap_err();

    assert_eq!(taken(&refused), None);
}

#[tokio::test(start_paused = true)]
async fn a_replacement_is_the_next_version_and_keeps_the_last_ones_bytes() {
    let house = House::new();
    let first = house.lora(NAME, 1).await;

    let second = house.next_version(NAME, 2).await;

    let (old, new) = (
        first.content.clone().unwrap(),
        second.content.clone().unwrap(),
    );
    assert_eq!(new.version, LoraVersion::new(2).unwrap());
    assert_ne!(old.comfyui_path, new.comfyui_path);
    assert_eq!(shelf(&house).await, std::slice::from_ref(&second));
    let all = versions(&house, second.id).await;
    assert_eq!(
        all.iter().map(|lora| lora.id).collect::<Vec<_>>(),
        [second.id, first.id]
    );
    assert!(all[0].superseded_at.is_none() && all[1].superseded_at.is_some());
    assert_eq!(
        house.blobs.bytes_of(&first.blob_key),
        Some(safetensors_bytes(1))
    );
    assert_eq!(
        house.blobs.bytes_of(&second.blob_key),
        Some(safetensors_bytes(2))
    );
}

#[tokio::test(start_paused = true)]
async fn a_replacement_of_nothing_is_a_first_version() {
    let house = House::new();

    let lora = house.next_version(NAME, 1).await;

    assert_eq!(lora.content.unwrap().version, LoraVersion::FIRST);
}

#[tokio::test(start_paused = true)]
async fn the_latest_stays_in_use_until_its_replacement_is_whole() {
    let house = House::new();
    let first = house.lora(NAME, 1).await;
    let mut upload = begin(&house, true).await;
    upload
        .write(safetensors_bytes(2).slice(..1_000))
        .await
        .unwrap();

    let now = house
        .store
        .loras()
        .get(&house.actor, first.id)
        .await
        .unwrap();

    assert_eq!(now.unwrap().superseded_at, None);
    upload.abort().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_replacement_leaves_the_old_one_alone() {
    let house = House::new();
    let first = house.lora(NAME, 1).await;
    let mut upload = begin(&house, true).await;

    let refused = upload.write(Bytes::from_static(b"<!DOCTYPE html>")).await;

    assert!(refused.is_err());
    let latest = shelf(&house).await;
    assert!(latest.contains(&first), "{latest:?}");
    assert_eq!(
        latest
            .iter()
            .filter(|lora| lora.status == LoraStatus::Failed)
            .count(),
        1
    );
    assert_eq!(
        house.blobs.bytes_of(&first.blob_key),
        Some(safetensors_bytes(1))
    );
    // And the name takes a replacement again.
    house.next_version(NAME, 2).await;
}

//! Pictures that are put into a backend's input folder.

use std::path::PathBuf;

use atelier_comfyui_sim::Version;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ids::UserId;
use atelier_domain::input::{InputFormat, InputPath};
use atelier_domain::ports::{ByteStream, ComfyClient, ComfyError, PromptOutcome, Source};
use atelier_testkit::random_id;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::json;

use crate::support::{World, on_both_versions, quick_graph, world, world_with};

on_both_versions!(
    a_picture_is_put_below_its_owners_folder_and_loaded_from_there,
    what_is_there_is_left_as_it_is,
    what_broke_off_earlier_is_mended,
    bytes_that_break_off_leave_nothing_under_the_name,
    a_backend_that_takes_no_such_size_says_so,
    inputs_that_name_files_are_listed,
);

fn path() -> InputPath {
    let owner = UserId::new(random_id());
    InputPath::of(owner, &Sha256Digest::new([7; 32]), InputFormat::Png)
}

fn in_pieces(content: &[u8]) -> ByteStream<Source> {
    let pieces: Vec<_> = content
        .chunks(1_000)
        .map(|piece| Ok(Bytes::copy_from_slice(piece)))
        .collect();
    stream::iter(pieces).boxed()
}

fn place_of(world: &World, path: &InputPath) -> PathBuf {
    world.folder.path().join("input").join(path.as_str())
}

async fn place(world: &World, path: &InputPath, content: &[u8]) -> Result<(), ComfyError> {
    let size_bytes = content.len() as u64;
    let bytes = in_pieces(content);
    world.comfy.place_input(path, size_bytes, bytes).await
}

/// How many files the folder of a path has.
fn files_beside(world: &World, path: &InputPath) -> usize {
    let folder = place_of(world, path).parent().unwrap().to_path_buf();
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

async fn a_picture_is_put_below_its_owners_folder_and_loaded_from_there(version: Version) {
    let world = world(version).await;
    let made = world.submitted(&quick_graph("made")).await;
    assert_eq!(world.result(&made).await.outcome, PromptOutcome::Success);
    let picture = std::fs::read(world.folder.path().join("output/made_00001_.png")).unwrap();
    let path = path();

    place(&world, &path, &picture).await.unwrap();

    assert_eq!(std::fs::read(place_of(&world, &path)).unwrap(), picture);
    let loading = world
        .submitted(&json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": path.as_str()}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "loaded"}}
        }))
        .await;
    assert_eq!(world.result(&loading).await.outcome, PromptOutcome::Success);
}

async fn what_is_there_is_left_as_it_is(version: Version) {
    let world = world(version).await;
    let path = path();
    place(&world, &path, &[1; 5_000]).await.unwrap();

    // Nothing is sent, so bytes that would break off do no harm.
    let broken: ByteStream<Source> = stream::iter([Err("broken".into())]).boxed();
    world.comfy.place_input(&path, 5_000, broken).await.unwrap();

    assert_eq!(std::fs::read(place_of(&world, &path)).unwrap(), [1; 5_000]);
    assert_eq!(files_beside(&world, &path), 1);
}

async fn what_broke_off_earlier_is_mended(version: Version) {
    let world = world(version).await;
    let path = path();
    place(&world, &path, &[1; 10]).await.unwrap();

    place(&world, &path, &[1; 5_000]).await.unwrap();

    assert_eq!(std::fs::read(place_of(&world, &path)).unwrap(), [1; 5_000]);
    assert_eq!(files_beside(&world, &path), 1);
}

async fn bytes_that_break_off_leave_nothing_under_the_name(version: Version) {
    let world = world(version).await;
    let path = path();
    let broken: ByteStream<Source> = stream::iter([
        Ok(Bytes::from_static(b"half")),
        Err("the store is gone".into()),
    ])
    .boxed();

    let refused = world.comfy.place_input(&path, 5_000, broken).await;

    assert!(refused.is_err());
    assert!(!place_of(&world, &path).exists());
    place(&world, &path, &[1; 5_000]).await.unwrap();
}

async fn a_backend_that_takes_no_such_size_says_so(version: Version) {
    let world = world_with(version, |options| options.max_upload_bytes = 2_000).await;

    let refused = place(&world, &path(), &[1; 5_000]).await;

    assert!(
        matches!(&refused, Err(ComfyError::Protocol(words)) if words.contains("more than")),
        "{refused:?}"
    );
}

async fn inputs_that_name_files_are_listed(version: Version) {
    let world = world(version).await;

    let catalogue = world.comfy.lora_catalogue().await.unwrap();

    let files: Vec<_> = catalogue
        .input_files
        .iter()
        .map(|(class_type, input)| format!("{class_type}.{input}"))
        .collect();
    assert_eq!(files, ["LoadImage.image"]);
}

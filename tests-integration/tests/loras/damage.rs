//! What was damaged, lost or put in the way: the run gets the right bytes, or fails and says why,
//! and nothing wrong is left on the disk.

use std::fs::{self, File};

use atelier_testkit::build::sha256_of;
use atelier_tests_integration::traces::files_below;

use crate::contents::{assert_is, listed, names_in, weights};
use crate::workshop::Workshop;

const STYLE: &str = "style.safetensors";
const SIZE: usize = 200_000;

/// Nothing came to the backend's disk.
async fn assert_nothing_installed(workshop: &Workshop) {
    assert_eq!(names_in(&workshop.site.backend.loras), Vec::<String>::new());
    assert_eq!(listed(&workshop.site.backend).await, Vec::<String>::new());
    assert_eq!(workshop.site.backend.prompts().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_fails_the_run_and_says_so() {
    let workshop = Workshop::new().await;
    workshop.upload(STYLE, &weights(SIZE, 1)).await;
    fs::remove_file(workshop.object(STYLE)).expect("it was there");
    let _worker = workshop.worker();

    let message = workshop.run_badly(STYLE, "lora_missing").await;

    assert!(message.contains("gone"), "{message}");
    assert!(message.contains("upload it again"), "{message}");
    assert_nothing_installed(&workshop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_in_the_object_store_fail_the_run_and_say_so() {
    let workshop = Workshop::new().await;
    let file = weights(SIZE, 1);
    workshop.upload(STYLE, &file).await;
    let mut bytes = file.bytes.clone();
    bytes[SIZE / 2] ^= 0x10;
    fs::write(workshop.object(STYLE), bytes).expect("it is ours");
    let _worker = workshop.worker();

    let message = workshop.run_badly(STYLE, "lora_sync_failed").await;

    assert!(message.contains(STYLE), "{message}");
    assert!(message.contains("damaged"), "{message}");
    assert_nothing_installed(&workshop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_or_a_longer_object_fails_the_run_and_says_so() {
    let workshop = Workshop::new().await;
    let file = weights(SIZE, 1);
    workshop.upload(STYLE, &file).await;
    let _worker = workshop.worker();

    for length in [0, SIZE / 2, file.bytes.len() - 1, file.bytes.len() + 1] {
        let mut bytes = file.bytes.clone();
        bytes.resize(length, 0);
        fs::write(workshop.object(STYLE), bytes).expect("it is ours");
        let message = workshop.run_badly(STYLE, "lora_sync_failed").await;
        assert!(message.contains("damaged"), "{length}: {message}");
        assert_nothing_installed(&workshop).await;
    }
    // What is mended works again.
    fs::write(workshop.object(STYLE), &file.bytes).expect("it is ours");
    workshop.run_well(STYLE, 2).await;
    workshop.assert_installed(STYLE, &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_file_at_our_path_is_moved_aside_and_kept() {
    let workshop = Workshop::new().await;
    let (file, larger, alike) = (weights(SIZE, 1), weights(2 * SIZE, 2), weights(SIZE, 3));
    workshop.upload(STYLE, &file).await;
    workshop.upload("alike.safetensors", &file).await;
    let folder = workshop.folder();
    fs::create_dir(&folder).expect("it is new");
    fs::write(folder.join(STYLE), &larger.bytes).expect("there is room");
    fs::write(folder.join("alike.safetensors"), &alike.bytes).expect("there is room");
    let _worker = workshop.worker();

    workshop.run_well(STYLE, 1).await;
    workshop.run_well("alike.safetensors", 1).await;

    workshop.assert_installed(STYLE, &file);
    workshop.assert_installed("alike.safetensors", &file);
    assert_is(&folder.join(format!("{STYLE}.foreign-1")), &larger);
    assert_is(&folder.join("alike.safetensors.foreign-1"), &alike);
    assert_eq!(names_in(&folder).len(), 4);
    assert_eq!(listed(&workshop.site.backend).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_the_right_one_is_not_copied_again_whoever_put_it_there() {
    let workshop = Workshop::on_s3().await;
    let file = weights(SIZE, 1);
    workshop.upload(STYLE, &file).await;
    fs::create_dir(workshop.folder()).expect("it is new");
    fs::write(workshop.folder().join(STYLE), &file.bytes).expect("there is room");
    let before = workshop.site.s3_gate().sent_bytes();
    let _worker = workshop.worker();

    workshop.run_well(STYLE, 1).await;

    let sent = workshop.site.s3_gate().sent_bytes() - before;
    assert!(sent < file.bytes.len() as u64, "{sent} bytes were read");
    workshop.assert_installed(STYLE, &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_ours_that_was_changed_is_not_loaded_again() {
    let workshop = Workshop::new().await;
    let (file, other) = (weights(SIZE, 1), weights(SIZE, 2));
    assert_eq!(file.bytes.len(), other.bytes.len());
    workshop.upload(STYLE, &file).await;
    let _worker = workshop.worker();
    workshop.run_well(STYLE, 1).await;
    let path = workshop.folder().join(STYLE);
    // Other bytes of the same size, with the old time put back.
    let modified = fs::metadata(&path).expect("it is there").modified();
    fs::write(&path, &other.bytes).expect("there is room");
    let changed = File::options()
        .write(true)
        .open(&path)
        .expect("it is there");
    changed
        .set_modified(modified.expect("a time"))
        .expect("it is ours");
    drop(changed);

    workshop.run_well(STYLE, 2).await;

    workshop.assert_installed(STYLE, &file);
    assert_is(
        &workshop.folder().join(format!("{STYLE}.foreign-1")),
        &other,
    );
    assert_eq!(listed(&workshop.site.backend).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_somebody_deleted_comes_back() {
    let workshop = Workshop::new().await;
    let file = weights(SIZE, 1);
    workshop.upload(STYLE, &file).await;
    let _worker = workshop.worker();
    workshop.run_well(STYLE, 1).await;

    fs::remove_dir_all(workshop.folder()).expect("it is there");
    workshop.run_well(STYLE, 2).await;

    workshop.assert_installed(STYLE, &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_whose_records_are_lost_are_known_by_their_bytes() {
    let workshop = Workshop::on_s3().await;
    let file = weights(SIZE, 1);
    workshop.upload(STYLE, &file).await;
    let mut worker = workshop.worker();
    workshop.run_well(STYLE, 1).await;
    worker.kill();
    let loras = &workshop.site.backend.loras;
    let records = loras.join(".atelier");
    assert!(!files_below(&records).is_empty(), "there were records");
    fs::remove_dir_all(&records).expect("they are there");
    let before = workshop.site.s3_gate().sent_bytes();
    let _worker = workshop.worker();

    workshop.run_well(STYLE, 2).await;

    let sent = workshop.site.s3_gate().sent_bytes() - before;
    assert!(sent < file.bytes.len() as u64, "{sent} bytes were read");
    workshop.assert_installed(STYLE, &file);
    assert_eq!(names_in(loras).len(), 1);
    let recorded = files_below(&records);
    let text = recorded
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| fs::read_to_string(path).expect("a text"))
        .collect::<String>();
    assert!(text.contains(&sha256_of(&file.bytes).to_string()), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_in_place_of_the_persons_folder_fails_the_run_and_stays() {
    let workshop = Workshop::new().await;
    let file = weights(SIZE, 1);
    workshop.upload(STYLE, &file).await;
    let elsewhere = workshop.site.backend.folder.join("elsewhere");
    fs::create_dir(&elsewhere).expect("it is new");
    let _worker = workshop.worker();

    fs::write(workshop.folder(), "somebody's notes").expect("there is room");
    let message = workshop.run_badly(STYLE, "lora_sync_failed").await;
    assert!(message.contains("operates this server"), "{message}");
    let kept = fs::read_to_string(workshop.folder()).expect("it is there");
    assert_eq!(kept, "somebody's notes");

    // A link could lead anywhere.
    fs::remove_file(workshop.folder()).expect("it is there");
    std::os::unix::fs::symlink(&elsewhere, workshop.folder()).expect("the folder is ours");
    workshop.run_badly(STYLE, "lora_sync_failed").await;
    assert_eq!(names_in(&elsewhere), Vec::<String>::new());
    assert!(workshop.folder().is_symlink());

    fs::remove_file(workshop.folder()).expect("it is there");
    workshop.run_well(STYLE, 2).await;
    workshop.assert_installed(STYLE, &file);
}

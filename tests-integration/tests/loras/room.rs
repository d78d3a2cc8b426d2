//! Room on a backend: what was not used for longest goes, what is in use stays, and what never
//! fits is told with the numbers.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::client::id_of;
use atelier_tests_integration::lora_file::LoraFile;
use reqwest::Method;

use crate::contents::{assert_is, names_in, parts_in, weights};
use crate::workshop::{PATIENCE, Workshop};

const SIZE: usize = 300_000;

/// Room for two files, and not for three.
const TWO_FILES: usize = 2 * SIZE + SIZE / 2;

/// Uploads `0.safetensors` and so on, and gives their names with them.
async fn files(workshop: &Workshop, count: u8) -> Vec<(String, LoraFile)> {
    let mut files = Vec::new();
    for number in 0..count {
        let (name, file) = (format!("{number}.safetensors"), weights(SIZE, number));
        workshop.upload(&name, &file).await;
        files.push((name, file));
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_used_for_longest_makes_room() {
    let workshop = Workshop::new().await;
    let files = files(&workshop, 3).await;
    let _worker = workshop.worker_with_quota(TWO_FILES);
    workshop.run_well("0.safetensors", 1).await;
    workshop.run_well("1.safetensors", 1).await;
    // Used later than the other one, though installed earlier.
    workshop.run_well("0.safetensors", 2).await;

    workshop.run_well("2.safetensors", 1).await;

    for (name, file) in [&files[0], &files[2]] {
        workshop.assert_installed(name, file);
    }
    assert!(!workshop.folder().join("1.safetensors").exists());
    // It comes back when it is needed.
    workshop.run_well("1.safetensors", 2).await;
    workshop.assert_installed(&files[1].0, &files[1].1);
    assert!(!workshop.folder().join("0.safetensors").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_put_there_never_makes_room() {
    let workshop = Workshop::new().await;
    let files = files(&workshop, 2).await;
    let loras = &workshop.site.backend.loras;
    let system = weights(SIZE, 50);
    std::fs::write(loras.join("system.safetensors"), &system.bytes).expect("there is room");
    let _worker = workshop.worker_with_quota(SIZE + SIZE / 2);

    workshop.run_well("0.safetensors", 1).await;
    workshop.run_well("1.safetensors", 1).await;

    assert_is(&loras.join("system.safetensors"), &system);
    workshop.assert_installed(&files[1].0, &files[1].1);
    assert!(!workshop.folder().join("0.safetensors").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lora_that_never_fits_fails_its_run_with_the_numbers() {
    let workshop = Workshop::new().await;
    let (small, large) = (weights(10_000, 1), weights(SIZE, 2));
    workshop.upload("small.safetensors", &small).await;
    workshop.upload("large.safetensors", &large).await;
    let _worker = workshop.worker_with_quota(SIZE / 2);
    workshop.run_well("small.safetensors", 1).await;

    let message = workshop
        .run_badly("large.safetensors", "lora_sync_failed")
        .await;

    for number in [large.bytes.len(), SIZE / 2] {
        assert!(message.contains(&number.to_string()), "{message}");
    }
    // Nothing was given up for what cannot be.
    workshop.assert_installed("small.safetensors", &small);
    assert!(!workshop.folder().join("large.safetensors").exists());
    assert_eq!(workshop.site.backend.prompts().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_that_do_not_fit_together_come_one_after_the_other() {
    let workshop = Workshop::with_steps_of(Duration::from_millis(150)).await;
    let files = files(&workshop, 2).await;
    let mut runs = Vec::new();
    for (name, _) in &files {
        runs.push(workshop.start(name, 1).await);
    }

    let _worker = workshop.worker_with_quota(SIZE + SIZE / 2);

    for run in &runs {
        let over = workshop.client.finished_run(run).await;
        assert_eq!(over["status"], "completed", "{over}");
        let prompt = over["comfyui_prompt_id"].as_str().expect("an id");
        assert_eq!(workshop.site.backend.executions(prompt), 1, "{over}");
    }
    assert_eq!(names_in(&workshop.site.backend.loras).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn prefetches_evictions_and_runs_do_each_other_no_harm() {
    let workshop = Workshop::new().await;
    let files = files(&workshop, 4).await;
    let ids = workshop.client.get("/loras").await.expect(200);
    let ids: Vec<_> = ids["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(id_of)
        .collect();
    let _workers = [
        workshop.worker_with_quota(TWO_FILES),
        workshop.worker_with_quota(TWO_FILES),
    ];
    let client = &workshop.client;
    let mut runs = Vec::new();
    for seed in 0..3 {
        for (name, _) in &files {
            runs.push(workshop.start(name, seed).await);
        }
        for id in &ids {
            let request = client.request(Method::POST, &format!("/loras/{id}/prefetch"));
            client.send(request).await.expect(202);
        }
    }

    for run in &runs {
        let over = client.finished_run(run).await;
        assert_eq!(over["status"], "completed", "{over}");
    }

    let loras = &workshop.site.backend.loras;
    wait_until("all copies to end", PATIENCE, async || {
        parts_in(loras).is_empty()
    })
    .await;
    let left = names_in(loras);
    assert!(!left.is_empty() && left.len() <= 2, "{left:?}");
    for (name, file) in &files {
        let path = workshop.folder().join(name);
        if path.exists() {
            assert_is(&path, file);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_evicts_nothing() {
    let workshop = Workshop::new().await;
    let files = files(&workshop, 3).await;
    let _worker = workshop.worker_with_quota(TWO_FILES);
    workshop.run_well("0.safetensors", 1).await;
    workshop.run_well("1.safetensors", 1).await;
    let list = workshop
        .client
        .get("/loras?q=2.safetensors")
        .await
        .expect(200);
    let path = format!("/loras/{}/prefetch", id_of(&list["items"][0]));
    let client = &workshop.client;
    let mut asked = serde_json::Value::Null;
    wait_until("the wish to be heard", PATIENCE, async || {
        let request = client.request(Method::POST, &path);
        asked = client.send(request).await.expect(202);
        asked["backends"]
            .as_array()
            .is_some_and(|told| !told.is_empty())
    })
    .await;
    let waiting = "select count(*) from comfyui_lora_prefetches where taken_at is null";
    wait_until("the wish to be looked at", PATIENCE, async || {
        workshop.site.database.count(waiting).await == 0
    })
    .await;

    workshop.run_well("0.safetensors", 2).await;

    for (name, file) in &files[..2] {
        workshop.assert_installed(name, file);
    }
    assert!(!workshop.folder().join("2.safetensors").exists());
}

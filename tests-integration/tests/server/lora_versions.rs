//! New bytes under an old filename: a version of their own, and the old one still there.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::{Answer, Client, id_of};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::picture::Picture;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::{files_below, objects_of};
use atelier_tests_integration::workflows::with_lora;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

const STYLE: &str = "style.safetensors";

/// Cleaning happens every second here.
const CLEANING: Duration = Duration::from_secs(30);

/// Uploads the file whose weights are all `fill`, in place of one of that filename.
async fn replace(client: &Client, filename: &str, fill: u8) -> Answer {
    let file = Part::bytes(LoraFile::small(fill).bytes).file_name(filename.to_owned());
    let form = Form::new().text("replace", "true").part("file", file);
    let request = client.request(Method::POST, "/loras").multipart(form);
    client.send(request).await
}

/// The picture of a run with that LoRA, and the path that ComfyUI was given.
async fn picture(client: &Client, lora: &str) -> (Vec<u8>, Value) {
    let run = client.run_to_the_end(&with_lora(lora)).await;
    assert_eq!(run["status"], "completed", "{run}");
    let picture = Picture::decode(&client.output(&run, 0).await);
    let path = picture.prompt()["10"]["inputs"]["lora_name"].clone();
    (picture.pixels, path)
}

/// What the file whose weights are all `fill` makes of the graph, seen by somebody who has no other.
async fn expected(fill: u8) -> Vec<u8> {
    let client = house().await.server.client();
    client.add_lora("expected.safetensors", fill).await;
    picture(&client, "expected.safetensors").await.0
}

/// The versions of a LoRA, as the list tells them.
async fn versions(client: &Client, id: &str) -> Vec<Value> {
    let list = client
        .get(&format!("/loras/{id}/versions"))
        .await
        .expect(200);
    let items = list["items"].as_array().expect("a list");
    items.clone()
}

fn numbers(versions: &[Value]) -> Vec<u64> {
    let numbers = versions.iter().map(|lora| lora["version"].as_u64());
    numbers.collect::<Option<_>>().expect("every one has one")
}

/// The keys of somebody's LoRA objects.
async fn wait_for_files(client: &Client, count: usize) {
    let site = &house().await.site;
    let folder = site
        .backend
        .loras
        .join(format!("user-{}", client.person().id));
    wait_until("objects and copies of what is left", CLEANING, async || {
        let mut keys = objects_of(site, client.person());
        keys.retain(|key| key.starts_with("loras/"));
        let copies = files_below(&folder).into_iter();
        let copies = copies.filter(|file| file.extension().is_some_and(|end| end == "safetensors"));
        keys.len() == count && copies.count() == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_are_refused_until_they_may_replace() {
    let client = house().await.server.client();
    let first = client.add_lora(STYLE, 1).await;

    let refused = client
        .upload_lora(STYLE, LoraFile::small(2).bytes)
        .await
        .expect_problem(409, "lora-filename-taken");
    let second = replace(&client, STYLE, 2).await.expect(201);

    assert!(refused.to_string().contains("replace"), "{refused}");
    assert!(refused.to_string().contains(&id_of(&first)), "{refused}");
    assert_eq!(
        (&first["version"], &second["version"]),
        (&json!(1), &json!(2))
    );
    assert_ne!(first["id"], second["id"]);
    assert_ne!(first["comfyui_path"], second["comfyui_path"]);
    assert_eq!(second["sha256"], LoraFile::small(2).sha256());
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"], json!([second]));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_get_the_bytes_that_the_name_stands_for() {
    let client = house().await.server.client();
    let first = client.add_lora(STYLE, 1).await;
    let before = picture(&client, STYLE).await;
    let second = replace(&client, STYLE, 2).await.expect(201);

    let latest = picture(&client, STYLE).await;
    let old = picture(&client, "style.safetensors@1").await;
    let new = picture(&client, "style.safetensors@2").await;

    let (ones, twos) = (expected(1).await, expected(2).await);
    assert_ne!(ones, twos);
    assert_eq!(before, (ones.clone(), first["comfyui_path"].clone()));
    assert_eq!(latest, (twos.clone(), second["comfyui_path"].clone()));
    assert_eq!(old, (ones, first["comfyui_path"].clone()));
    assert_eq!(new, (twos, second["comfyui_path"].clone()));
    for absent in ["style.safetensors@3", "style.safetensors@0", "style@1"] {
        let workflow = client.create_workflow(&with_lora(absent), false).await;
        let run = format!("/workflows/{workflow}/run");
        let pointers = client
            .post(&run, &json!({}))
            .await
            .expect_pointers(422, "validation");
        assert_eq!(pointers, ["/workflow_json/10/inputs/lora_name"], "{absent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_listed_for_their_owner() {
    let server = &house().await.server;
    let (client, stranger) = (server.client(), server.client());
    let first = id_of(&client.add_lora(STYLE, 1).await);
    let second = id_of(&replace(&client, STYLE, 2).await.expect(201));
    let third = id_of(&replace(&client, STYLE, 3).await.expect(201));
    client.add_lora("other.safetensors", 9).await;

    for id in [&first, &second, &third] {
        let versions = versions(&client, id).await;
        assert_eq!(numbers(&versions), [3, 2, 1]);
        let hashes: Vec<_> = versions.iter().map(|lora| lora["sha256"].clone()).collect();
        let expected = [3, 2, 1].map(|fill| json!(LoraFile::small(fill).sha256()));
        assert_eq!(hashes, expected);
        let superseded = versions
            .iter()
            .map(|lora| lora["superseded_at"].is_string());
        assert_eq!(superseded.collect::<Vec<_>>(), [false, true, true]);
        stranger
            .get(&format!("/loras/{id}/versions"))
            .await
            .expect_problem(404, "lora-not-found");
    }
    // Each keeps its own bytes.
    for (id, fill) in [(&first, 1), (&second, 2), (&third, 3)] {
        let content = client.get(&format!("/loras/{id}/content")).await;
        assert_eq!(content.bytes, LoraFile::small(fill).bytes);
    }
    let list = client.get("/loras?limit=200").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_is_deleted_alone() {
    let client = house().await.server.client();
    let first = id_of(&client.add_lora(STYLE, 1).await);
    picture(&client, STYLE).await;
    let second = id_of(&replace(&client, STYLE, 2).await.expect(201));
    picture(&client, STYLE).await;
    wait_for_files(&client, 2).await;

    client.delete(&format!("/loras/{first}")).await.expect(204);

    client
        .get(&format!("/loras/{first}"))
        .await
        .expect_problem(404, "lora-not-found");
    assert_eq!(numbers(&versions(&client, &second).await), [2]);
    wait_for_files(&client, 1).await;
    assert_eq!(picture(&client, STYLE).await.0, expected(2).await);
    let workflow = client
        .create_workflow(&with_lora("style.safetensors@1"), false)
        .await;
    let run = client
        .post(&format!("/workflows/{workflow}/run"), &json!({}))
        .await;
    run.expect_problem(422, "validation");
    // A number is never given twice.
    let third = replace(&client, STYLE, 1).await.expect(201);
    assert_eq!(third["version"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_version_takes_all_with_it() {
    let client = house().await.server.client();
    let first = id_of(&client.add_lora(STYLE, 1).await);
    picture(&client, STYLE).await;
    let second = id_of(&replace(&client, STYLE, 2).await.expect(201));
    picture(&client, STYLE).await;
    wait_for_files(&client, 2).await;

    client.delete(&format!("/loras/{second}")).await.expect(204);

    for id in [&first, &second] {
        client
            .get(&format!("/loras/{id}"))
            .await
            .expect_problem(404, "lora-not-found");
    }
    wait_for_files(&client, 0).await;
    // The filename is free; a path that was ever used is not.
    let again = client.add_lora(STYLE, 3).await;
    assert_eq!(
        picture(&client, STYLE).await,
        (expected(3).await, again["comfyui_path"].clone())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_again_are_what_is_there() {
    let house = house().await;
    let client = house.server.client();
    let first = client.add_lora(STYLE, 1).await;

    let same = client
        .upload_lora(STYLE, LoraFile::small(1).bytes)
        .await
        .expect(200);
    let replaced = replace(&client, STYLE, 1).await.expect(200);

    assert_eq!(same, first);
    assert_eq!(replaced, first);
    wait_until("one object to be left", CLEANING, async || {
        objects_of(&house.site, client.person()) == [format!("loras/{STYLE}")]
    })
    .await;
    // Under another filename they are another LoRA.
    let other = client.add_lora("other.safetensors", 1).await;
    assert_ne!(other["id"], first["id"]);
    let new = replace(&client, "new.safetensors", 1).await.expect(201);
    assert_eq!(new["version"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_fails_leaves_what_was_there() {
    let client = house().await.server.client();
    let first = client.add_lora(STYLE, 1).await;
    let mut cut_short = LoraFile::small(2).bytes;
    cut_short.pop();
    let file = Part::bytes(cut_short).file_name(STYLE);
    let form = Form::new().text("replace", "true").part("file", file);

    let refused = client
        .send(client.request(Method::POST, "/loras").multipart(form))
        .await;

    refused.expect_problem(422, "validation");
    let kept = client
        .get(&format!("/loras/{}", id_of(&first)))
        .await
        .expect(200);
    assert_eq!(kept, first);
    assert_eq!(picture(&client, STYLE).await.0, expected(1).await);
    assert_eq!(replace(&client, STYLE, 2).await.expect(201)["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_keeps_the_bytes_that_it_was_given() {
    let backend =
        Backend::start_with(|options| options.step_delay = Duration::from_millis(50)).await;
    let site = Site::with_backend(ATELIER, backend).await;
    let server = site.serve();
    let client = server.client();
    let first = client.add_lora(STYLE, 1).await;
    let occupation = site.backend.occupy(10_000).await;
    let workflow = client.create_workflow(&with_lora(STYLE), false).await;
    let waiting = client.start_run(&workflow, &json!({})).await;
    let second = replace(&client, STYLE, 2).await.expect(201);
    client
        .delete(&format!("/loras/{}", id_of(&second)))
        .await
        .expect(204);

    occupation.end().await;

    let run = client.finished_run(&waiting).await;
    assert_eq!(run["status"], "completed", "{run}");
    let picture = Picture::decode(&client.output(&run, 0).await);
    assert_eq!(
        picture.prompt()["10"]["inputs"]["lora_name"],
        first["comfyui_path"]
    );
    assert_eq!(picture.pixels, expected(1).await);
    // Then all of it goes.
    wait_until("objects and copies to be gone", CLEANING, async || {
        let keys = objects_of(&site, client.person());
        let folder = site
            .backend
            .loras
            .join(format!("user-{}", client.person().id));
        !keys.iter().any(|key| key.starts_with("loras/")) && files_below(&folder).is_empty()
    })
    .await;
}

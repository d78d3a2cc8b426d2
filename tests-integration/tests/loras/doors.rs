//! Every other door to another person's LoRA: hashes, lists, uploads, ids, failures. All are as
//! shut for what is there as for what never was.

use std::collections::BTreeSet;

use atelier_testkit::drive_double::DriveDouble;
use atelier_testkit::{PATIENCE, wait_until};
use atelier_tests_integration::client::{Answer, Client, id_of};
use atelier_tests_integration::imports;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::uploads::{self, Upload};
use atelier_tests_integration::workflows::{with_lora, without_lora};
use reqwest::Method;
use serde_json::{Value, json};

use crate::ATELIER;
use crate::neighbours::{Neighbours, SYSTEM, neighbours, replace};

/// An id that is nobody's.
const NOWHERE: &str = "0a000000-0000-7000-8000-000000000001";

fn filename(house: &Neighbours) -> String {
    format!("{}.safetensors", house.secret.stem)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hash_finds_another_persons_lora() {
    let house = neighbours().await;
    let (stranger, file) = (house.server.client(), &house.file);
    let absent = LoraFile::small(99);

    for (there, nowhere) in [
        (file.sha256(), absent.sha256()),
        (file.blake3(), absent.blake3()),
        (file.auto_v2(), absent.auto_v2()),
        (file.auto_v3(), absent.auto_v3()),
    ] {
        let path = |hash: &str| format!("/loras?hash={hash}");
        let own = house.owner.get(&path(&there)).await.expect(200);
        assert_eq!(own["items"][0]["id"], house.loras[1]["id"], "{there}");
        let found = stranger.get(&path(&there)).await.expect(200);
        let expected = stranger.get(&path(&nowhere)).await.expect(200);
        assert_eq!(found, expected, "{there}");
        assert_eq!(found["items"], json!([]), "{there}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_tells_of_another_persons_lora() {
    let house = neighbours().await;
    let stranger = house.server.client();
    let (secret, file) = (&house.secret, filename(house));

    wait_until("what ComfyUI offers to be known", PATIENCE, async || {
        let list = stranger.get("/loras/system").await.expect(200);
        list["items"].as_array().map(Vec::len) == Some(SYSTEM.len())
    })
    .await;
    for path in [
        "/loras/system".to_owned(),
        format!("/loras?q={}", secret.stem),
        format!("/loras?q={}", secret.owner),
        format!("/loras?q={}", &file[..4]),
        "/loras?status=ready&limit=200".to_owned(),
        "/loras?base_model=SD%201.x".to_owned(),
        "/runs?limit=200".to_owned(),
        "/workflows?scope=own".to_owned(),
    ] {
        let answer = stranger.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        secret.assert_untold(&answer.text());
    }
    // What is ComfyUI's own is nobody's own files, their owner's neither.
    let offered = house.owner.get("/loras/system").await;
    secret.assert_untold(&offered.text());
}

/// What an answer says but for what every answer has of its own.
fn told(answer: &Answer) -> (u16, Value) {
    let mut body: Value = serde_json::from_slice(&answer.bytes).unwrap_or_default();
    if let Some(members) = body.as_object_mut() {
        for own in ["id", "created_at", "instance", "user_id"] {
            members.remove(own);
        }
    }
    (answer.status.as_u16(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_does_not_tell_that_somebody_has_the_name_or_the_bytes() {
    let house = neighbours().await;
    let (name, file) = (filename(house), &house.file);

    for bytes in [
        // Bytes that the other person has under the name, and ones that nobody has.
        file.bytes.clone(),
        LoraFile::small(98).bytes,
    ] {
        let (stranger, newcomer) = (house.server.client(), house.server.client());
        let taken = stranger.upload_lora(&name, bytes.clone()).await;
        let free = newcomer
            .upload_lora(&name.replace("hidden", "absent"), bytes)
            .await;
        let (status, lora) = told(&taken);
        assert_eq!(status, 201, "{lora}");
        house.secret.assert_untold(&lora["user_id"].to_string());
        let of_stranger = lora.to_string();
        let of_newcomer = told(&free).1.to_string().replace("absent", "hidden");
        let newcomer_id = newcomer.person().id.to_string();
        let stranger_id = stranger.person().id.to_string();
        assert_eq!(of_stranger, of_newcomer.replace(&newcomer_id, &stranger_id));
        assert_eq!(lora["version"], 1, "{lora}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_pieces_does_not_tell_it_either() {
    let house = neighbours().await;
    let stranger = house.server.client();
    let (name, bytes) = (filename(house), house.file.bytes.clone());

    let taken = uploads::create(&stranger, bytes.len(), &[("filename", &name)]).await;
    let free = uploads::create(&stranger, bytes.len(), &[("filename", "free.safetensors")]).await;

    assert_eq!((taken.status, free.status.as_u16()), (free.status, 201));
    // In no order: a map of headers has none of its own.
    let names = |answer: &Answer| -> BTreeSet<String> {
        let names = answer.headers.keys().map(ToString::to_string);
        names.collect()
    };
    assert_eq!(names(&taken), names(&free));
    // The same bytes are a file of one's own in the end.
    let upload = Upload::begin(&stranger, "own.safetensors", bytes.len()).await;
    upload.add(0, &bytes).await;
    let path = format!("/loras/{}", upload.id());
    let lora = stranger.get(&path).await.expect(200);
    house.secret.assert_untold(&lora.to_string());
    assert_ne!(lora["id"], house.loras[1]["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_does_not_tell_it_either() {
    let house = neighbours().await;
    let drive = DriveDouble::start().expect("there is a free port");
    let server = imports::with_drive(house.site.setup(), &drive).start();
    let file = imports::put(&drive, "anything.safetensors", &house.file);
    let name = filename(house);

    let mut told_of = Vec::new();
    for name in [name.clone(), name.replace("hidden", "absent")] {
        let client = server.client();
        let body = json!({"google_drive_file_id": file, "filename": name});
        let begun = imports::import(&client, &body).await;
        let (status, lora) = (begun.status.as_u16(), begun.json());
        assert_eq!(status, 202, "{lora}");
        assert_eq!(lora["filename"], name, "{lora}");
        let mut lora = imports::ready(&client, &id_of(&lora)).await;
        assert_eq!(lora["version"], 1, "{lora}");
        for own in ["id", "created_at"] {
            lora[own].take();
        }
        let id = client.person().id.to_string();
        told_of.push(lora.to_string().replace(&id, "whoever"));
    }

    assert_eq!(told_of[0], told_of[1].replace("absent", "hidden"));
    assert!(!told_of[0].contains(&house.secret.owner), "{}", told_of[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_of_another_persons_is_as_absent_as_one_that_never_was() {
    let house = neighbours().await;
    let (owner, stranger) = (house.server.client(), house.server.client());
    let bytes = LoraFile::small(97).bytes;
    let upload = Upload::begin(&owner, "own.safetensors", bytes.len()).await;
    upload.add(0, &bytes[..100]).await;
    let theirs = upload.through(&stranger);
    let mut nowhere = theirs.clone();
    nowhere.path = nowhere.path.replace(upload.id(), NOWHERE);

    for answers in [
        (theirs.head().await, nowhere.head().await),
        (
            theirs.append(100, &bytes[100..]).await,
            nowhere.append(100, &bytes[100..]).await,
        ),
        (
            theirs.append(7, &bytes[7..]).await,
            nowhere.append(7, &bytes[7..]).await,
        ),
        (theirs.terminate().await, nowhere.terminate().await),
    ] {
        let (refused, absent) = (told(&answers.0), told(&answers.1));
        assert_eq!(refused, absent);
        assert_eq!(refused.0, 404, "{}", answers.0.text());
    }
    assert_eq!(upload.offset().await, 100);
}

/// The operations below `/loras/{id}`, as the server documents them.
async fn operations(client: &Client) -> Vec<(Method, String)> {
    let document = client.send(client.at(Method::GET, "/openapi.json")).await;
    let document = document.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (path, item) in paths
        .iter()
        .filter(|(path, _)| path.contains("/loras/{id}"))
    {
        for method in item.as_object().expect("operations").keys() {
            if let Ok(method) = method.to_uppercase().parse() {
                operations.push((method, path.clone()));
            }
        }
    }
    operations
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_on_another_persons_lora_answers_as_for_one_that_never_was() {
    let house = neighbours().await;
    let stranger = house.server.client();
    let operations = operations(&stranger).await;
    assert!(operations.len() >= 5, "{operations:?}");
    let versions = house.loras.clone();
    let before = house.owner.get("/loras").await.expect(200);

    for (method, path) in &operations {
        for lora in &versions {
            let at = |id: &str| stranger.at(method.clone(), &path.replace("{id}", id));
            let refused = stranger.send(at(&id_of(lora))).await;
            let absent = stranger.send(at(NOWHERE)).await;
            assert_eq!(told(&refused), told(&absent), "{method} {path}");
            assert_eq!(refused.status, 404, "{method} {path}");
            house.secret.assert_untold(&refused.text());
        }
    }

    assert_eq!(house.owner.get("/loras").await.expect(200), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_ones_own_is_refused_without_a_word_of_others_who_have_it() {
    let house = neighbours().await;
    let (stranger, name) = (house.server.client(), filename(house));
    stranger.add_lora(&name, 1).await;

    let refused = stranger.upload_lora(&name, LoraFile::small(2).bytes).await;
    let problem = refused.expect_problem(409, "lora-filename-taken");
    let text = problem.to_string();
    assert!(!text.contains(&house.secret.owner), "{text}");
    for lora in &house.loras {
        assert!(!text.contains(&id_of(lora)), "{text}");
    }
    // Versions are counted for each person.
    let second = replace(&stranger, &name, LoraFile::small(2).bytes).await;
    assert_eq!(second["version"], 2);
    let path = format!("/loras/{}/versions", id_of(&second));
    let versions = stranger.get(&path).await.expect(200);
    assert_eq!(versions["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_tells_nothing_of_other_peoples_files() {
    let site = Site::new(ATELIER).await;
    let system = site.backend.loras.join("system.safetensors");
    std::fs::write(&system, LoraFile::small(200).bytes).expect("there is room");
    let mut worker = site.serve();
    let other = worker.client();
    other.add_lora("hidden-style.safetensors", 1).await;
    let run = other
        .run_to_the_end(&with_lora("hidden-style.safetensors"))
        .await;
    assert_eq!(run["status"], "completed", "{run}");
    worker.process.kill();
    let server = site.serve_without_worker();
    let client = server.client();
    let mut runs = Vec::new();
    // What the run was given is gone when it begins: ComfyUI's own words list every file it has.
    for name in ["system.safetensors", "own.safetensors"] {
        if name.starts_with("own") {
            client.add_lora(name, 2).await;
        }
        let workflow = client.create_workflow(&with_lora(name), false).await;
        runs.push(client.start_run(&workflow, &json!({})).await);
    }
    std::fs::remove_file(&system).expect("it was there");
    let object = format!("user-{}/loras/own.safetensors", client.person().id);
    std::fs::remove_file(site.objects.join(object)).expect("it was there");
    // And a sampler that is none, which ComfyUI refuses with a list of those it has.
    let mut graph = without_lora();
    graph["3"]["inputs"]["sampler_name"] = json!("nobody's");
    let workflow = client.create_workflow(&graph, false).await;
    runs.push(client.start_run(&workflow, &json!({})).await);

    let _worker = site.setup().arguments(&["worker"]).spawn();

    for run in runs {
        let over = client.finished_run(&run).await;
        assert_eq!(over["status"], "failed", "{over}");
        let sql = format!(
            "select coalesce(string_agg(e::text, ' '), '') from comfyui_run_events as e \
             where run_id = '{run}'"
        );
        let everything = format!("{over} {}", site.database.text(&sql).await);
        assert!(everything.contains("failed"), "{everything}");
        for word in ["hidden-style", &other.person().id.to_string()] {
            assert!(!everything.contains(word), "{word}: {everything}");
        }
    }
}

//! Pictures that people upload, and graphs that load them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::database::Database;
use atelier_tests_integration::picture::Picture;
use atelier_tests_integration::scratch;
use atelier_tests_integration::server::{Server, ServerSetup};
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{without_lora, without_models};
use serde_json::{Value, json};

use crate::house::ATELIER;

/// Stable Diffusion 1.5 from a picture to a picture.
fn from_picture(name: &str) -> Value {
    let mut graph = without_lora();
    graph["1"] = json!({"class_type": "LoadImage", "inputs": {"image": name}});
    graph["2"] = json!({"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}});
    graph["11"] = json!({"class_type": "SaveImage",
                         "inputs": {"images": ["2", 0], "filename_prefix": "inverted"}});
    graph
}

/// A picture that ComfyUI itself made, which it therefore reads.
async fn a_picture(client: &Client) -> Vec<u8> {
    let run = client.run_to_the_end(&without_models(1)).await;
    assert_eq!(run["status"], "completed", "{run}");
    client.output(&run, 0).await
}

fn placed(backend: &Backend, input: &Value) -> PathBuf {
    let path = input["comfyui_path"].as_str().expect("a path");
    backend.folder.join("input").join(path)
}

async fn refused(client: &Client, graph: &Value) -> Vec<String> {
    let workflow = client.create_workflow(graph, false).await;
    let path = format!("/workflows/{workflow}/run");
    let answer = client.post(&path, &json!({})).await;
    answer.expect_pointers(422, "validation")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uploaded_picture_is_put_below_its_owners_folder_and_loaded() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let client = server.client();
    let bytes = a_picture(&client).await;

    let input = client.upload_input("cat.png", bytes.clone()).await;
    let input = input.expect(201);
    let run = client.run_to_the_end(&from_picture("cat.png")).await;

    assert_eq!(run["status"], "completed", "{run}");
    let folder = format!("user-{}/", client.person().id);
    let path = input["comfyui_path"].as_str().expect("a path");
    assert!(path.starts_with(&folder), "{path}");
    let on_disk = fs::read(placed(&site.backend, &input)).expect("it is there");
    assert_eq!(on_disk, bytes);
    // What came out is what went in, turned around.
    let outputs = run["outputs"].as_array().expect("outputs");
    let inverted = outputs
        .iter()
        .position(|output| output["node_id"] == "11")
        .expect("the inverted one");
    let inverted = Picture::decode(&client.output(&run, inverted).await);
    let original = Picture::decode(&bytes);
    let turned: Vec<u8> = original.pixels.iter().map(|value| 255 - value).collect();
    assert_eq!(inverted.pixels, turned);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reaches_another_persons_picture() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let (owner, other) = (server.client(), server.client());
    let bytes = a_picture(&owner).await;
    let input = owner
        .upload_input("mine.png", bytes.clone())
        .await
        .expect(201);
    let run = owner.run_to_the_end(&from_picture("mine.png")).await;
    assert_eq!(run["status"], "completed", "{run}");
    // Something of everybody's lies there, too.
    fs::write(site.backend.folder.join("input/shared.png"), bytes).expect("there is room");
    let path = input["comfyui_path"].as_str().expect("a path");
    let owner_id = owner.person().id;

    for name in [
        path.to_owned(),
        format!("{path} [input]"),
        format!("../input/{path}"),
        format!("USER-{owner_id}/mine.png"),
        "mine.png".to_owned(),
        "shared.png".to_owned(),
        "https://a.example/cat.png".to_owned(),
        "HTTP://169.254.169.254/latest".to_owned(),
    ] {
        let pointers = refused(&other, &from_picture(&name)).await;
        assert_eq!(pointers, ["/workflow_json/1/inputs/image"], "{name}");
    }
    let id = id_of(&input);
    for path in [format!("/inputs/{id}"), format!("/inputs/{id}/content")] {
        other
            .get(&path)
            .await
            .expect_problem(404, "input-not-found");
    }
    let gone = other.delete(&format!("/inputs/{id}")).await;
    gone.expect_problem(404, "input-not-found");
    assert_eq!(other.get("/inputs").await.expect(200)["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_that_runs_code_is_refused_unless_the_operator_says_otherwise() {
    let site = Site::new(ATELIER).await;
    let graph = || {
        let mut graph = without_models(1);
        graph["7"] = json!({"class_type": "SRL Eval", "inputs": {"code": "return 1"}});
        graph
    };

    let usual = site.serve();
    let pointers = refused(&usual.client(), &graph()).await;
    assert_eq!(pointers, ["/workflow_json/7/class_type"]);
    drop(usual);

    let told = site.setup().with("ATELIER_NODE_DENY", "Empty*").start();
    let pointers = refused(&told.client(), &graph()).await;
    assert_eq!(pointers, ["/workflow_json/1/class_type"]);
}

/// A server with two backends and a folder for objects.
async fn on_two_backends() -> (Server, Backend, Backend, Database, PathBuf) {
    let database = Database::new(ATELIER).await;
    // So slow that one backend alone would not do all the work.
    let slow = || Backend::start_with(|options| options.step_delay = Duration::from_millis(10));
    let (one, two) = (slow().await, slow().await);
    let objects = scratch::folder("objects");
    let setup = ServerSetup::new(ATELIER, &database, &objects, &one.url(), &one.loras)
        .with_backends(&[("one", &one), ("two", &two)]);
    (setup.start(), one, two, database, objects)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_goes_to_every_backend_whose_runs_need_it_and_waits_for_them_when_deleted() {
    let (server, one, two, _database, _objects) = on_two_backends().await;
    let client = server.client();
    let bytes = a_picture(&client).await;
    let input = client
        .upload_input("cat.png", bytes.clone())
        .await
        .expect(201);
    let workflow = client
        .create_workflow(&from_picture("cat.png"), false)
        .await;
    let mut runs = Vec::new();
    for seed in 0..12 {
        let params = json!({"3.seed": seed, "3.steps": 30});
        runs.push(client.start_run(&workflow, &params).await);
    }

    // Some of the runs wait for it still.
    let deleted = client.delete(&format!("/inputs/{}", id_of(&input))).await;
    deleted.expect(204);

    for run in &runs {
        let run = client.finished_run(run).await;
        assert_eq!(run["status"], "completed", "{run}");
    }
    for backend in [&one, &two] {
        let on_disk = fs::read(placed(backend, &input)).expect("it is on both");
        assert_eq!(on_disk, bytes);
    }
    let pointers = refused(&client, &from_picture("cat.png")).await;
    assert_eq!(pointers, ["/workflow_json/1/inputs/image"]);
}

//! Store a workflow, upload a LoRA, run the one with the other, get the picture back.

use atelier_comfyui_sim::{Credentials, Faults, Front, Version};
use atelier_testkit::build::{safetensors_bytes, sha256_of};
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::picture::Picture;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{with_lora, without_lora, without_models};
use serde_json::{Value, json};

use crate::house::{ATELIER, SYSTEM_LORA, house};

const STYLE: &str = "style.safetensors";

#[track_caller]
fn assert_completed(run: &Value) {
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(run["error"], Value::Null, "{run}");
}

/// Uploads a LoRA, runs a workflow with it, fetches the picture, and checks all of it.
async fn do_the_job(client: &Client, backend: &Backend) -> Value {
    let user = client.person().id;
    let file = safetensors_bytes(1);
    let lora = client.add_lora(STYLE, 1).await;
    assert_eq!(lora["status"], "ready", "{lora}");
    assert_eq!(lora["comfyui_path"], format!("user-{user}/{STYLE}"));
    assert_eq!(lora["sha256"], sha256_of(&file).to_string());

    let run = client.run_to_the_end(&with_lora(STYLE)).await;

    assert_completed(&run);
    let bytes = client.output(&run, 0).await;
    let prompt = Picture::decode(&bytes).prompt();
    let prefix = format!("user-{user}/{}/", run["id"].as_str().expect("an id"));
    assert_eq!(prompt["10"]["inputs"]["lora_name"], lora["comfyui_path"]);
    assert!(
        prompt["9"]["inputs"]["filename_prefix"]
            .as_str()
            .is_some_and(|text| text.starts_with(&prefix)),
        "{prompt}"
    );
    assert_eq!(run["outputs"][0]["sha256"], sha256_of(&bytes).to_string());
    let installed = backend.loras.join(format!("user-{user}")).join(STYLE);
    assert_eq!(std::fs::read(installed).expect("it is there"), file);
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_with_a_lora_ends_with_a_picture_that_names_it() {
    let house = house().await;
    let client = house.server.client();
    let user = client.person().id;

    let run = do_the_job(&client, &house.site.backend).await;

    let output = &run["outputs"][0];
    assert_eq!(run["outputs"].as_array().map(Vec::len), Some(1), "{run}");
    assert_eq!(run["output_images"], json!([output["url"]]));
    assert_eq!(run["user_id"], user.to_string());
    assert_eq!(run["comfyui_prompt_id"], run["id"]);
    assert_eq!(run["attempt"], 1);
    assert_eq!(run["progress"]["value"], 1.0);
    assert_eq!(output["node_id"], "9");
    assert_eq!(output["kind"], "image");
    assert_eq!(output["content_type"], "image/png");
    assert_eq!(
        (&output["width"], &output["height"]),
        (&json!(64), &json!(64))
    );
    let objects = house.site.objects.join(format!("user-{user}"));
    assert!(objects.join("loras").join(STYLE).is_file());
    let run_folder = objects
        .join("runs")
        .join(run["id"].as_str().expect("an id"));
    assert_eq!(
        std::fs::read_dir(run_folder).expect("it is there").count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_version_of_comfyui_does_the_same_job() {
    let backend = Backend::start_with(|options| options.version = Version::V0_3_64).await;
    let site = Site::with_backend(ATELIER, backend).await;
    let server = site.serve();

    do_the_job(&server.client(), &site.backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_may_lie_in_an_s3_server() {
    let site = Site::new(ATELIER).await.on_s3();
    let server = site.serve();
    let client = server.client();

    do_the_job(&client, &site.backend).await;

    let loras = client.get("/loras").await.expect(200);
    let id = loras["items"][0]["id"].as_str().expect("an id").to_owned();
    let content = client.get(&format!("/loras/{id}/content")).await;
    assert_eq!(content.bytes, safetensors_bytes(1));
    let s3 = site.s3.as_ref().expect("the site is on S3");
    let user = client.person().id;
    let object = s3
        .folder()
        .join(s3.bucket())
        .join(format!("user-{user}/loras/{STYLE}"));
    assert!(object.is_file(), "{}", object.display());
}

#[tokio::test(flavor = "multi_thread")]
async fn comfyui_may_stand_behind_a_proxy_that_wants_credentials() {
    let basic = Credentials {
        basic: Some(("web".to_owned(), "pass:word".to_owned())),
        token: None,
    };
    let bearer = Credentials {
        basic: None,
        token: Some("the-web-token".to_owned()),
    };
    for (credentials, front, variables) in [
        (
            basic,
            Front::Redirect,
            vec![
                ("COMFYUI_WEB_USER", "web"),
                ("COMFYUI_WEB_PASSWORD", "pass:word"),
            ],
        ),
        (
            bearer,
            Front::Unauthorized,
            vec![("COMFYUI_WEB_TOKEN", "the-web-token")],
        ),
    ] {
        let backend = Backend::start_with(|options| {
            options.control = false;
            options.credentials = Some(credentials);
            options.faults = Faults {
                front: Some(front),
                ..Faults::default()
            };
        })
        .await;
        let site = Site::with_backend(ATELIER, backend).await;
        let setup = variables
            .into_iter()
            .fold(site.setup(), |setup, (name, value)| setup.with(name, value));
        let server = setup.start();

        let run = server.client().run_to_the_end(&without_lora()).await;

        assert_completed(&run);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_without_models_makes_a_batch_of_three() {
    let client = house().await.server.client();

    let run = client.run_to_the_end(&without_models(3)).await;

    assert_completed(&run);
    let outputs = run["outputs"].as_array().expect("a list");
    assert_eq!(outputs.len(), 3, "{run}");
    assert_eq!(run["output_images"].as_array().map(Vec::len), Some(3));
    for (index, output) in outputs.iter().enumerate() {
        let bytes = client.output(&run, index).await;
        let picture = Picture::decode(&bytes);
        assert_eq!(output["index"], index);
        assert_eq!(run["output_images"][index], output["url"]);
        assert_eq!(
            (&output["width"], &output["height"]),
            (&json!(16), &json!(16))
        );
        assert_eq!((picture.width, picture.height), (16, 16));
        assert_eq!(output["size_bytes"], bytes.len());
        assert_eq!(output["sha256"], sha256_of(&bytes).to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strength_and_bytes_of_a_lora_change_the_pixels() {
    let client = house().await.server.client();
    client.add_lora(STYLE, 1).await;
    client.add_lora("other.safetensors", 2).await;
    let picture = async |change: &dyn Fn(&mut Value)| {
        let mut graph = with_lora(STYLE);
        change(&mut graph["10"]["inputs"]);
        let run = client.run_to_the_end(&graph).await;
        assert_completed(&run);
        Picture::decode(&client.output(&run, 0).await).pixels
    };

    let first = picture(&|_| {}).await;
    let again = picture(&|_| {}).await;
    let weaker = picture(&|inputs| inputs["strength_model"] = json!(0.5)).await;
    let other = picture(&|inputs| inputs["lora_name"] = json!("other.safetensors")).await;

    assert_eq!(first, again);
    assert_ne!(first, weaker);
    assert_ne!(first, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_runs_again_and_is_never_changed_by_it() {
    let client = house().await.server.client();
    client.add_lora(STYLE, 1).await;
    let graph = with_lora(STYLE);
    let workflow = client.create_workflow(&graph, false).await;

    let first = client.start_run(&workflow, &json!({})).await;
    let first = client.finished_run(&first).await;
    let second = client.start_run(&workflow, &json!({"seed": 7})).await;
    let second = client.finished_run(&second).await;

    assert_completed(&first);
    assert_completed(&second);
    assert_ne!(
        first["outputs"][0]["sha256"],
        second["outputs"][0]["sha256"]
    );
    let prompt = Picture::decode(&client.output(&second, 0).await).prompt();
    assert_eq!(prompt["3"]["inputs"]["seed"], 7);
    let kept = client
        .get(&format!("/workflows/{workflow}"))
        .await
        .expect(200);
    assert_eq!(kept["workflow_json"], graph);
    let runs = client
        .get(&format!("/workflows/{workflow}/runs"))
        .await
        .expect(200);
    let ids: Vec<_> = runs["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| &run["id"])
        .collect();
    assert_eq!(ids, [&second["id"], &first["id"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lora_that_comfyui_itself_offers_is_left_alone() {
    let client = house().await.server.client();

    let run = client.run_to_the_end(&with_lora(SYSTEM_LORA)).await;

    assert_completed(&run);
    let prompt = Picture::decode(&client.output(&run, 0).await).prompt();
    assert_eq!(prompt["10"]["inputs"]["lora_name"], SYSTEM_LORA);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_workflow_runs_with_the_loras_of_whoever_runs_it() {
    let house = house().await;
    let (owner, guest) = (house.server.client(), house.server.client());
    owner.add_lora(STYLE, 1).await;
    guest.add_lora(STYLE, 2).await;
    let workflow = owner.create_workflow(&with_lora(STYLE), true).await;

    let run = guest.start_run(&workflow, &json!({})).await;
    let run = guest.finished_run(&run).await;

    assert_completed(&run);
    assert_eq!(run["user_id"], guest.person().id.to_string());
    let prompt = Picture::decode(&guest.output(&run, 0).await).prompt();
    assert_eq!(
        prompt["10"]["inputs"]["lora_name"],
        format!("user-{}/{STYLE}", guest.person().id)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_under_an_old_filename_get_a_path_of_their_own() {
    let client = house().await.server.client();
    let first = client.add_lora(STYLE, 1).await;
    let before = client.run_to_the_end(&with_lora(STYLE)).await;
    let id = first["id"].as_str().expect("an id");
    client.delete(&format!("/loras/{id}")).await.expect(204);

    let second = client.add_lora(STYLE, 2).await;
    let after = client.run_to_the_end(&with_lora(STYLE)).await;

    assert_completed(&before);
    assert_completed(&after);
    let digest = sha256_of(&safetensors_bytes(2)).to_string();
    let (short, _) = digest.split_at(8);
    let path = format!("user-{}/style.{short}.safetensors", client.person().id);
    assert_eq!(second["comfyui_path"], path);
    let before = Picture::decode(&client.output(&before, 0).await);
    let after = Picture::decode(&client.output(&after, 0).await);
    assert_eq!(after.prompt()["10"]["inputs"]["lora_name"], path);
    assert_ne!(before.pixels, after.pixels);
}

//! What a run tells, and how it ends otherwise than well.

use std::time::Duration;

use atelier_testkit::{PATIENCE, wait_until};
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{without_lora, without_models};
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fails_is_named_in_words_of_ours() {
    let house = house().await;
    let client = house.server.client();
    house
        .site
        .backend
        .faults()
        .change(|faults| faults.error_at = Some("node-that-fails".to_owned()));
    let mut graph = without_models(1);
    graph["node-that-fails"] = json!({"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}});
    graph["2"]["inputs"]["images"] = json!(["node-that-fails", 0]);

    let run = client.run_to_the_end(&graph).await;

    assert_eq!(run["status"], "failed", "{run}");
    assert_eq!(run["error"]["code"], "execution_failed");
    assert_eq!(run["error"]["node_id"], "node-that-fails");
    assert_eq!(run["error"]["node_type"], "ImageInvert");
    let told = run.to_string();
    assert!(!told.contains("simulated failure"), "{told}");
    assert_eq!(run["outputs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_that_comfyui_refuses_fails_its_run() {
    let client = house().await.server.client();
    let mut graph = without_models(1);
    graph["1"]["class_type"] = json!("NoSuchClass");

    let run = client.run_to_the_end(&graph).await;

    assert_eq!(run["status"], "failed", "{run}");
    assert_eq!(run["error"]["code"], "prompt_rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_how_far_it_is_and_can_be_cancelled() {
    let backend =
        Backend::start_with(|options| options.step_delay = Duration::from_millis(50)).await;
    let site = Site::with_backend(ATELIER, backend).await;
    let server = site.serve();
    let client = server.client();
    let mut graph = without_lora();
    graph["3"]["inputs"]["steps"] = json!(1000);
    let workflow = client.create_workflow(&graph, false).await;
    let run = client.start_run(&workflow, &json!({})).await;
    let path = format!("/runs/{run}");

    let mut seen = Value::Null;
    wait_until("the sampler's steps", PATIENCE, async || {
        seen = client.get(&path).await.expect(200);
        seen["phase"] == "executing" && seen["progress"]["step"].as_u64() >= Some(2)
    })
    .await;
    assert_eq!(seen["progress"]["steps"], 1000, "{seen}");
    assert_eq!(seen["progress"]["current_node"], "3");
    let answer = client
        .send(client.request(Method::POST, &format!("{path}/cancel")))
        .await;
    assert_eq!(answer.header("location"), format!("/api/v1/comfyui{path}"));
    answer.expect(202);

    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "cancelled", "{over}");
    assert_eq!(over["outputs"], json!([]));
    let again = client
        .send(client.request(Method::POST, &format!("{path}/cancel")))
        .await
        .expect(202);
    assert_eq!(again["status"], "cancelled", "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_is_cancelled_at_once() {
    let site = Site::new(ATELIER).await;
    let server = site.serve_without_worker();
    let client = server.client();
    let workflow = client.create_workflow(&without_models(1), false).await;
    let run = client.start_run(&workflow, &json!({})).await;

    let waiting = client.get(&format!("/runs/{run}")).await.expect(200);
    let cancelled = client
        .send(client.request(Method::POST, &format!("/runs/{run}/cancel")))
        .await
        .expect(202);

    assert_eq!(waiting["status"], "pending");
    assert_eq!(waiting["phase"], Value::Null);
    assert_eq!(waiting["attempt"], 0);
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_run_ends_after_the_asked_time() {
    let site = Site::new(ATELIER).await;
    let server = site.serve_without_worker();
    let client = server.client();
    let workflow = client.create_workflow(&without_models(1), false).await;
    let run = client.start_run(&workflow, &json!({})).await;

    let begun = std::time::Instant::now();
    let waited = client.get(&format!("/runs/{run}?wait=1")).await.expect(200);

    assert_eq!(waited["status"], "pending");
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(990), "{took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_go_where_they_belong_and_nowhere_else() {
    let client = house().await.server.client();
    let workflow = client.create_workflow(&without_lora(), false).await;
    let path = format!("/workflows/{workflow}/run");
    let refused = async |params: Value| {
        client
            .post(&path, &json!({"input_params": params}))
            .await
            .expect_problem(422, "validation")
    };

    let ambiguous = refused(json!({"text": "a dog"})).await;
    assert_eq!(ambiguous["errors"][0]["pointer"], "/input_params/text");
    let detail = ambiguous["errors"][0]["detail"].as_str().expect("a text");
    assert!(
        detail.contains("6.text") && detail.contains("7.text"),
        "{detail}"
    );
    let unknown = refused(json!({"no_such_input": 1, "3.model": "x"})).await;
    let pointers: Vec<_> = unknown["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| error["pointer"].as_str().expect("a pointer"))
        .collect();
    assert_eq!(
        pointers,
        ["/input_params/3.model", "/input_params/no_such_input"]
    );

    let run = client
        .start_run(&workflow, &json!({"6.text": "a dog", "seed": 1}))
        .await;
    let run = client.finished_run(&run).await;
    assert_eq!(run["status"], "completed", "{run}");
    assert_eq!(run["input_params"], json!({"6.text": "a dog", "seed": 1}));
    let picture = client.output(&run, 0).await;
    let prompt = atelier_tests_integration::picture::Picture::decode(&picture).prompt();
    assert_eq!(prompt["6"]["inputs"]["text"], "a dog");
    assert_eq!(prompt["7"]["inputs"]["text"], "bad");
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_are_handed_out_in_ranges_and_not_twice() {
    let client = house().await.server.client();
    let run = client.run_to_the_end(&without_models(1)).await;
    let whole = client.output(&run, 0).await;
    let url = run["outputs"][0]["url"].as_str().expect("an address");
    let get = |name: &'static str, value: &str| {
        client.send(client.at(Method::GET, url).header(name, value))
    };

    let part = get("range", "bytes=2-5").await;
    assert_eq!(part.status, 206);
    assert_eq!(
        part.header("content-range"),
        format!("bytes 2-5/{}", whole.len())
    );
    assert_eq!(Some(part.bytes.as_slice()), whole.get(2..6));
    let tail = get("range", "bytes=-3").await;
    assert_eq!(Some(tail.bytes.as_slice()), whole.get(whole.len() - 3..));
    let outside = get("range", "bytes=99999999-").await;
    assert_eq!(
        outside.header("content-range"),
        format!("bytes */{}", whole.len())
    );
    outside.expect_problem(416, "range-not-satisfiable");
    let tag = format!(
        "\"{}\"",
        run["outputs"][0]["sha256"].as_str().expect("a digest")
    );
    let known = get("if-none-match", &tag).await;
    assert_eq!(known.status, 304);
    assert!(known.bytes.is_empty());
    let first = client.send(client.at(Method::GET, url)).await;
    assert_eq!(first.header("etag"), tag);
    assert_eq!(first.header("content-type"), "image/png");
    assert_eq!(first.header("x-content-type-options"), "nosniff");
    assert!(
        first
            .header("content-disposition")
            .starts_with("inline; filename=\"")
    );
    let id = run["id"].as_str().expect("an id");
    let missing = client.get(&format!("/runs/{id}/outputs/1")).await;
    missing.expect_problem(404, "output-not-found");
}

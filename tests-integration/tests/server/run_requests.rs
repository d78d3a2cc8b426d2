//! Requests that are sent twice, runs that are repeated, and how many may wait.

use atelier_tests_integration::client::{Answer, Client, id_of};
use atelier_tests_integration::picture::Picture;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{with_lora, without_models};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

async fn run_under(client: &Client, key: &str, workflow: &str, body: &Value) -> Answer {
    let path = format!("/workflows/{workflow}/run");
    let request = client.request(Method::POST, &path);
    client
        .send(request.header("idempotency-key", key).json(body))
        .await
}

async fn count(client: &Client) -> usize {
    let page = client.get("/runs").await.expect(200);
    page["items"].as_array().expect("a list").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_to_two_servers_is_carried_out_once() {
    let site = Site::new(ATELIER).await;
    let servers = [site.serve_without_worker(), site.serve_without_worker()];
    let first = servers[0].client();
    let second = Client::new(&servers[1].url, Some(first.person().clone()));
    let workflow = first.create_workflow(&without_models(1), false).await;
    let body = json!({"input_params": {"color": 3}, "priority": 2});

    // All at once: one is carried out, the others are told so or get its answer.
    let sent = (0..16).map(|number| {
        let on = if number % 2 == 0 { &first } else { &second };
        run_under(on, "\"a-key\"", &workflow, &body)
    });
    let answers = join_all(sent).await;
    let accepted: Vec<&Answer> = answers
        .iter()
        .filter(|answer| answer.status == 202)
        .collect();
    let original = accepted.first().expect("one at least");
    for answer in &answers {
        if answer.status == 202 {
            assert_eq!(answer.bytes, original.bytes);
            assert_eq!(answer.header("location"), original.header("location"));
        } else {
            assert_eq!(answer.status, 409, "{}", answer.text());
            assert_eq!(answer.json()["code"], "idempotency-key-in-use");
            assert_eq!(answer.header("retry-after"), "1");
        }
    }
    assert_eq!(count(&first).await, 1);

    for client in [&first, &second] {
        let replayed = run_under(client, "a-key", &workflow, &body).await;
        assert_eq!(replayed.status, 202, "{}", replayed.text());
        assert_eq!(replayed.bytes, original.bytes);
        assert_eq!(replayed.header("idempotent-replayed"), "true");
    }
    let other = run_under(&second, "a-key", &workflow, &json!({})).await;
    other.expect_problem(422, "idempotency-key-reused");
    first
        .delete(&format!("/workflows/{workflow}"))
        .await
        .expect(204);
    let replayed = run_under(&second, "a-key", &workflow, &body).await;
    assert_eq!(replayed.bytes, original.bytes);
    assert_eq!(count(&first).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_repeated_on_the_very_same_loras() {
    let client = house().await.server.client();
    let lora = client.add_lora("mine.safetensors", 5).await;
    let workflow = client
        .create_workflow(&with_lora("mine.safetensors"), false)
        .await;
    let run = client.start_run(&workflow, &json!({"seed": 11})).await;
    let run = client.finished_run(&run).await;
    client
        .delete(&format!("/workflows/{workflow}"))
        .await
        .expect(204);
    let path = format!("/runs/{}/retry", id_of(&run));

    let again = client.post(&path, &json!({"timeout_s": 99})).await;
    assert_eq!(again.status, 202, "{}", again.text());
    let location = again.header("location").to_owned();
    let again = client.finished_run(&id_of(&again.json())).await;

    assert_eq!(again["status"], "completed", "{again}");
    assert_eq!(location, format!("/api/v1/comfyui/runs/{}", id_of(&again)));
    assert_eq!(again["retry_of"], run["id"]);
    assert_eq!(again["input_params"], json!({"seed": 11}));
    assert_eq!(again["timeout_s"], 99);
    assert_eq!(again["workflow_id"], Value::Null);
    let prompt = async |run: &Value| {
        let picture = client.output(run, 0).await;
        Picture::decode(&picture).prompt()
    };
    let (mut first, second) = (prompt(&run).await, prompt(&again).await);
    let prefix = second["9"]["inputs"]["filename_prefix"].clone();
    assert!(prefix.to_string().contains(&id_of(&again)), "{prefix}");
    first["9"]["inputs"]["filename_prefix"] = prefix;
    assert_eq!(first, second);

    client
        .delete(&format!("/loras/{}", id_of(&lora)))
        .await
        .expect(204);
    let refused = client.post(&path, &json!({})).await;
    assert_eq!(
        refused.expect_pointers(422, "validation"),
        ["/workflow_json/10/inputs/lora_name"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_runs_wait_than_may() {
    let site = Site::new(ATELIER).await;
    let server = site
        .setup()
        .with("ATELIER_MAX_PENDING_RUNS", "3")
        .arguments(&["serve", "--no-worker"])
        .start();
    let client = server.client();
    let workflow = client.create_workflow(&without_models(1), false).await;
    let path = format!("/workflows/{workflow}/run");
    let run = client.start_run(&workflow, &json!({})).await;

    let body = json!({});
    let sent = (0..8).map(|_| client.post(&path, &body));
    let answers = join_all(sent).await;

    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 2);
    for answer in answers.into_iter().filter(|answer| answer.status != 202) {
        let wait: u64 = answer.header("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&wait), "{wait}");
        answer.expect_problem(429, "too-many-pending-runs");
    }
    // Somebody else has as many of their own.
    let other = server.client();
    let others = other.create_workflow(&without_models(1), false).await;
    other.start_run(&others, &json!({})).await;
    let cancel = client.request(Method::POST, &format!("/runs/{run}/cancel"));
    client.send(cancel).await.expect(202);
    client.start_run(&workflow, &json!({})).await;
}

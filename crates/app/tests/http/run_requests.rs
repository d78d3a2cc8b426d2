//! What may be said of a run that is asked for, and requests that are sent
//! twice.

use actix_web::http::Method;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::test::TestRequest;
use atelier_domain::ids::WorkflowId;
use atelier_domain::ports::LoraRepo as _;
use atelier_testkit::build::{a_workflow, an_output};
use atelier_testkit::random_id;
use serde_json::{Value, json};

use crate::support::{API, Answer, Server, World, as_user, workflow_path};

async fn run_path(world: &World) -> String {
    let workflow = world.keep(&world.alice, a_workflow()).await.id;
    format!("{}/run", workflow_path(workflow))
}

/// A request under a key.
fn under(key: &str, path: &str, body: &Value) -> TestRequest {
    as_user("alice", Method::POST, path)
        .insert_header(("Idempotency-Key", key))
        .set_json(body)
}

async fn count(server: &Server) -> usize {
    let page = server.get("/runs").await.json();
    page["items"].as_array().unwrap().len()
}

/// A run that is over.
async fn finished(world: &World, server: &Server) -> String {
    let run = server.post(&run_path(world).await, &json!({})).await.json();
    world.complete_next(|run| vec![an_output(run, 0)]).await;
    run["id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn priority_and_time_are_as_asked() {
    let world = World::new();
    let server = world.server().await;
    let path = run_path(&world).await;

    for (priority, timeout_s) in [(-10, 1), (10, 86_400)] {
        let body = json!({"priority": priority, "timeout_s": timeout_s});
        let run = server.post(&path, &body).await.json();
        assert_eq!(
            (&run["priority"], &run["timeout_s"]),
            (&json!(priority), &json!(timeout_s))
        );
    }
    let run = server
        .post(&path, &json!({"priority": null, "timeout_s": null}))
        .await
        .json();
    assert_eq!(
        (&run["priority"], &run["timeout_s"]),
        (&json!(0), &json!(3_600))
    );
}

#[actix_web::test]
async fn priorities_and_times_that_cannot_be_are_told() {
    let world = World::new();
    let server = world.server().await;
    let path = run_path(&world).await;
    let retry = format!("/runs/{}/retry", finished(&world, &server).await);

    for path in [path, retry] {
        for priority in [
            json!(-11),
            json!(11),
            json!(1.5),
            json!("1"),
            json!(u64::MAX),
        ] {
            let answer = server.post(&path, &json!({"priority": priority})).await;
            answer.is_problem(422, "validation", &["/priority"]);
            let detail = answer.json()["detail"].to_string();
            assert!(detail.contains("an integer from -10 to 10"), "{detail}");
        }
        for seconds in [
            json!(0),
            json!(-1),
            json!(86_401),
            json!(1e3),
            json!(u64::MAX),
            json!([]),
        ] {
            let answer = server.post(&path, &json!({"timeout_s": seconds})).await;
            answer.is_problem(422, "validation", &["/timeout_s"]);
        }
        let answer = server
            .post(
                &path,
                &json!({"priority": 99, "timeout_s": 0, "prioritiy": 1}),
            )
            .await;
        answer.is_problem(
            422,
            "validation",
            &["/priority", "/timeout_s", "/prioritiy"],
        );
    }
}

#[actix_web::test]
async fn a_request_under_a_key_is_carried_out_once_and_answered_byte_for_byte() {
    let world = World::new();
    let server = world.server().await;
    let path = run_path(&world).await;
    let body = json!({"input_params": {"seed": 3}});

    let first = server.send(under("\"8e03978e\"", &path, &body)).await;
    world.complete_next(|_| Vec::new()).await;
    // The same key without its quotes.
    let again = server.send(under("8e03978e", &path, &body)).await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202));
    assert_eq!(first.bytes(), again.bytes());
    for name in ["location", "content-type"] {
        assert!(first.header(name).is_some(), "{name}");
        assert_eq!(first.header(name), again.header(name), "{name}");
    }
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(count(&server).await, 1);
}

#[actix_web::test]
async fn a_key_counts_for_one_person_and_one_address() {
    let world = World::new();
    let server = world.server().await;
    let public = atelier_domain::workflow::NewWorkflow {
        is_public: true,
        ..a_workflow()
    };
    let workflow: WorkflowId = world.keep(&world.alice, public).await.id;
    let path = format!("{}/run", workflow_path(workflow));
    let other_path = run_path(&world).await;
    let bobs = as_user("bob", Method::POST, &path).insert_header(("Idempotency-Key", "k"));

    let first = server.send(under("k", &path, &json!({}))).await;
    let elsewhere = server
        .send(under("k", &other_path, &json!({"priority": 1})))
        .await;
    let bobs = server.send(bobs).await;

    let ids: std::collections::BTreeSet<String> = [&first, &elsewhere, &bobs]
        .into_iter()
        .map(|answer: &Answer| {
            assert_eq!(answer.status, 202, "{answer:?}");
            assert_eq!(answer.header("idempotent-replayed"), None);
            answer.json()["id"].to_string()
        })
        .collect();
    assert_eq!(ids.len(), 3);
    // However the id is spelled, it is one address.
    let shouted = path.replace(&workflow.to_string(), &workflow.to_string().to_uppercase());
    let again = server.send(under("k", &shouted, &json!({}))).await;
    assert_eq!(again.bytes(), first.bytes());
}

#[actix_web::test]
async fn another_body_under_a_key_is_refused() {
    let world = World::new();
    let server = world.server().await;
    let path = run_path(&world).await;
    server.send(under("k", &path, &json!({}))).await;

    for body in ["", "{ }"] {
        let request = as_user("alice", Method::POST, &path)
            .insert_header(("Idempotency-Key", "k"))
            .insert_header((CONTENT_TYPE, "application/json"))
            .set_payload(body);
        server
            .send(request)
            .await
            .is_problem(422, "idempotency-key-reused", &[]);
    }
    assert_eq!(count(&server).await, 1);
}

#[actix_web::test]
async fn a_key_that_is_none_is_refused() {
    let world = World::new();
    let server = world.server().await;
    let path = run_path(&world).await;

    let long = "k".repeat(256);
    for key in ["", "\"open", "caf\u{e9}", &long] {
        server
            .send(under(key, &path, &json!({})))
            .await
            .is_problem(400, "bad-request", &[]);
    }
    let twice = under("a", &path, &json!({})).append_header(("Idempotency-Key", "b"));
    server.send(twice).await.is_problem(400, "bad-request", &[]);
    assert_eq!(count(&server).await, 0);
}

#[actix_web::test]
async fn a_refusal_is_not_stored_under_its_key() {
    let world = World::new();
    let server = world.server().await;
    let path = run_path(&world).await;

    let refused = server
        .send(under("k", &path, &json!({"input_params": {"sede": 1}})))
        .await;
    let accepted = server.send(under("k", &path, &json!({}))).await;

    refused.is_problem(422, "validation", &["/input_params/sede"]);
    assert_eq!(accepted.status, 202, "{accepted:?}");
}

#[actix_web::test]
async fn whoever_has_too_many_runs_waiting_is_told_what_to_do() {
    let mut world = World::new();
    world.limits.runs.max_pending = 2;
    let server = world.server().await;
    let path = run_path(&world).await;
    for _ in 0..2 {
        assert_eq!(server.post(&path, &json!({})).await.status, 202);
    }

    let refused = server.send(under("k", &path, &json!({}))).await;

    refused.is_problem(429, "too-many-pending-runs", &[]);
    assert_eq!(refused.header("retry-after"), Some("5"));
    let detail = refused.json()["detail"].to_string();
    assert!(detail.contains("2 of your runs are waiting"), "{detail}");
    world.complete_next(|_| Vec::new()).await;
    assert_eq!(server.send(under("k", &path, &json!({}))).await.status, 202);
}

#[actix_web::test]
async fn a_run_is_repeated() {
    let world = World::new();
    let server = world.server().await;
    let earlier = finished(&world, &server).await;
    let path = format!("/runs/{earlier}/retry");

    let bare = server.send(as_user("alice", Method::POST, &path)).await;
    let changed = server
        .post(&path, &json!({"priority": -3, "timeout_s": 9}))
        .await;
    let keyed = [
        server.send(under("k", &path, &json!({}))).await,
        server.send(under("k", &path, &json!({}))).await,
    ];

    assert_eq!(bare.status, 202, "{bare:?}");
    let run = bare.json();
    assert_eq!(run["retry_of"], json!(earlier));
    assert_eq!(run["status"], "pending");
    let address = format!("{API}/runs/{}", run["id"].as_str().unwrap());
    assert_eq!(bare.header("location"), Some(address.as_str()));
    let changed = changed.json();
    assert_eq!(
        (&changed["priority"], &changed["timeout_s"]),
        (&json!(-3), &json!(9))
    );
    assert_eq!(keyed[0].bytes(), keyed[1].bytes());
    assert_eq!(keyed[1].header("idempotent-replayed"), Some("true"));
    assert_eq!(count(&server).await, 4);
}

#[actix_web::test]
async fn what_cannot_be_repeated_is_told() {
    let world = World::new();
    let server = world.server().await;
    let running = server
        .post(&run_path(&world).await, &json!({}))
        .await
        .json();
    let path = |id: &str| format!("/runs/{id}/retry");
    let running = path(running["id"].as_str().unwrap());

    server
        .post(&running, &json!({}))
        .await
        .is_problem(409, "run-not-finished", &[]);
    let bobs = server.send(as_user("bob", Method::POST, &running)).await;
    bobs.is_problem(404, "run-not-found", &[]);
    let nothing = path(&random_id().to_string());
    let nothing = server.send(as_user("alice", Method::POST, &nothing)).await;
    nothing.is_problem(404, "run-not-found", &[]);
    server
        .post(&running, &json!({"input_params": {}}))
        .await
        .is_problem(422, "validation", &["/input_params"]);
}

#[actix_web::test]
async fn a_run_whose_lora_is_gone_is_not_repeated() {
    let world = World::new();
    let server = world.server().await;
    let upload = crate::support::form(&[(
        "name=\"file\"; filename=\"mine.safetensors\"",
        &atelier_testkit::build::safetensors_bytes(1),
    )]);
    let upload = as_user("alice", Method::POST, "/loras")
        .insert_header((CONTENT_TYPE, upload.0))
        .set_payload(upload.1);
    let lora = server.send(upload).await.json();
    let new = atelier_domain::workflow::NewWorkflow {
        workflow_json: atelier_testkit::build::a_graph_with_lora("mine.safetensors"),
        ..a_workflow()
    };
    let workflow = world.keep(&world.alice, new).await.id;
    let run = server
        .post(&format!("{}/run", workflow_path(workflow)), &json!({}))
        .await
        .json();
    world.complete_next(|_| Vec::new()).await;
    let id = lora["id"].as_str().unwrap().parse().unwrap();
    let deleted = world.store.loras().delete(&world.alice, id).await.unwrap();
    assert_eq!(deleted, atelier_domain::ports::WriteOutcome::Done(()));

    let refused = server
        .post(
            &format!("/runs/{}/retry", run["id"].as_str().unwrap()),
            &json!({}),
        )
        .await;

    refused.is_problem(422, "validation", &["/workflow_json/10/inputs/lora_name"]);
}

use std::time::Instant;

use actix_web::http::Method;
use actix_web::http::header::CONTENT_TYPE;
use atelier_domain::ids::{RunId, WorkflowId};
use atelier_domain::ports::RunQueue as _;
use atelier_domain::run::{RunFailure, RunFailureCode};
use atelier_domain::workflow::NewWorkflow;
use atelier_testkit::build::{a_graph_with_lora, a_workflow, an_output};
use serde_json::{Value, json};

use crate::support::{API, SOON, Server, World, as_user, workflow_path};

async fn submitted(world: &World, server: &Server) -> (WorkflowId, String) {
    let workflow = world.keep(&world.alice, a_workflow()).await.id;
    let answer = server
        .post(&format!("{}/run", workflow_path(workflow)), &json!({}))
        .await;
    assert_eq!(answer.status, 202, "{answer:?}");
    (workflow, answer.json()["id"].as_str().unwrap().to_owned())
}

#[actix_web::test]
async fn a_run_is_accepted_with_its_address_and_every_member() {
    let world = World::new();
    let server = world.server().await;
    let workflow = world.keep(&world.alice, a_workflow()).await.id;
    let body = json!({"input_params": {"seed": 7, "6.text": "a boat"}});

    let answer = server
        .post(&format!("{}/run", workflow_path(workflow)), &body)
        .await;

    assert_eq!(answer.status, 202, "{answer:?}");
    let run = answer.json();
    let id = run["id"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        Some(format!("{API}/runs/{id}").as_str())
    );
    assert_eq!(
        run,
        json!({
            "id": id,
            "workflow_id": workflow.to_string(),
            "user_id": world.alice.user_id().to_string(),
            "status": "pending",
            "phase": null,
            "priority": 0,
            "timeout_s": 3600,
            "queue_position": run["queue_position"],
            "estimated_start_at": null,
            "progress": {
                "value": 0.0, "nodes_done": 0, "nodes_total": 7, "current_node": null, "step": null, "steps": null,
                "lora_bytes_done": null, "lora_bytes_total": null
            },
            "input_params": {"seed": 7, "6.text": "a boat"},
            "comfyui_prompt_id": run["comfyui_prompt_id"],
            "backend": null,
            "outputs": [],
            "output_images": [],
            "error": null,
            "attempt": 0,
            "retry_of": null,
            "created_at": "2026-01-01T00:00:00.000000Z",
            "started_at": null,
            "completed_at": null
        })
    );
}

#[actix_web::test]
async fn the_body_of_a_run_is_optional() {
    let world = World::new();
    let server = world.server().await;
    let path = format!(
        "{}/run",
        workflow_path(world.keep(&world.alice, a_workflow()).await.id)
    );

    let bare = server.send(as_user("alice", Method::POST, &path)).await;
    let typed =
        as_user("alice", Method::POST, &path).insert_header((CONTENT_TYPE, "application/json"));

    assert_eq!(bare.status, 202, "{bare:?}");
    assert_eq!(server.send(typed).await.status, 202);
    let wrong = as_user("alice", Method::POST, &path)
        .insert_header((CONTENT_TYPE, "text/plain"))
        .set_payload("seed=7");
    server
        .send(wrong)
        .await
        .is_problem(415, "unsupported-media-type", &[]);
}

#[actix_web::test]
async fn what_cannot_run_is_told_at_its_place() {
    let world = World::new();
    let server = world.server().await;
    let run = |id| format!("{}/run", workflow_path(id));
    let path = run(world.keep(&world.alice, a_workflow()).await.id);

    let body = json!({"input_params": {"sede": 7, "text": "which one?"}, "inputs": {}});
    server
        .post(&path, &body)
        .await
        .is_problem(422, "validation", &["/inputs"]);
    let body = json!({"input_params": {"sede": 7, "text": "which one?"}});
    let (status, _, mut pointers) = server.post(&path, &body).await.problem();
    pointers.sort_unstable();
    assert_eq!(
        (status, pointers),
        (
            422,
            vec![
                "/input_params/sede".to_owned(),
                "/input_params/text".to_owned()
            ]
        )
    );
    server
        .post(&path, &json!({"input_params": [1]}))
        .await
        .is_problem(422, "validation", &["/input_params"]);

    let others = format!("user-{}/x.safetensors", world.bob.user_id());
    for lora in [others.as_str(), "../x.safetensors", "/etc/passwd", "a\\b"] {
        let new = NewWorkflow {
            workflow_json: a_graph_with_lora(lora),
            ..a_workflow()
        };
        let path = run(world.keep(&world.alice, new).await.id);
        let answer = server.post(&path, &json!({})).await;
        answer.is_problem(422, "validation", &["/workflow_json/10/inputs/lora_name"]);
    }
}

#[actix_web::test]
async fn parameters_nested_too_deep_are_refused_without_harm() {
    let world = World::new();
    let server = world.server().await;
    let path = format!(
        "{}/run",
        workflow_path(world.keep(&world.alice, a_workflow()).await.id)
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));

    let request = as_user("alice", Method::POST, &path)
        .insert_header((CONTENT_TYPE, "application/json"))
        .set_payload(format!("{{\"input_params\": {{\"seed\": {deep}}}}}"));

    let (status, code, pointers) = server.send(request).await.problem();
    assert_eq!((status, code.as_str()), (422, "validation"));
    assert!(pointers[0].starts_with("/input_params"), "{pointers:?}");
}

#[actix_web::test]
async fn a_public_workflow_can_be_run_by_others_whose_runs_are_theirs_alone() {
    let world = World::new();
    let server = world.server().await;
    let public = NewWorkflow {
        is_public: true,
        ..a_workflow()
    };
    let workflow = world.keep(&world.alice, public).await.id;
    let run = format!("{}/run", workflow_path(workflow));

    let answer = server.send(as_user("bob", Method::POST, &run)).await;

    let path = answer
        .header("location")
        .unwrap()
        .strip_prefix(API)
        .unwrap()
        .to_owned();
    assert_eq!(
        server.send(as_user("bob", Method::GET, &path)).await.status,
        200
    );
    server
        .get(&path)
        .await
        .is_problem(404, "run-not-found", &[]);
    let cancel = format!("{path}/cancel");
    server
        .send(as_user("alice", Method::POST, &cancel))
        .await
        .is_problem(404, "run-not-found", &[]);
    let of_workflow = format!("{}/runs", workflow_path(workflow));
    assert_eq!(server.get(&of_workflow).await.json()["items"], json!([]));
    let bobs = server
        .send(as_user("bob", Method::GET, &of_workflow))
        .await
        .json();
    assert_eq!(bobs["items"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn runs_are_listed_by_workflow_and_status() {
    let world = World::new();
    let server = world.server().await;
    let (first, run) = submitted(&world, &server).await;
    let (second, _) = submitted(&world, &server).await;
    let count = async |path: String| {
        server.get(&path).await.json()["items"]
            .as_array()
            .unwrap()
            .len()
    };

    assert_eq!(count("/runs".to_owned()).await, 2);
    assert_eq!(
        count(format!("/runs?workflow_id={first}&status=pending")).await,
        1
    );
    assert_eq!(count("/runs?status=completed".to_owned()).await, 0);
    assert_eq!(count(format!("/workflows/{second}/runs?limit=1")).await, 1);
    let listed = server.get(&format!("/workflows/{first}/runs")).await.json();
    assert_eq!(listed["items"][0]["id"], json!(run));
    let nothing = format!("/workflows/{}/runs", atelier_testkit::random_id());
    server
        .get(&nothing)
        .await
        .is_problem(404, "workflow-not-found", &[]);
}

#[actix_web::test]
async fn a_wait_ends_with_the_run() {
    let world = World::new();
    let server = world.server().await;
    let (_, run) = submitted(&world, &server).await;
    let path = format!("/runs/{run}?wait=60");
    let begun = Instant::now();

    let (answer, ()) = futures_util::join!(
        server.get(&path),
        world.complete_next(|run| vec![an_output(run, 0)]),
    );

    assert!(
        begun.elapsed() < SOON,
        "it waited for {:?}",
        begun.elapsed()
    );
    let body = answer.json();
    assert_eq!(body["status"], "completed");
    let url = format!("{API}/runs/{run}/outputs/0");
    assert_eq!(body["output_images"], json!([url]));
    let output = &body["outputs"][0];
    assert_eq!(output["url"], json!(url));
    assert_eq!(
        (
            &output["kind"],
            &output["width"],
            &output["height"],
            &output["size_bytes"]
        ),
        (&json!("image"), &json!(64), &json!(64), &json!(1234))
    );
}

#[actix_web::test]
async fn a_server_that_stops_answers_whoever_waits() {
    let world = World::new();
    let server = world.server().await;
    let (_, run) = submitted(&world, &server).await;
    let path = format!("/runs/{run}?wait=60");
    let begun = Instant::now();

    let stop = async { world.stopping.cancel() };
    let (answer, ()) = futures_util::join!(server.get(&path), stop);

    assert!(
        begun.elapsed() < SOON,
        "it waited for {:?}",
        begun.elapsed()
    );
    assert_eq!(answer.json()["status"], "pending");
}

#[actix_web::test]
async fn waits_have_a_limit() {
    let world = World::new();
    let server = world.server().await;
    let (_, run) = submitted(&world, &server).await;

    for wait in ["61", "-1", "1.5", "soon", "99999999999999999999"] {
        server
            .get(&format!("/runs/{run}?wait={wait}"))
            .await
            .is_problem(422, "validation", &["?wait"]);
    }
    assert_eq!(server.get(&format!("/runs/{run}?wait=0")).await.status, 200);
}

#[actix_web::test]
async fn what_waits_is_cancelled_at_once_and_what_is_over_stays_over() {
    let world = World::new();
    let server = world.server().await;
    let (_, run) = submitted(&world, &server).await;
    let path = format!("/runs/{run}/cancel");

    let cancelled = server.post(&path, &json!({})).await;

    assert_eq!(
        (cancelled.status.as_u16(), &cancelled.json()["status"]),
        (202, &json!("cancelled"))
    );
    assert_eq!(
        cancelled.header("location"),
        Some(format!("{API}/runs/{run}").as_str())
    );
    let again = server.post(&path, &json!({})).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["status"]),
        (202, &json!("cancelled"))
    );

    let (_, run) = submitted(&world, &server).await;
    world.complete_next(|_| Vec::new()).await;
    server
        .post(&format!("/runs/{run}/cancel"), &json!({}))
        .await
        .is_problem(409, "run-already-finished", &[]);
}

#[actix_web::test]
async fn a_failure_is_told_with_its_node() {
    let world = World::new();
    let server = world.server().await;
    let (_, run) = submitted(&world, &server).await;
    let queue = world.store.queue();
    let claimed = world.claim_next().await;
    let failure = RunFailure::new(RunFailureCode::ExecutionFailed, "node 3 failed")
        .at_node(Some("3".to_owned()), Some("KSampler".to_owned()));
    queue
        .fail(claimed.run_id, claimed.token, failure, Vec::new())
        .await
        .unwrap();

    let body: Value = server.get(&format!("/runs/{run}")).await.json();

    assert_eq!(claimed.run_id, run.parse::<RunId>().unwrap());
    assert_eq!(
        body["error"],
        json!({"code": "execution_failed", "message": "node 3 failed", "node_id": "3", "node_type": "KSampler"})
    );
    assert_eq!(
        (&body["status"], &body["attempt"]),
        (&json!("failed"), &json!(1))
    );
}

//! Nobody sees, runs, changes, deletes or downloads what is private of somebody else.

use std::collections::BTreeSet;

use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::uploads::Upload;
use atelier_tests_integration::workflows::{with_lora, without_models};
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::house;

/// What may be asked without a token.
const OPEN: [&str; 6] = [
    "/api/v1/comfyui/loras/uploads",
    "/docs",
    "/healthz",
    "/metrics",
    "/openapi.json",
    "/readyz",
];

/// An operation of the OpenAPI document.
struct Operation {
    method: Method,
    path: String,
    is_open: bool,
}

async fn operations() -> Vec<Operation> {
    let anonymous = house().await.server.anonymous();
    let document = anonymous
        .send(anonymous.at(Method::GET, "/openapi.json"))
        .await
        .expect(200);
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let Ok(method) = method.to_uppercase().parse() else {
                continue;
            };
            operations.push(Operation {
                method,
                path: path.clone(),
                is_open: operation["security"] == json!([{}]),
            });
        }
    }
    assert!(operations.len() >= 18, "the document lists too little");
    operations
}

/// Somebody who has one thing of each kind.
struct Owner {
    client: Client,
    workflow: String,
    lora: String,
    input: String,
    upload: Upload,
    run: String,
    token: String,
}

impl Owner {
    async fn new() -> Self {
        let client = house().await.server.client();
        let lora = id_of(&client.add_lora("mine.safetensors", 3).await);
        let workflow = client
            .create_workflow(&with_lora("mine.safetensors"), false)
            .await;
        let run = client.start_run(&workflow, &json!({})).await;
        let over = client.finished_run(&run).await;
        assert_eq!(over["status"], "completed", "{over}");
        let picture = client.output(&over, 0).await;
        let input = id_of(&client.upload_input("mine.png", picture).await.expect(201));
        let upload = Upload::begin(&client, "half.safetensors", 2_000).await;
        let draft = json!({"name": "script", "scopes": ["runs:read"]});
        let token = client
            .send(client.request(Method::POST, "/tokens").json(&draft))
            .await;
        let token = id_of(&token.expect(201));
        Self {
            client,
            workflow,
            lora,
            input,
            upload,
            run,
            token,
        }
    }

    /// The address of this person's thing; `None` where the path names none.
    fn address(&self, template: &str) -> Option<String> {
        let id = [
            ("/workflows/{id}", self.workflow.as_str()),
            ("/loras/{id}", self.lora.as_str()),
            ("/loras/uploads/{id}", self.upload.id()),
            ("/inputs/{id}", self.input.as_str()),
            ("/runs/{id}", self.run.as_str()),
            ("/tokens/{id}", self.token.as_str()),
        ]
        .into_iter()
        .find_map(|(part, id)| template.contains(part).then_some(id))?;
        Some(template.replace("{id}", id).replace("{index}", "0"))
    }

    /// Everything that could have been changed.
    async fn everything(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for path in [
            format!("/workflows/{}", self.workflow),
            format!("/loras/{}", self.lora),
            format!("/loras/uploads/{}", self.upload.id()),
            format!("/inputs/{}", self.input),
            format!("/runs/{}", self.run),
        ] {
            all.push(self.client.get(&path).await.expect(200));
        }
        all.push(self.client.get("/tokens").await.expect(200));
        all
    }
}

/// Sends what the operation takes, so that nothing but the owner stands in the way.
async fn send(client: &Client, method: &Method, path: &str) -> Value {
    let request = client
        .at(method.clone(), path)
        .header("tus-resumable", "1.0.0");
    let request = match method.as_str() {
        "PATCH" if path.contains("/uploads/") => request
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", 0)
            .body("{}"),
        "PUT" => request.json(&json!({"name": "Taken", "workflow_json": without_models(1)})),
        "PATCH" => request.json(&json!({"name": "Taken"})),
        _ => request,
    };
    client.send(request).await.expect(404)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_somebody_elses_is_as_absent_as_what_never_was() {
    let (owner, stranger) = (Owner::new().await, house().await.server.client());
    let before = owner.everything().await;
    let mut walked = BTreeSet::new();

    for operation in operations().await {
        let Some(path) = owner.address(&operation.path) else {
            continue;
        };
        let nowhere = operation
            .path
            .replace("{id}", "0a000000-0000-7000-8000-000000000001")
            .replace("{index}", "0");

        let mut refused = send(&stranger, &operation.method, &path).await;
        let mut absent = send(&stranger, &operation.method, &nowhere).await;

        refused["instance"].take();
        absent["instance"].take();
        assert_eq!(refused, absent, "{} {path}", operation.method);
        walked.insert(format!("{} {}", operation.method, operation.path));
    }

    assert!(walked.len() >= 22, "{walked:?}");
    let waiting = stranger.get(&format!("/runs/{}?wait=5", owner.run)).await;
    waiting.expect_problem(404, "run-not-found");
    assert_eq!(owner.everything().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_shows_what_is_somebody_elses() {
    let (owner, stranger) = (Owner::new().await, house().await.server.client());
    let own = stranger.create_workflow(&without_models(1), false).await;

    for list in [
        "/workflows?limit=200",
        "/workflows?scope=public&limit=200",
        "/workflows?scope=own",
        "/workflows?q=workflow",
        "/loras?limit=200",
        "/loras?q=mine",
        "/inputs?limit=200",
        "/runs?limit=200",
        "/runs?status=completed",
        &format!("/runs?workflow_id={}", owner.workflow),
    ] {
        let page = stranger.get(list).await.expect(200);
        let items = page["items"].as_array().expect("a list");
        for item in items {
            let others = item["user_id"] != stranger.person().id.to_string();
            assert!(!others || item["is_public"] == true, "{list}: {item}");
        }
        if list == "/workflows?scope=own" {
            assert_eq!(items.len(), 1, "{page}");
            assert_eq!(items.first().map(|item| &item["id"]), Some(&json!(own)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_workflow_is_read_and_run_but_not_changed_by_others() {
    let house = house().await;
    let (owner, guest) = (house.server.client(), house.server.client());
    let graph = without_models(1);
    let workflow = owner.create_workflow(&graph, true).await;
    let path = format!("/workflows/{workflow}");
    let body = json!({"name": "Taken", "workflow_json": without_models(2)});

    let seen = guest.get(&path).await.expect(200);
    let run = guest.start_run(&workflow, &json!({})).await;
    let over = guest.finished_run(&run).await;

    assert_eq!(seen["workflow_json"], graph);
    assert_eq!(over["status"], "completed", "{over}");
    guest
        .put(&path, &body)
        .await
        .expect_problem(403, "forbidden");
    let patch = json!({"is_public": false});
    guest
        .patch(&path, &patch)
        .await
        .expect_problem(403, "forbidden");
    guest.delete(&path).await.expect_problem(403, "forbidden");
    assert_eq!(owner.get(&path).await.expect(200), seen);
    // The owner learns nothing of the guest's runs.
    let its_run = owner.get(&format!("/runs/{run}")).await;
    its_run.expect_problem(404, "run-not-found");
    let runs = owner.get(&format!("{path}/runs")).await.expect(200);
    assert_eq!(runs["items"], json!([]));
    let runs = guest.get(&format!("{path}/runs")).await.expect(200);
    assert_eq!(runs["items"][0]["id"], run);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_becomes_private_is_gone_for_others() {
    let house = house().await;
    let (owner, guest) = (house.server.client(), house.server.client());
    let workflow = owner.create_workflow(&without_models(1), true).await;
    let path = format!("/workflows/{workflow}");
    let run = guest.start_run(&workflow, &json!({})).await;
    let over = guest.finished_run(&run).await;

    owner
        .patch(&path, &json!({"is_public": false}))
        .await
        .expect(200);

    guest
        .get(&path)
        .await
        .expect_problem(404, "workflow-not-found");
    let again = guest.post(&format!("{path}/run"), &json!({})).await;
    again.expect_problem(404, "workflow-not-found");
    let kept = guest.get(&format!("/runs/{run}")).await.expect(200);
    assert_eq!(kept["outputs"], over["outputs"]);
    assert_eq!(
        guest.output(&kept, 0).await.len() as u64,
        over["outputs"][0]["size_bytes"].as_u64().expect("a size")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_signed_in_gets_nowhere() {
    let anonymous = house().await.server.anonymous();
    let mut open = BTreeSet::new();

    for operation in operations().await {
        let path = operation
            .path
            .replace("{id}", "no-id-at-all")
            .replace("{index}", "0");
        let answer = anonymous
            .send(anonymous.at(operation.method.clone(), &path))
            .await;
        if operation.is_open {
            assert!(
                !answer.status.is_client_error(),
                "{path}: {}",
                answer.status
            );
            open.insert(operation.path);
        } else {
            let challenge = answer.header("www-authenticate").to_owned();
            assert!(challenge.starts_with("Bearer"), "{path}: {challenge}");
            if operation.method == Method::HEAD {
                assert_eq!(answer.status, 401, "{path}");
            } else {
                answer.expect_problem(401, "unauthenticated");
            }
        }
    }

    assert_eq!(open, BTreeSet::from(OPEN.map(str::to_owned)));
}

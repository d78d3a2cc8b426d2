//! Workflows: written, read and deleted under their revisions.

use atelier_tests_integration::client::{Answer, Client, id_of};
use atelier_tests_integration::workflows::without_models;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::house;

async fn made(client: &Client) -> (String, Answer) {
    let body = json!({
        "name": "A workflow", "description": "Words", "tags": ["one", "two"],
        "workflow_json": without_models(1)
    });
    let answer = client.post("/workflows", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    (format!("/workflows/{}", id_of(&answer.json())), answer)
}

async fn with_header(
    client: &Client,
    method: Method,
    path: &str,
    header: (&'static str, &str),
    body: Option<Value>,
) -> Answer {
    let request = client.request(method, path).header(header.0, header.1);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    client.send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_workflow_is_read_as_it_was_written() {
    let client = house().await.server.client();
    // Order and numbers are the author's.
    let graph = r#"{"b": {"class_type": "A", "inputs": {"z": 1e-7, "y": 18446744073709551615}}}"#;
    let body = format!(r#"{{"name": " A name ", "workflow_json": {graph}}}"#);

    let answer = client
        .send(
            client
                .request(Method::POST, "/workflows")
                .header("content-type", "application/json; charset=utf-8")
                .body(body),
        )
        .await;

    let location = answer.header("location").to_owned();
    let tag = answer.header("etag").to_owned();
    let made = answer.expect(201);
    assert_eq!(
        location,
        format!("/api/v1/comfyui/workflows/{}", id_of(&made))
    );
    assert_eq!(made["user_id"], client.person().id.to_string());
    assert_eq!(made["name"], "A name");
    assert_eq!(made["description"], Value::Null);
    assert_eq!(made["is_public"], false);
    assert_eq!(made["tags"], json!([]));
    assert_eq!(made["workflow_json"]["b"]["inputs"]["y"], u64::MAX);
    let read = client.send(client.at(Method::GET, &location)).await;
    assert_eq!(read.header("etag"), tag);
    assert_eq!(read.expect(200), made);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_revision_is_not_sent_again() {
    let client = house().await.server.client();
    let (path, made) = made(&client).await;
    let tag = made.header("etag");

    for list in [tag.to_owned(), format!("\"0\", W/{tag}"), "*".to_owned()] {
        let answer = with_header(&client, Method::GET, &path, ("if-none-match", &list), None).await;
        assert_eq!(answer.status, 304, "{list}");
        assert_eq!(answer.header("etag"), tag);
        assert!(answer.bytes.is_empty());
    }
    let other = with_header(
        &client,
        Method::GET,
        &path,
        ("if-none-match", "\"0\""),
        None,
    )
    .await;
    assert_eq!(other.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_older_revision_is_refused() {
    let client = house().await.server.client();
    let (path, made) = made(&client).await;
    let old = made.header("etag");
    let patch = json!({"name": "Changed"});

    let changed = with_header(
        &client,
        Method::PATCH,
        &path,
        ("if-match", old),
        Some(patch),
    )
    .await;
    let new = changed.header("etag").to_owned();
    changed.expect(200);

    assert_ne!(new, old);
    let put = json!({"name": "Lost", "workflow_json": without_models(2)});
    for (method, body) in [
        (Method::PUT, Some(put)),
        (Method::PATCH, Some(json!({"name": "Lost"}))),
        (Method::DELETE, None),
    ] {
        let answer = with_header(&client, method, &path, ("if-match", old), body).await;
        answer.expect_problem(412, "precondition-failed");
    }
    assert_eq!(client.get(&path).await.expect(200)["name"], "Changed");
    let deleted = with_header(&client, Method::DELETE, &path, ("if-match", &new), None).await;
    assert_eq!(deleted.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_changes_what_it_names() {
    let client = house().await.server.client();
    let (path, made) = made(&client).await;
    let before = made.json();

    let patch = json!({"name": "New", "description": null, "tags": null});
    let after = client.patch(&path, &patch).await.expect(200);

    assert_eq!(after["name"], "New");
    assert_eq!(after["description"], Value::Null);
    assert_eq!(after["tags"], json!([]));
    assert_eq!(after["workflow_json"], before["workflow_json"]);
    assert_eq!(after["created_at"], before["created_at"]);
    let nothing = client.patch(&path, &json!({})).await.expect(200);
    assert_eq!(nothing["name"], "New");
    let merge = client
        .request(Method::PATCH, &path)
        .header("content-type", "application/merge-patch+json")
        .body(r#"{"is_public": true}"#);
    assert_eq!(client.send(merge).await.expect(200)["is_public"], true);
    for (patch, pointer) in [
        (json!({"name": null}), "/name"),
        (json!({"workflow_json": null}), "/workflow_json"),
        (json!({"id": "x"}), "/id"),
    ] {
        let pointers = client
            .patch(&path, &patch)
            .await
            .expect_pointers(422, "validation");
        assert_eq!(pointers, [pointer], "{patch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_replaces_everything() {
    let client = house().await.server.client();
    let (path, _) = made(&client).await;
    let graph = without_models(2);

    let body = json!({"name": "New", "workflow_json": graph});
    let after = client.put(&path, &body).await.expect(200);

    assert_eq!(after["description"], Value::Null);
    assert_eq!(after["tags"], json!([]));
    assert_eq!(after["workflow_json"], graph);
    let missing = client.put(&path, &json!({"name": "New"})).await;
    assert_eq!(
        missing.expect_pointers(422, "validation"),
        ["/workflow_json"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_deleted_workflow_stay() {
    let client = house().await.server.client();
    let (path, made) = made(&client).await;
    let run = client.start_run(&id_of(&made.json()), &json!({})).await;
    client.finished_run(&run).await;

    client.delete(&path).await.expect(204);

    client
        .get(&path)
        .await
        .expect_problem(404, "workflow-not-found");
    client
        .delete(&path)
        .await
        .expect_problem(404, "workflow-not-found");
    let kept = client.get(&format!("/runs/{run}")).await.expect(200);
    assert_eq!(kept["status"], "completed");
    assert_eq!(kept["workflow_id"], Value::Null);
    assert!(!client.output(&kept, 0).await.is_empty());
}

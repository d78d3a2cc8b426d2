//! Requests that are refused before anything is done.

use atelier_tests_integration::client::{Answer, Client, id_of};
use atelier_tests_integration::raw_http::exchange;
use atelier_tests_integration::workflows::without_models;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::house::house;

async fn client() -> Client {
    house().await.server.client()
}

async fn send(method: Method, path: &str, content_type: &str, body: &str) -> Answer {
    let client = client().await;
    let request = client.request(method, path);
    let request = request.header(CONTENT_TYPE, content_type);
    client.send(request.body(body.to_owned())).await
}

async fn post(body: &str) -> Answer {
    send(Method::POST, "/workflows", "application/json", body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_is_told_as_that() {
    for body in [
        "",
        "{",
        "no json",
        "{\"name\": \"a\",}",
        "{} {}",
        "\u{feff}{}",
    ] {
        let problem = post(body).await.expect_problem(400, "invalid-json");
        assert_eq!(problem.get("errors"), None, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_no_object_is_wrong_as_a_whole() {
    for body in ["[]", "null", "5", "\"text\""] {
        let pointers = post(body).await.expect_pointers(422, "validation");
        assert_eq!(pointers, [""], "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_are_wrong_missing_or_unknown_are_all_told() {
    let graph = without_models(1);
    for (body, expected) in [
        (json!({}), vec!["/name", "/workflow_json"]),
        (
            json!({"name": 5, "workflow_json": graph, "is_public": "yes", "tags": "a"}),
            vec!["/name", "/is_public", "/tags"],
        ),
        (
            json!({"name": "a", "workflow_json": graph, "tags": ["a", 5]}),
            vec!["/tags/1"],
        ),
        (
            json!({"name": "a", "workflow_json": graph, "workflow": 1, "a/b": 2}),
            vec!["/a~1b", "/workflow"],
        ),
        (json!({"name": null, "workflow_json": graph}), vec!["/name"]),
    ] {
        let mut pointers = post(&body.to_string())
            .await
            .expect_pointers(422, "validation");
        let mut expected = expected;
        pointers.sort_unstable();
        expected.sort_unstable();
        assert_eq!(pointers, expected, "{body}");
    }
    let twice = format!(r#"{{"name": "a", "name": "b", "workflow_json": {graph}}}"#);
    assert_eq!(
        post(&twice).await.expect_pointers(422, "validation"),
        ["/name"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_of_a_run_is_checked_too() {
    let client = client().await;
    let workflow = client.create_workflow(&without_models(1), false).await;
    let path = format!("/workflows/{workflow}/run");
    for (body, expected) in [
        (json!({"input_params": []}), "/input_params"),
        (
            json!({"input_params": {"width": "wide"}}),
            "/input_params/width",
        ),
        (
            json!({"input_params": {"width": ["2", 0]}}),
            "/input_params/width",
        ),
        (json!({"params": {}}), "/params"),
    ] {
        let pointers = client
            .post(&path, &body)
            .await
            .expect_pointers(422, "validation");
        assert_eq!(pointers, [expected], "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_another_type_are_refused() {
    let body = json!({"name": "a", "workflow_json": without_models(1)}).to_string();
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let answer = send(Method::POST, "/workflows", content_type, &body).await;
        answer.expect_problem(415, "unsupported-media-type");
    }
    let client = client().await;
    let without = client
        .request(Method::POST, "/workflows")
        .body(body.clone());
    client
        .send(without)
        .await
        .expect_problem(415, "unsupported-media-type");
    let zipped = client
        .request(Method::POST, "/workflows")
        .header(CONTENT_TYPE, "application/json")
        .header("content-encoding", "gzip")
        .body(body.clone());
    client
        .send(zipped)
        .await
        .expect_problem(415, "unsupported-media-type");
    let form = send(Method::POST, "/loras", "application/json", &body).await;
    form.expect_problem(415, "unsupported-media-type");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none_are_told_as_that() {
    let client = client().await;
    for path in [
        "/workflows/no-id",
        "/workflows/0195000000007000800000000000000a",
        "/workflows/%7B01950000-0000-7000-8000-000000000001%7D",
        "/runs/1",
        "/loras/..%2F..%2Fetc",
        "/loras/%00",
    ] {
        let pointers = client.get(path).await.expect_pointers(400, "invalid-id");
        assert_eq!(pointers, ["{id}"], "{path}");
    }
    let run = "/runs/01950000-0000-7000-8000-000000000001";
    for index in ["-1", "x", "99999999999999999999"] {
        let answer = client.get(&format!("{run}/outputs/{index}")).await;
        assert_eq!(answer.expect_pointers(400, "invalid-id"), ["{index}"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_checked_as_strictly() {
    let client = client().await;
    for (query, expected) in [
        ("limit=0", vec!["?limit"]),
        ("limit=201", vec!["?limit"]),
        ("limit=-1", vec!["?limit"]),
        ("limit=ten", vec!["?limit"]),
        ("limit=1&limit=2", vec!["?limit"]),
        ("scope=mine", vec!["?scope"]),
        ("page=2", vec!["?page"]),
        ("tag=a%00b", vec!["?tag"]),
        (
            "limit=0&scope=mine&page=2",
            vec!["?scope", "?limit", "?page"],
        ),
    ] {
        let answer = client.get(&format!("/workflows?{query}")).await;
        assert_eq!(
            answer.expect_pointers(422, "validation"),
            expected,
            "{query}"
        );
    }
    let run = "/runs/01950000-0000-7000-8000-000000000001";
    for wait in ["61", "-1", "1.5", "soon"] {
        let answer = client.get(&format!("{run}?wait={wait}")).await;
        assert_eq!(
            answer.expect_pointers(422, "validation"),
            ["?wait"],
            "{wait}"
        );
    }
    let answer = client.get("/runs?status=done&workflow_id=5").await;
    let pointers = answer.expect_pointers(422, "validation");
    assert_eq!(pointers, ["?status", "?workflow_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_belong_to_one_list_of_this_server() {
    let client = client().await;
    for _ in 0..2 {
        client.create_workflow(&without_models(1), false).await;
    }
    let page = client.get("/workflows?scope=own&limit=1").await.expect(200);
    let cursor = page["next_cursor"].as_str().expect("there is more");
    client
        .get(&format!("/workflows?scope=own&limit=1&cursor={cursor}"))
        .await
        .expect(200);

    for address in [
        "/workflows?cursor=x".to_owned(),
        "/workflows?cursor=%00".to_owned(),
        format!("/workflows?scope=own&cursor={}", "f".repeat(cursor.len())),
        format!("/workflows?scope=all&cursor={cursor}"),
        format!("/workflows?scope=own&tag=a&cursor={cursor}"),
        format!("/runs?cursor={cursor}"),
        format!("/loras?cursor={cursor}"),
    ] {
        let pointers = client
            .get(&address)
            .await
            .expect_pointers(400, "bad-cursor");
        assert_eq!(pointers, ["?cursor"], "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_methods_that_do_not_exist_are_problems_too() {
    let client = client().await;
    for path in [
        "/",
        "/api",
        "/api/v1/comfyui",
        "/api/v1/comfyui/nothing",
        "/workflows",
    ] {
        let answer = client.send(client.at(Method::GET, path)).await;
        answer.expect_problem(404, "not-found");
    }
    for (method, path, allowed) in [
        (Method::PUT, "/workflows", "GET, HEAD, POST"),
        (Method::PATCH, "/runs", "GET, HEAD"),
        (Method::POST, "/loras/x/content", "GET, HEAD"),
        (Method::TRACE, "/workflows/x/run", "POST"),
    ] {
        let answer = client.send(client.request(method, path)).await;
        assert_eq!(answer.header("allow"), allowed, "{path}");
        answer.expect_problem(405, "method-not-allowed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_has_all_its_members_and_names_the_request() {
    let client = client().await;

    let answer = client.get("/workflows/no-id").await;

    let id = answer.header("x-request-id").to_owned();
    let problem = answer.expect_problem(400, "invalid-id");
    assert_eq!(problem["type"], "urn:atelier:problem:invalid-id");
    assert!(
        problem["title"].is_string() && problem["detail"].is_string(),
        "{problem}"
    );
    assert_eq!(problem["instance"], format!("urn:uuid:{id}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hardly_http_is_refused_and_the_server_goes_on() {
    let server = &house().await.server;
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\nConnection: close\r\n\r\n".to_owned(),
        "GET /%zz HTTP/9.9\r\n\r\n".to_owned(),
        "\u{0}\u{1}\u{2}\r\n\r\n".to_owned(),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(300_000)),
    ] {
        let answer = exchange(&server.url, request.as_bytes()).await;
        let start: String = request.chars().take(60).collect();
        assert!((400..500).contains(&answer.status), "{start}: {answer:?}");
    }

    let client = server.client();
    let made = client
        .post(
            "/workflows",
            &json!({"name": "a", "workflow_json": without_models(1)}),
        )
        .await
        .expect(201);
    let kept = client
        .get(&format!("/workflows/{}", id_of(&made)))
        .await
        .expect(200);
    assert_eq!(kept, made);
}

#[tokio::test(flavor = "multi_thread")]
async fn null_bytes_reach_no_database() {
    let client = client().await;
    for path in [
        "/workflows?q=%00",
        "/workflows?tag=%00",
        "/loras?q=a%00",
        "/loras?tag=%00",
    ] {
        client.get(path).await.expect_problem(422, "validation");
    }
    let body = json!({"name": "a", "workflow_json": without_models(1), "tags": ["a\u{0}"]});
    let pointers = client
        .post("/workflows", &body)
        .await
        .expect_pointers(422, "validation");
    assert_eq!(pointers, ["/tags/0"]);
    let key = json!({"name": "a", "workflow_json": {"1\u{0}": {"class_type": "A", "inputs": {}}}});
    let answer: Value = client
        .post("/workflows", &key)
        .await
        .expect_problem(422, "validation");
    assert_eq!(
        answer["errors"].as_array().map(Vec::len),
        Some(1),
        "{answer}"
    );
}

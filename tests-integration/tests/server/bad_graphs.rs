//! Workflows that are not stored, and why.

use atelier_tests_integration::raw_http::exchange;
use atelier_tests_integration::workflows::without_models;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::house::house;

/// What is wrong with a workflow that is sent as this text: its pointers and details.
async fn faults(body: String) -> Vec<(String, String)> {
    let client = house().await.server.client();
    let request = client.request(Method::POST, "/workflows");
    let request = request.header(CONTENT_TYPE, "application/json").body(body);
    let problem = client.send(request).await.expect_problem(422, "validation");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    problem["errors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|error| (text(&error["pointer"]), text(&error["detail"])))
        .collect()
}

async fn graph_faults(graph: &str) -> Vec<(String, String)> {
    faults(format!(
        r#"{{"name": "A graph", "workflow_json": {graph}}}"#
    ))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn graphs_that_cannot_run_are_told_with_the_place() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let large = json!({"1": {"class_type": "Note", "inputs": {"text": "x".repeat(4_500_000)}}});
    let many: Value = (0..2_001)
        .map(|id| (id.to_string(), json!({"class_type": "A", "inputs": {}})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    for (graph, pointer, says) in [
        (
            r#"{"nodes": [], "links": [], "version": 0.4}"#,
            "/workflow_json",
            "Export (API)",
        ),
        (
            r#"{"prompt": {"1": {"class_type": "A", "inputs": {}}}}"#,
            "/workflow_json",
            "prompt",
        ),
        ("null", "/workflow_json", "object of nodes"),
        ("[]", "/workflow_json", "object of nodes"),
        (r#""a text""#, "/workflow_json", "object of nodes"),
        ("{}", "/workflow_json", "no nodes"),
        (&deep, "/workflow_json", "deep"),
        (&deep_objects, "/workflow_json", "deep"),
        (&large.to_string(), "/workflow_json", "at most"),
        (&many.to_string(), "/workflow_json", "2000"),
        (r#"{"1": 5}"#, "/workflow_json/1", "must be a node"),
        (
            r#"{"1": {"inputs": {}}}"#,
            "/workflow_json/1/class_type",
            "class",
        ),
        (
            r#"{"1": {"class_type": "A"}}"#,
            "/workflow_json/1/inputs",
            "object",
        ),
        (
            r#"{"1": {"class_type": "A", "inputs": {"image": ["2", 0]}}}"#,
            "/workflow_json/1/inputs/image",
            "does not have",
        ),
        (
            r#"{"1": {"class_type": "A", "inputs": {"text": "a\u0000b"}}}"#,
            "/workflow_json/1/inputs/text",
            "U+0000",
        ),
        (
            r#"{"1": {"class_type": "A", "inputs": {"a~b/c": "\u0000"}}}"#,
            "/workflow_json/1/inputs/a~0b~1c",
            "U+0000",
        ),
        (
            r#"{"1": {"class_type": "A", "inputs": {}}, "1": {"class_type": "B", "inputs": {}}}"#,
            "/workflow_json/1",
            "more than once",
        ),
    ] {
        let faults = graph_faults(graph).await;
        let start: String = graph.chars().take(80).collect();
        let [(at, detail)] = faults.as_slice() else {
            panic!("{start}: {faults:?}");
        };
        assert_eq!(at, pointer, "{start}");
        assert!(detail.contains(says), "{start}: {detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_wrong_is_told_at_once() {
    let body = json!({
        "name": "x".repeat(201),
        "description": "a\u{0}b",
        "workflow_json": {"1": {"class_type": "", "inputs": []}, "2": "no node"},
        "tags": ["fine", "", "a,b"],
    });

    let pointers: Vec<_> = faults(body.to_string())
        .await
        .into_iter()
        .map(|(pointer, _)| pointer)
        .collect();

    assert_eq!(
        pointers,
        [
            "/name",
            "/description",
            "/workflow_json/1/class_type",
            "/workflow_json/1/inputs",
            "/workflow_json/2",
            "/tags/1",
            "/tags/2",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_have_1_to_200_characters_and_no_nul() {
    for (name, says) in [
        (String::new(), "empty"),
        ("  \t ".to_owned(), "empty"),
        ("x".repeat(201), "200"),
        ("a\u{0}b".to_owned(), "U+0000"),
        ("a\u{7f}b".to_owned(), "U+007F"),
    ] {
        let body = json!({"name": name, "workflow_json": without_models(1)});
        let faults = faults(body.to_string()).await;
        let [(pointer, detail)] = faults.as_slice() else {
            panic!("{name:?}: {faults:?}");
        };
        assert_eq!(pointer, "/name", "{name:?}");
        assert!(detail.contains(says), "{name:?}: {detail}");
    }

    let client = house().await.server.client();
    let longest = "ü".repeat(200);
    let body = json!({"name": longest, "workflow_json": without_models(1)});
    let stored = client.post("/workflows", &body).await.expect(201);
    assert_eq!(stored["name"], longest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_ten_mebibytes_is_refused_before_it_is_read() {
    let server = &house().await.server;
    let client = server.client();
    let size = 10 * 1024 * 1024;
    let head = |length: &str| {
        format!(
            "POST /api/v1/comfyui/workflows HTTP/1.1\r\nHost: atelier\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/json\r\n{length}\r\n\r\n",
            client.person().token
        )
    };

    let announced = head(&format!("Content-Length: {size}"));
    let announced = exchange(&server.url, announced.as_bytes()).await;
    announced.expect_problem(413, "payload-too-large");

    // Whoever does not say how much it is, is stopped while it comes.
    let mut chunked = head("Transfer-Encoding: chunked").into_bytes();
    chunked.extend(format!("{size:x}\r\n").bytes());
    chunked.resize(chunked.len() + size, b' ');
    chunked.extend(b"\r\n0\r\n\r\n");
    let chunked = exchange(&server.url, &chunked).await;
    chunked.expect_problem(413, "payload-too-large");
}

//! Bad input: each with its status, code and pointer.

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use atelier_testkit::build::{a_graph, a_workflow};
use serde_json::{Value, json};

use crate::support::{Answer, Server, World, as_user, workflow_path};

fn graph() -> Value {
    serde_json::from_str(a_graph().as_str()).unwrap()
}

async fn post_text(server: &Server, text: impl Into<bytes::Bytes>) -> Answer {
    let request = as_user("alice", Method::POST, "/workflows")
        .insert_header((CONTENT_TYPE, "application/json"))
        .set_payload(text);
    server.send(request).await
}

#[actix_web::test]
async fn what_is_no_json_is_400() {
    let server = World::new().server().await;

    for text in ["", "{", "name=x", "{\"name\": \"a\"} x"] {
        post_text(&server, text)
            .await
            .is_problem(400, "invalid-json", &[]);
    }
    post_text(&server, "[1]")
        .await
        .is_problem(422, "validation", &[""]);
}

#[actix_web::test]
async fn wrong_types_missing_and_unknown_members_are_told_all_at_once() {
    let server = World::new().server().await;
    let body =
        json!({"name": 5, "description": [], "is_public": "yes", "tags": ["a", 7], "tgas": []});

    let answer = server.post("/workflows", &body).await;

    answer.is_problem(
        422,
        "validation",
        &[
            "/name",
            "/description",
            "/workflow_json",
            "/is_public",
            "/tags/1",
            "/tgas",
        ],
    );
}

#[actix_web::test]
async fn texts_that_break_the_rules_are_told_all_at_once() {
    let server = World::new().server().await;
    let body = json!({
        "name": "a\u{0}b",
        "description": "c\u{0}",
        "workflow_json": {"3": {"inputs": {}}},
        "tags": ["fine", "x\u{0}", ""],
    });

    let (status, code, pointers) = server.post("/workflows", &body).await.problem();

    assert_eq!((status, code.as_str()), (422, "validation"));
    for pointer in ["/name", "/description", "/tags/1", "/tags/2"] {
        assert!(
            pointers.contains(&pointer.to_owned()),
            "{pointer}: {pointers:?}"
        );
    }
    assert!(
        pointers
            .iter()
            .any(|pointer| pointer.starts_with("/workflow_json/3")),
        "{pointers:?}"
    );
}

#[actix_web::test]
async fn names_have_1_to_200_characters() {
    let server = World::new().server().await;

    for name in ["", "  \t", &"ä".repeat(201)] {
        let body = json!({"name": name, "workflow_json": graph()});
        server
            .post("/workflows", &body)
            .await
            .is_problem(422, "validation", &["/name"]);
    }
    let body = json!({"name": format!(" {} ", "ä".repeat(200)), "workflow_json": graph()});
    let answer = server.post("/workflows", &body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["name"], "ä".repeat(200));
}

#[actix_web::test]
async fn a_graph_in_the_ui_format_is_told_how_to_be_exported() {
    let server = World::new().server().await;
    let ui = json!({"last_node_id": 9, "nodes": [{"id": 3, "type": "KSampler"}], "links": [], "version": 0.4});

    let answer = server
        .post("/workflows", &json!({"name": "a", "workflow_json": ui}))
        .await;

    answer.is_problem(422, "validation", &["/workflow_json"]);
    assert!(
        answer.json()["errors"][0]["detail"]
            .as_str()
            .unwrap()
            .contains("API"),
        "{answer:?}"
    );
}

#[actix_web::test]
async fn a_graph_nested_ten_thousand_deep_is_judged_by_its_depth() {
    let server = World::new().server().await;

    for depth in [10_000, 1_000_000] {
        let deep = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let answer = post_text(
            &server,
            format!("{{\"name\": \"a\", \"workflow_json\": {deep}}}"),
        )
        .await;
        answer.is_problem(422, "validation", &["/workflow_json"]);
        let deep = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        if deep.len() < 5_000_000 {
            let answer = post_text(
                &server,
                format!("{{\"name\": \"a\", \"workflow_json\": {deep}}}"),
            )
            .await;
            answer.is_problem(422, "validation", &["/workflow_json"]);
        }
    }
}

#[actix_web::test]
async fn a_graph_of_ten_mebibytes_is_413_and_one_of_four_and_a_half_has_its_pointer() {
    let server = World::new().server().await;
    let graph_of = |bytes: usize| {
        let text = "x".repeat(bytes);
        json!({"name": "a", "workflow_json": {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": text}}}})
    };

    let too_large = server.post("/workflows", &graph_of(10 * 1024 * 1024)).await;
    too_large.is_problem(413, "payload-too-large", &[]);
    assert!(
        too_large.json()["detail"]
            .as_str()
            .unwrap()
            .contains("5242880")
    );
    let large = server
        .post("/workflows", &graph_of(4 * 1024 * 1024 + 512 * 1024))
        .await;
    large.is_problem(422, "validation", &["/workflow_json"]);
}

#[actix_web::test]
async fn bodies_of_other_types_are_415() {
    let server = World::new().server().await;

    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let request = as_user("alice", Method::POST, "/workflows")
            .insert_header((CONTENT_TYPE, content_type))
            .set_payload("{}");
        server
            .send(request)
            .await
            .is_problem(415, "unsupported-media-type", &[]);
    }
    let untyped = as_user("alice", Method::POST, "/workflows").set_payload("{}");
    server
        .send(untyped)
        .await
        .is_problem(415, "unsupported-media-type", &[]);
    let packed = as_user("alice", Method::POST, "/workflows")
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((CONTENT_ENCODING, "gzip"))
        .set_payload("{}");
    server
        .send(packed)
        .await
        .is_problem(415, "unsupported-media-type", &[]);
}

#[actix_web::test]
async fn a_charset_in_the_content_type_is_fine() {
    let server = World::new().server().await;
    let body = json!({"name": "a", "workflow_json": graph()}).to_string();

    let request = as_user("alice", Method::POST, "/workflows")
        .insert_header((CONTENT_TYPE, "Application/JSON; charset=utf-8"))
        .set_payload(body);

    assert_eq!(server.send(request).await.status, 201);
}

#[actix_web::test]
async fn a_bad_uuid_is_told_as_one() {
    let server = World::new().server().await;

    for id in [
        "x",
        "0195000000007000800000000000abcd",
        "%7B01950000-0000-7000-8000-000000000001%7D",
        "01950000-0000-7000-8000-00000000000g",
    ] {
        for path in ["/workflows/", "/runs/", "/loras/"] {
            server
                .get(&format!("{path}{id}"))
                .await
                .is_problem(400, "invalid-id", &["{id}"]);
        }
    }
    let index = format!("/runs/{}/outputs/-1", atelier_testkit::random_id());
    server
        .get(&index)
        .await
        .is_problem(400, "invalid-id", &["{index}"]);
}

#[actix_web::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let server = World::new().server().await;

    server
        .get("/nothing")
        .await
        .is_problem(404, "not-found", &[]);
    server
        .get("/loras/import-from-google-drive/x")
        .await
        .is_problem(404, "not-found", &[]);
    let answer = server
        .send(as_user("alice", Method::PATCH, "/workflows"))
        .await;
    answer.is_problem(405, "method-not-allowed", &[]);
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
}

#[actix_web::test]
async fn parameters_that_nobody_knows_are_refused_everywhere() {
    let world = World::new();
    let server = world.server().await;
    let id = world.keep(&world.alice, a_workflow()).await.id;

    let answer = server.get(&format!("{}?expand=1", workflow_path(id))).await;

    answer.is_problem(422, "validation", &["?expand"]);
}

#[actix_web::test]
async fn a_database_that_is_down_is_503_and_no_word_of_it_gets_out() {
    let world = World::new();
    let server = world.server().await;
    world.store.outage().begin();

    let answer = server.get("/workflows").await;

    answer.is_problem(503, "unavailable", &[]);
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert!(
        !answer
            .json()
            .to_string()
            .contains("the test switched it off")
    );
}

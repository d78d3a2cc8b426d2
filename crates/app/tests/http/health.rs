use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::json;

use crate::support::World;

#[actix_web::test]
async fn a_server_whose_parts_work_is_ready() {
    let server = World::new().server().await;

    let alive = server.send(TestRequest::with_uri("/healthz")).await;
    let ready = server.send(TestRequest::with_uri("/readyz")).await;

    assert_eq!(alive.json(), json!({"status": "ok"}));
    assert_eq!(ready.status, 200);
    assert_eq!(
        ready.json(),
        json!({"status": "ready", "checks": [{"name": "blob_store", "up": true}]})
    );
    let head = server
        .send(TestRequest::with_uri("/readyz").method(Method::HEAD))
        .await;
    assert_eq!(head.status, 200);
}

#[actix_web::test]
async fn a_server_says_which_part_is_down() {
    let world = World::new();
    world.blobs.outage().begin();
    let server = world.server().await;

    let answer = server.send(TestRequest::with_uri("/readyz")).await;

    answer.is_problem(503, "not-ready", &[]);
    let problem = answer.json();
    assert_eq!(problem["detail"], "Down: blob_store.");
    assert_eq!(
        problem["checks"],
        json!([{"name": "blob_store", "up": false, "detail": "the object store cannot be reached"}])
    );
}

#[actix_web::test]
async fn a_server_that_stops_is_alive_and_not_ready() {
    let world = World::new();
    let server = world.server().await;
    world.stopping.cancel();

    server
        .send(TestRequest::with_uri("/readyz"))
        .await
        .is_problem(503, "not-ready", &[]);
    assert_eq!(
        server.send(TestRequest::with_uri("/healthz")).await.status,
        200
    );
}

#[actix_web::test]
async fn health_is_only_read() {
    let server = World::new().server().await;

    let answer = server
        .send(TestRequest::with_uri("/healthz").method(Method::POST))
        .await;

    answer.is_problem(405, "method-not-allowed", &[]);
    assert_eq!(answer.header("allow"), Some("GET, HEAD"));
}

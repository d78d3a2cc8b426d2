use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::test::TestRequest;
use atelier::http::openapi;
use atelier_domain::identity::Identity;
use atelier_domain::ports::{IdentityError, TokenVerifier};
use atelier_testkit::{SequentialIds, random_id};

use crate::support::{API, World, as_user, serve};

/// What needs no token.
const OPEN: [&str; 5] = ["/healthz", "/metrics", "/readyz", "/openapi.json", "/docs"];

#[actix_web::test]
async fn every_documented_route_wants_a_token_except_health_and_documents() {
    let server = World::new().server().await;
    let mut asked = 0;

    for (path, methods) in openapi::methods() {
        let path = path
            .replace("{id}", &random_id().to_string())
            .replace("{index}", "0");
        for method in methods {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = server
                .send(TestRequest::with_uri(&path).method(method))
                .await;
            if OPEN.contains(&path.as_str()) {
                assert!(
                    answer.status.is_success() || answer.status.is_redirection(),
                    "{path}: {answer:?}"
                );
            } else {
                answer.is_problem(401, "unauthenticated", &[]);
                assert_eq!(
                    answer.header("www-authenticate"),
                    Some("Bearer realm=\"atelier\"")
                );
                asked += 1;
            }
        }
    }

    assert_eq!(asked, 39);
}

#[actix_web::test]
async fn somebody_elses_things_are_absent_on_every_documented_route() {
    let world = World::new();
    let server = world.server().await;
    let mut asked = 0;

    for (path, methods) in openapi::methods() {
        if !path.contains("{id}") {
            continue;
        }
        let path = path
            .replace("{id}", &SequentialIds::nth(999).to_string())
            .replace("{index}", "0");
        let path = path.strip_prefix(API).unwrap();
        for method in methods {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let body = match method {
                Method::PUT => serde_json::json!({"name": "a", "workflow_json": graph()}),
                _ => serde_json::json!({}),
            };
            let request = as_user("bob", method.clone(), path).set_json(body);
            // What resumable uploads want besides.
            let request = request
                .insert_header(("tus-resumable", "1.0.0"))
                .insert_header(("upload-offset", "0"));
            let request = if path.contains("/uploads/") && method == Method::PATCH {
                request.insert_header(("content-type", "application/offset+octet-stream"))
            } else {
                request
            };
            let answer = server.send(request).await;
            assert_eq!(answer.problem().0, 404, "{path}: {answer:?}");
            asked += 1;
        }
    }

    assert_eq!(asked, 25);
}

fn graph() -> serde_json::Value {
    serde_json::from_str(atelier_testkit::build::a_graph().as_str()).unwrap()
}

#[actix_web::test]
async fn whatever_is_no_bearer_token_is_401_with_words_that_help() {
    let server = World::new().server().await;

    for (header, hint) in [
        ("Basic dTpw", "Bearer <token>"),
        ("Bearer", "no token"),
        ("eyJhbGciOiJIUzI1NiJ9.e30.x", "Bearer <token>"),
        ("Bearer nobody", "nobody has this token"),
    ] {
        let request =
            TestRequest::with_uri(&format!("{API}/runs")).insert_header((AUTHORIZATION, header));
        let answer = server.send(request).await;
        answer.is_problem(401, "unauthenticated", &[]);
        assert!(
            answer.json()["detail"].as_str().unwrap().contains(hint),
            "{answer:?}"
        );
        assert!(
            answer
                .header("www-authenticate")
                .unwrap()
                .starts_with("Bearer realm=\"atelier\", error=")
        );
    }
}

#[actix_web::test]
async fn two_authorization_headers_are_one_too_many() {
    let server = World::new().server().await;

    let request =
        as_user("alice", Method::GET, "/runs").append_header((AUTHORIZATION, "Bearer bob"));

    server
        .send(request)
        .await
        .is_problem(401, "unauthenticated", &[]);
}

#[actix_web::test]
async fn whoever_is_not_signed_in_learns_that_before_anything_else() {
    let server = World::new().server().await;

    for (method, path) in [
        (Method::GET, "/workflows/not-a-uuid"),
        (Method::GET, "/runs?nonsense=1"),
        (Method::POST, "/workflows"),
        (Method::POST, "/loras"),
        (Method::POST, "/loras/uploads"),
        (Method::PATCH, "/loras/uploads/not-a-uuid"),
        (Method::POST, "/loras/import-from-url"),
        (Method::GET, "/loras/system?nonsense=1"),
    ] {
        let request = TestRequest::with_uri(&format!("{API}{path}"))
            .method(method)
            .set_payload("{");
        server
            .send(request)
            .await
            .is_problem(401, "unauthenticated", &[]);
    }
}

#[actix_web::test]
async fn an_identity_provider_that_is_down_is_503_with_a_time_to_come_back() {
    let world = World::new();
    let server = world.server().await;
    world.tokens.outage().begin();

    let answer = server.get("/runs").await;

    answer.is_problem(503, "unavailable", &[]);
    assert_eq!(answer.header("retry-after"), Some("2"));
}

struct Panics;

#[async_trait::async_trait]
impl TokenVerifier for Panics {
    async fn verify(&self, _token: &str) -> Result<Identity, IdentityError> {
        panic!("the secret is hunter2")
    }
}

#[actix_web::test]
async fn a_panic_is_500_and_tells_nothing() {
    let server = serve(World::new().api_with(Arc::new(Panics))).await;

    let answer = server.get("/runs").await;

    answer.is_problem(500, "internal", &[]);
    assert!(!answer.json().to_string().contains("hunter2"));
    assert_eq!(
        server.send(TestRequest::with_uri("/healthz")).await.status,
        200
    );
}

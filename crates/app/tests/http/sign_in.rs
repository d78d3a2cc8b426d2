//! The ways in besides a Supabase token: Cloudflare Access and personal tokens.

use actix_web::http::Method;
use actix_web::test::TestRequest;
use atelier::http::openapi;
use atelier_domain::identity::{ExternalIdentity, Identity, ServiceIdentity};
use atelier_testkit::random_id;
use serde_json::json;

use crate::support::{API, Answer, Server, World, as_user};

fn carol(subject: &str) -> Identity {
    Identity::External(ExternalIdentity {
        issuer: "https://team.cloudflareaccess.com".to_owned(),
        subject: subject.to_owned(),
        email: "carol@example.com".to_owned(),
    })
}

fn robot(client_id: &str) -> Identity {
    Identity::Service(ServiceIdentity {
        issuer: "https://team.cloudflareaccess.com".to_owned(),
        client_id: client_id.to_owned(),
    })
}

fn with_assertion(method: Method, path: &str, assertion: &str) -> TestRequest {
    TestRequest::with_uri(&format!("{API}{path}"))
        .method(method)
        .insert_header(("cf-access-jwt-assertion", assertion.to_owned()))
}

fn a_workflow() -> serde_json::Value {
    json!({
        "name": "a",
        "workflow_json": serde_json::from_str::<serde_json::Value>(atelier_testkit::build::a_graph().as_str()).unwrap(),
    })
}

#[actix_web::test]
async fn a_person_of_cloudflare_access_is_the_same_one_ever_after() {
    let mut world = World::new();
    world.assertions = world.assertions.with_identity("carol", carol("1"));
    let server = world.server().await;

    let request = with_assertion(Method::POST, "/workflows", "carol").set_json(a_workflow());
    let made = server.send(request).await;
    assert_eq!(made.status, 201, "{made:?}");
    let seen = server
        .send(with_assertion(Method::GET, "/workflows", "carol"))
        .await;

    assert_eq!(seen.json()["items"][0]["id"], made.json()["id"]);
    let by_cookie = TestRequest::with_uri(&format!("{API}/workflows"))
        .insert_header(("cookie", "CF_Authorization=carol"));
    assert_eq!(server.send(by_cookie).await.json(), seen.json());
}

#[actix_web::test]
async fn a_person_with_an_account_is_linked_to_it_by_their_address_once() {
    let mut world = World::new();
    world.assertions = world
        .assertions
        .with_identity("carol", carol("1"))
        .with_identity("somebody else with her address", carol("2"));
    world
        .store
        .add_account(world.alice.user_id(), "Carol@example.com");
    let server = world.server().await;
    let request = as_user("alice", Method::POST, "/workflows").set_json(a_workflow());
    let made = server.send(request).await;

    let seen = server
        .send(with_assertion(Method::GET, "/workflows", "carol"))
        .await;
    let other = with_assertion(Method::GET, "/workflows", "somebody else with her address");
    let refused = server.send(other).await;

    assert_eq!(seen.json()["items"][0]["id"], made.json()["id"]);
    refused.is_problem(401, "unauthenticated", &[]);
    let events = world.store.audit_events();
    assert!(
        events.iter().any(|event| event.action == "sign_in.refused"),
        "{events:?}"
    );
}

#[actix_web::test]
async fn a_program_acts_for_whom_it_was_told_to_and_for_nobody_else() {
    let mut world = World::new();
    world.assertions = world
        .assertions
        .with_identity("robot", robot("robot.access"))
        .with_identity("stranger", robot("stranger.access"));
    let server = world.server().await;
    let request = as_user("bob", Method::POST, "/workflows").set_json(a_workflow());
    let of_bob = server.send(request).await;

    let seen = server
        .send(with_assertion(Method::GET, "/workflows", "robot"))
        .await;
    let refused = server
        .send(with_assertion(Method::GET, "/workflows", "stranger"))
        .await;

    assert_eq!(seen.json()["items"][0]["id"], of_bob.json()["id"]);
    refused.is_problem(401, "unauthenticated", &[]);
}

#[actix_web::test]
async fn of_two_credentials_both_must_be_good_and_the_bearer_decides() {
    let mut world = World::new();
    world.assertions = world.assertions.with_identity("carol", carol("1"));
    let server = world.server().await;
    let request = as_user("alice", Method::POST, "/workflows").set_json(a_workflow());
    let of_alice = server.send(request).await;
    let both = |bearer: &str, assertion: &'static str| {
        as_user(bearer, Method::GET, "/workflows")
            .insert_header(("cf-access-jwt-assertion", assertion))
    };

    let seen = server.send(both("alice", "carol")).await;
    assert_eq!(seen.json()["items"][0]["id"], of_alice.json()["id"]);
    for (bearer, assertion) in [("alice", "nobody"), ("nobody", "carol")] {
        let refused = server.send(both(bearer, assertion)).await;
        refused.is_problem(401, "unauthenticated", &[]);
    }
}

#[actix_web::test]
async fn another_site_changes_nothing_by_a_cookie_alone() {
    let mut world = World::new();
    world.assertions = world.assertions.with_identity("carol", carol("1"));
    let server = world.server().await;

    let request = with_assertion(Method::POST, "/workflows", "carol")
        .insert_header(("sec-fetch-site", "cross-site"))
        .set_json(a_workflow());

    server.send(request).await.is_problem(403, "forbidden", &[]);
}

async fn token_with(server: &Server, scopes: &[&str]) -> Answer {
    let draft = json!({"name": "script", "scopes": scopes});
    let made = server
        .send(as_user("alice", Method::POST, "/tokens").set_json(draft))
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    made
}

fn secret_of(made: &Answer) -> String {
    made.json()["token"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn a_token_is_shown_once_and_does_what_it_may() {
    let world = World::new();
    let server = world.server().await;

    let made = token_with(&server, &["workflows:read"]).await;
    let secret = secret_of(&made);
    let listed = server.get("/tokens").await;

    assert!(secret.starts_with("atl_") && secret.len() == 47, "{secret}");
    assert_eq!(made.header("cache-control"), Some("no-store"));
    let listed = listed.json();
    assert_eq!(listed["items"][0]["id"], made.json()["id"]);
    assert!(!listed.to_string().contains(&secret));
    assert!(listed["items"][0].get("token").is_none());
    assert_eq!(
        server
            .send(as_user(&secret, Method::GET, "/workflows"))
            .await
            .status,
        200
    );
    let used = server.get("/tokens").await.json();
    assert!(used["items"][0]["last_used_at"].is_string(), "{used}");
}

#[actix_web::test]
async fn a_token_that_is_revoked_or_expired_is_no_good() {
    let world = World::new();
    let server = world.server().await;
    let made = token_with(&server, &["workflows:read"]).await;
    let secret = secret_of(&made);
    let in_an_hour = (atelier_domain::ports::Clock::now(&*world.clock)
        + chrono::Duration::hours(1))
    .to_rfc3339();
    let draft = json!({"name": "brief", "scopes": ["runs:read"], "expires_at": in_an_hour});
    let brief = server
        .send(as_user("alice", Method::POST, "/tokens").set_json(draft))
        .await;
    let brief = secret_of(&brief);

    let path = format!("/tokens/{}", made.json()["id"].as_str().unwrap());
    let by_bob = server.send(as_user("bob", Method::DELETE, &path)).await;
    by_bob.is_problem(404, "token-not-found", &[]);
    assert_eq!(
        server
            .send(as_user("alice", Method::DELETE, &path))
            .await
            .status,
        204
    );
    assert_eq!(
        server
            .send(as_user(&brief, Method::GET, "/runs"))
            .await
            .status,
        200
    );
    world.clock.advance(std::time::Duration::from_secs(3_601));

    for token in [secret.as_str(), brief.as_str(), "atl_nobody"] {
        let answer = server.send(as_user(token, Method::GET, "/runs")).await;
        answer.is_problem(401, "unauthenticated", &[]);
        assert!(!answer.json().to_string().contains(token));
    }
}

#[actix_web::test]
async fn a_token_makes_no_tokens() {
    let server = World::new().server().await;
    let secret = secret_of(&token_with(&server, &["workflows:write"]).await);

    for (method, path) in [
        (Method::GET, "/tokens".to_owned()),
        (Method::POST, "/tokens".to_owned()),
        (Method::DELETE, format!("/tokens/{}", random_id())),
    ] {
        let answer = server.send(as_user(&secret, method, &path)).await;
        answer.is_problem(403, "forbidden", &[]);
    }
}

#[actix_web::test]
async fn everything_that_is_wrong_with_a_token_is_told_at_once() {
    let server = World::new().server().await;
    let draft = json!({
        "name": "", "scopes": ["runs:read", "everything"], "expires_at": "2001-01-01T00:00:00Z", "more": 1,
    });
    let refused = server
        .send(as_user("alice", Method::POST, "/tokens").set_json(draft))
        .await;
    refused.is_problem(422, "validation", &["/more"]);
    let draft = json!({"name": "", "scopes": ["runs:read", "everything"], "expires_at": "2001-01-01T00:00:00Z"});
    let refused = server
        .send(as_user("alice", Method::POST, "/tokens").set_json(draft))
        .await;
    refused.is_problem(422, "validation", &["/name", "/scopes/1", "/expires_at"]);
}

/// The scopes that the document asks of a personal token for an operation.
fn documented_scopes() -> Vec<(Method, String, Option<String>)> {
    let document = serde_json::to_value(openapi::document()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(path) = path.strip_prefix(API) else {
            continue;
        };
        let path = path
            .replace("{id}", &random_id().to_string())
            .replace("{index}", "0");
        for (method, operation) in item.as_object().unwrap() {
            let ways = operation["security"].as_array().unwrap();
            if ways.iter().any(|way| way.as_object().unwrap().is_empty()) {
                continue;
            }
            let scope = ways
                .iter()
                .find_map(|way| way["personalToken"][0].as_str())
                .map(str::to_owned);
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            operations.push((method, path.clone(), scope));
        }
    }
    operations
}

#[actix_web::test]
async fn every_operation_wants_the_scope_that_is_documented_and_no_other() {
    let server = World::new().server().await;
    let all = [
        "workflows:read",
        "workflows:write",
        "runs:read",
        "runs:write",
        "loras:read",
        "loras:write",
    ];
    let mut tried = 0;

    for (method, path, scope) in documented_scopes() {
        let Some(scope) = scope else { continue };
        let others: Vec<&str> = all.into_iter().filter(|other| *other != scope).collect();
        let without = secret_of(&token_with(&server, &others).await);
        let with = secret_of(&token_with(&server, &[&scope]).await);

        let refused = server.send(as_user(&without, method.clone(), &path)).await;
        refused.is_problem(403, "insufficient-scope", &[]);
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(
            challenge.contains(&format!("scope=\"{scope}\"")),
            "{challenge}"
        );
        let taken = server.send(as_user(&with, method.clone(), &path)).await;
        assert_ne!(taken.status, 403, "{method} {path}: {taken:?}");
        assert_ne!(taken.status, 401, "{method} {path}: {taken:?}");
        tried += 1;
    }

    assert!(tried >= 30, "{tried}");
}

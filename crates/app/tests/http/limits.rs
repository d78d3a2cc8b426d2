//! How much one person may ask for and take up.

use std::num::NonZeroU32;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use atelier_domain::usage::Quotas;
use serde_json::json;

use crate::support::{API, World, as_user};

#[actix_web::test]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let mut world = World::new();
    world.rate_limit = NonZeroU32::new(3);
    let server = world.server().await;

    for left in ["2", "1", "0"] {
        let answer = server.get("/runs").await;
        assert_eq!(answer.status, 200);
        let told = answer.header("ratelimit").unwrap();
        assert!(
            told.starts_with(&format!("\"default\";r={left};t=")),
            "{told}"
        );
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"default\";q=3;w=60")
        );
    }
    let refused = server.get("/runs").await;

    refused.is_problem(429, "too-many-requests", &[]);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=21).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").unwrap().contains("r=0"));
    // Nobody else has to wait for that.
    let other = server.send(as_user("bob", Method::GET, "/runs")).await;
    assert_eq!(other.status, 200);
}

#[actix_web::test]
async fn without_a_limit_nothing_is_told_of_one() {
    let server = World::new().server().await;

    assert_eq!(server.get("/runs").await.header("ratelimit"), None);
}

#[actix_web::test]
async fn usage_says_what_there_is_and_may_be() {
    let mut world = World::new();
    world.limits.quotas = Quotas {
        lora_bytes: Some(1_000),
        ..Quotas::default()
    };
    world.limits.running_runs = Some(4);
    let server = world.server().await;

    let usage = server.get("/usage").await;

    assert_eq!(
        usage.json(),
        json!({
            "lora_bytes": {"used": 0, "limit": 1_000},
            "input_bytes": {"used": 0, "limit": null},
            "output_bytes": {"used": 0, "limit": null},
            "pending_runs": {"used": 0, "limit": 2_000},
            "running_runs": {"used": 0, "limit": 4},
        })
    );
}

#[actix_web::test]
async fn pages_of_allowed_origins_may_ask_and_others_are_kept_out_by_their_browsers() {
    let mut world = World::new();
    world.cors_origins = vec!["https://studio.example".to_owned()];
    let server = world.server().await;
    let preflight = |origin: &'static str| {
        TestRequest::with_uri(&format!("{API}/loras/uploads"))
            .method(Method::OPTIONS)
            .insert_header(("origin", origin))
            .insert_header(("access-control-request-method", "POST"))
            .insert_header((
                "access-control-request-headers",
                "authorization, upload-length",
            ))
    };

    let allowed = server.send(preflight("https://studio.example")).await;
    let refused = server.send(preflight("https://evil.example")).await;
    let asked =
        as_user("alice", Method::GET, "/runs").insert_header(("origin", "https://studio.example"));
    let answered = server.send(asked).await;

    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://studio.example")
    );
    assert_eq!(refused.header("access-control-allow-origin"), None);
    assert_eq!(
        answered.header("access-control-allow-origin"),
        Some("https://studio.example")
    );
    let exposed = answered
        .header("access-control-expose-headers")
        .unwrap()
        .to_lowercase();
    for header in [
        "etag",
        "location",
        "upload-offset",
        "ratelimit",
        "x-request-id",
    ] {
        assert!(exposed.contains(header), "{exposed}");
    }
    assert_eq!(answered.header("access-control-allow-credentials"), None);
}

#[actix_web::test]
async fn without_origins_no_page_of_another_site_is_let_in() {
    let server = World::new().server().await;

    let request =
        as_user("alice", Method::GET, "/runs").insert_header(("origin", "https://studio.example"));

    let answer = server.send(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

//! Whether the server lives, whether it can work, and what it says about itself.

use std::time::Duration;

use atelier_comfyui_sim::{Faults, Front};
use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

const PATIENCE: Duration = Duration::from_secs(30);

async fn get(server: &Server, path: &str) -> atelier_tests_integration::client::Answer {
    let anonymous = server.anonymous();
    anonymous.send(anonymous.at(Method::GET, path)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_everything_it_needs_is_ready() {
    let server = &house().await.server;

    assert_eq!(get(server, "/healthz").await.expect(200)["status"], "ok");
    let ready = get(server, "/readyz").await.expect(200);

    assert_eq!(ready["status"], "ready", "{ready}");
    let checks = ready["checks"].as_array().expect("a list");
    let names: Vec<_> = checks.iter().map(|check| &check["name"]).collect();
    assert_eq!(names, ["database", "blob_store", "comfyui"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_names_what_is_down_and_notices_when_it_is_back() {
    let site = Site::new(ATELIER).await.on_s3();
    let server = site.serve();
    let down = async |expected: &[&str]| {
        wait_until("readiness to change", PATIENCE, async || {
            let answer = get(&server, "/readyz").await;
            let report = answer.json();
            let is_down = |check: &&Value| check["up"] == false;
            let found: Vec<_> = report["checks"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(is_down)
                .map(|check| check["name"].clone())
                .collect();
            if answer.status == 503 {
                assert_eq!(report["code"], "not-ready", "{report}");
            }
            found == expected && (answer.status == 503) != expected.is_empty()
        })
        .await;
    };

    down(&[]).await;
    site.backend.faults().set(Faults {
        front: Some(Front::Redirect),
        ..Faults::default()
    });
    down(&["comfyui"]).await;
    site.s3_gate().fail_with(Some(503));
    down(&["blob_store", "comfyui"]).await;
    assert_eq!(get(&server, "/healthz").await.status, 200);
    site.backend.faults().clear();
    site.s3_gate().fail_with(None);
    down(&[]).await;
    // Not even an operator's limit brings the server down.
    let name = site.database.text("select current_database()::text").await;
    site.database
        .execute(&format!(
            "alter database {name} connection limit 0;
             select pg_terminate_backend(pid) from pg_stat_activity
             where datname = current_database() and usename = 'atelier_app'"
        ))
        .await;
    down(&["database"]).await;
    let client = server.client();
    let refused = client.get("/workflows").await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.expect_problem(503, "unavailable");
    site.database
        .execute(&format!("alter database {name} connection limit -1"))
        .await;
    down(&[]).await;
    client.get("/workflows").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backend_of_two_is_enough_to_be_ready() {
    let site = Site::new(ATELIER).await;
    let other = Backend::start().await;
    let backends = [("gpu-1", &site.backend), ("gpu-2", &other)];
    let server = site.setup().with_backends(&backends).start();
    let told = async |first_up: bool, second_up: bool| {
        let expected = json!([
            {"name": "gpu-1", "up": first_up},
            {"name": "gpu-2", "up": second_up},
        ]);
        wait_until("readiness to tell of backends", PATIENCE, async || {
            let answer = get(&server, "/readyz").await;
            let report = answer.json();
            let comfyui = &report["checks"][2];
            assert_eq!(comfyui["name"], "comfyui", "{report}");
            assert!(!report.to_string().contains("127.0.0.1"), "{report}");
            let is_ready = answer.status == 200;
            assert_eq!(is_ready, comfyui["up"] == true, "{report}");
            is_ready == (first_up || second_up) && comfyui["backends"] == expected
        })
        .await;
    };

    told(true, true).await;
    other
        .faults()
        .change(|faults| faults.front = Some(Front::Redirect));
    told(true, false).await;
    // One that says nothing at all does not hold up what is known of the other.
    other.faults().set(Faults {
        delay_answers_ms: 120_000,
        ..Faults::default()
    });
    told(true, false).await;
    site.backend
        .faults()
        .change(|faults| faults.front = Some(Front::Redirect));
    told(false, false).await;
    other.faults().clear();
    told(false, true).await;
    site.backend.faults().clear();
    told(true, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_describes_every_route() {
    let server = &house().await.server;

    let document = get(server, "/openapi.json").await.expect(200);

    let version = document["openapi"].as_str().expect("a version");
    assert!(version.starts_with("3.1."), "{version}");
    let paths = document["paths"].as_object().expect("paths");
    for (path, methods) in [
        ("/workflows", &["get", "post"][..]),
        ("/workflows/{id}", &["get", "put", "patch", "delete"]),
        ("/workflows/{id}/run", &["post"]),
        ("/workflows/{id}/runs", &["get"]),
        ("/runs", &["get"]),
        ("/runs/{id}", &["get"]),
        ("/runs/{id}/cancel", &["post"]),
        ("/runs/{id}/outputs/{index}", &["get"]),
        ("/loras", &["get", "post"]),
        ("/loras/{id}", &["get", "delete"]),
        ("/loras/{id}/content", &["get"]),
    ] {
        let item = &paths[&format!("/api/v1/comfyui{path}")];
        for method in methods {
            assert!(item[method].is_object(), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_about_the_api_need_no_other_host() {
    let server = &house().await.server;

    let moved = get(server, "/docs").await;
    let page = get(server, "/docs/").await;

    assert_eq!(moved.status, 308);
    assert_eq!(moved.header("location"), "/docs/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("script-src 'self'"), "{policy}");
    let html = page.text();
    assert!(
        !html.contains("http://") && !html.contains("https://"),
        "{html}"
    );
    let scripts: Vec<_> = html
        .split("src=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(!scripts.is_empty(), "{html}");
    for script in scripts {
        let path = format!("/docs/{}", script.trim_start_matches("./"));
        assert_eq!(get(server, &path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_forbids_to_guess_and_to_keep() {
    let server = &house().await.server;

    for path in ["/healthz", "/api/v1/comfyui/workflows", "/nowhere"] {
        let answer = get(server, path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert!(answer.headers.contains_key("x-request-id"), "{path}");
    }
}

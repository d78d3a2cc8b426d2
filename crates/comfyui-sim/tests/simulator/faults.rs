//! Each thing that can go wrong, one at a time.

use std::time::{Duration, Instant};

use atelier_comfyui_sim::{Credentials, Faults, Front};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio_tungstenite::tungstenite;

use crate::support::{Frame, Server, empty_to_save, eventually};

const ID: &str = "00000000-0000-4000-8000-000000000007";

#[tokio::test]
async fn a_deaf_socket_never_gets_a_frame() {
    let server = Server::start_with(|options| options.faults.deaf_sockets = true).await;
    let mut socket = server.connect("alice").await;
    let prompt_id = server.submit(&empty_to_save(1, "a"), Some("alice")).await;
    server.finished(&prompt_id).await;
    assert_eq!(socket.so_far().await, []);
}

#[tokio::test]
async fn a_stalled_publisher_delivers_later() {
    let server = Server::start().await;
    let mut socket = server.connect("alice").await;
    socket.so_far().await;
    server
        .simulator
        .faults()
        .change(|faults| faults.stall_publisher = true);
    let prompt_id = server.submit(&empty_to_save(1, "a"), Some("alice")).await;
    server.finished(&prompt_id).await;
    assert_eq!(socket.so_far().await, []);
    server.simulator.faults().clear();
    socket.until_end_of(&prompt_id).await;
}

#[tokio::test]
async fn sockets_are_cut_in_time() {
    let server = Server::start_with(|options| options.faults.cut_sockets_every_ms = Some(30)).await;
    assert!(!server.connect("alice").await.ends_in_order().await);
    server.simulator.faults().clear();
    let socket = server.connect("alice").await;
    server
        .simulator
        .faults()
        .change(|faults| faults.cut_sockets_every_ms = Some(1));
    assert!(
        !socket.ends_in_order().await,
        "an open socket follows the switch"
    );
}

#[tokio::test]
async fn answers_can_be_slow() {
    let server = Server::start().await;
    server
        .simulator
        .faults()
        .change(|faults| faults.delay_answers_ms = 120);
    let start = Instant::now();
    server.get("/prompt").await;
    assert!(start.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn a_share_of_the_requests_fails_in_the_same_pattern_every_time() {
    let mut patterns = Vec::new();
    for seed in [1, 1, 2] {
        let server = Server::start_with(|options| {
            options.faults = Faults {
                fail_percent: 30,
                fail_seed: seed,
                ..Faults::default()
            };
        })
        .await;
        let mut pattern = Vec::new();
        for _ in 0..100 {
            pattern.push(
                server.send(Method::GET, "/prompt", None).await.status()
                    == StatusCode::INTERNAL_SERVER_ERROR,
            );
        }
        let failed = pattern.iter().filter(|failed| **failed).count();
        assert!((15..45).contains(&failed), "{failed}");
        patterns.push(pattern);
    }
    assert_eq!(patterns[0], patterns[1]);
    assert_ne!(patterns[0], patterns[2]);
}

#[tokio::test]
async fn a_lost_answer_belongs_to_a_prompt_that_runs() {
    let server = Server::start_with(|options| options.faults.lose_prompt_answers = 1).await;
    let body = json!({"prompt": empty_to_save(1, "a"), "prompt_id": ID}).to_string();
    let lost = server
        .http
        .post(server.url("/prompt"))
        .body(body.clone())
        .send()
        .await;
    assert!(lost.is_err(), "the connection was cut");
    server.finished(ID).await;
    assert_eq!(
        (
            server.simulator.submissions(ID),
            server.simulator.executions(ID)
        ),
        (1, 1)
    );
    let answered = server
        .http
        .post(server.url("/prompt"))
        .body(body)
        .send()
        .await
        .unwrap();
    assert_eq!(
        answered.status(),
        StatusCode::OK,
        "only one answer was to be lost"
    );
}

#[tokio::test]
async fn a_chosen_node_fails() {
    for target in ["SaveImage", "2"] {
        let server =
            Server::start_with(|options| options.faults.error_at = Some(target.to_owned())).await;
        let entry = server.run(&empty_to_save(1, "a")).await;
        assert_eq!(entry["status"]["status_str"], "error");
        let error = &entry["status"]["messages"][2][1];
        assert_eq!(
            (&error["node_id"], &error["executed"]),
            (&json!("2"), &json!(["1"])),
            "{target}"
        );
    }
}

fn behind(front: Front) -> impl FnOnce(&mut atelier_comfyui_sim::SimulatorOptions) {
    move |options| {
        options.credentials = Some(Credentials {
            basic: Some(("ada".to_owned(), "secret".to_owned())),
            token: Some("token-1".to_owned()),
        });
        options.faults.front = Some(front);
    }
}

#[tokio::test]
async fn a_front_refuses_everything_without_credentials() {
    for (front, status) in [
        (Front::Redirect, StatusCode::FOUND),
        (Front::Unauthorized, StatusCode::UNAUTHORIZED),
    ] {
        let server = Server::start_with(behind(front)).await;
        for (method, path) in [
            (Method::GET, "/prompt"),
            (Method::POST, "/prompt"),
            (Method::GET, "/nosuch"),
            (Method::GET, "/api/jobs"),
        ] {
            let response = server.send(method, path, None).await;
            assert_eq!(response.status(), status, "{path}");
            let header = if front == Front::Redirect {
                "location"
            } else {
                "www-authenticate"
            };
            assert!(response.headers().contains_key(header), "{path}");
        }
        let url = server.simulator.url().replace("http", "ws");
        let refused = tokio_tungstenite::connect_async(format!("{url}/ws?clientId=a")).await;
        match refused {
            Err(tungstenite::Error::Http(response)) => {
                assert_eq!(response.status().as_u16(), status.as_u16());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_front_lets_the_right_credentials_through() {
    let server = Server::start_with(behind(Front::Redirect)).await;
    let get = || server.http.get(server.url("/prompt"));
    for (request, allowed) in [
        (get().basic_auth("ada", Some("secret")), true),
        (get().basic_auth("ada", Some("wrong")), false),
        (get().bearer_auth("token-1"), true),
        (get().bearer_auth("token-2"), false),
        (server.http.get(server.url("/prompt?token=token-1")), true),
    ] {
        assert_eq!(
            request.send().await.unwrap().status() == StatusCode::OK,
            allowed
        );
    }
    let url = format!(
        "{}/ws?clientId=a&token=token-1",
        server.simulator.url().replace("http", "ws")
    );
    tokio_tungstenite::connect_async(url).await.unwrap();
}

#[tokio::test]
async fn credentials_alone_mean_a_front_with_401() {
    let server = Server::start_with(|options| {
        options.credentials = Some(Credentials {
            basic: None,
            token: Some("t".to_owned()),
        });
    })
    .await;
    assert_eq!(
        server.send(Method::GET, "/prompt", None).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn history_can_be_late() {
    let server = Server::start_with(|options| options.faults.history_delay_ms = 1500).await;
    let mut socket = server.connect("alice").await;
    let prompt_id = server.submit(&empty_to_save(1, "a"), Some("alice")).await;
    socket.until_end_of(&prompt_id).await;
    assert_eq!(
        server.get(&format!("/history/{prompt_id}")).await,
        json!({})
    );
    server.finished(&prompt_id).await;
}

#[tokio::test]
async fn executed_can_come_twice() {
    let server = Server::start_with(|options| options.faults.duplicate_executed = true).await;
    let mut socket = server.connect("alice").await;
    let prompt_id = server.submit(&empty_to_save(1, "a"), Some("alice")).await;
    let frames = socket.until_end_of(&prompt_id).await;
    assert_eq!(
        frames
            .iter()
            .map(Frame::kind)
            .filter(|kind| kind == "executed")
            .count(),
        2
    );
    assert_eq!(
        server.finished(&prompt_id).await["outputs"]
            .as_object()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn the_jobs_api_can_be_broken() {
    let server = Server::start_with(|options| options.faults.jobs_api_fails = true).await;
    for path in ["/api/jobs", "/api/jobs/x"] {
        assert_eq!(
            server.send(Method::GET, path, None).await.status(),
            StatusCode::INTERNAL_SERVER_ERROR
        );
    }
    assert_eq!(
        server.send(Method::GET, "/queue", None).await.status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn control_routes_exist_only_when_asked_for() {
    let server = Server::start().await;
    assert_eq!(
        server
            .send(Method::GET, "/sim/executions", None)
            .await
            .status(),
        StatusCode::NOT_FOUND
    );
    let server = Server::start_with(|options| options.control = true).await;
    let response = server
        .send(
            Method::POST,
            "/sim/faults",
            Some(&json!({"front": "redirect", "delay_answers_ms": 1})),
        )
        .await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        server.simulator.faults().current().front,
        Some(Front::Redirect)
    );
    assert_eq!(
        server.send(Method::GET, "/prompt", None).await.status(),
        StatusCode::FOUND
    );
    assert_eq!(
        server.get("/sim/faults").await["delay_answers_ms"],
        1,
        "the front does not cover the control routes"
    );
    let wrong = server
        .send(
            Method::POST,
            "/sim/faults",
            Some(&json!({"nonsense": true})),
        )
        .await;
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
    server
        .send(Method::POST, "/sim/faults", Some(&json!({})))
        .await;
    assert_eq!(server.simulator.faults().current(), Faults::default());
    server.submit(&empty_to_save(1, "a"), None).await;
    server.send(Method::POST, "/sim/restart", None).await;
    eventually("it has restarted", async || {
        let answer = server.http.get(server.url("/history")).send().await;
        match answer {
            Ok(answer) => answer.text().await.is_ok_and(|text| text == "{}"),
            Err(_refused) => false,
        }
    })
    .await;
    assert_eq!(
        server
            .get("/sim/executions")
            .await
            .as_object()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials {
        basic: Some(("ada".to_owned(), "pass-1".to_owned())),
        token: Some("tok-1".to_owned()),
    };
    let shown = format!("{credentials:?}");
    assert!(
        !shown.contains("pass-1") && !shown.contains("tok-1"),
        "{shown}"
    );
}

//! What gets into the log, and what must not.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use actix_web::http::Method;
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{Answer, World, as_user};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn read(&self) -> Vec<Value> {
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Serves one request with everything logged.
async fn logged(world: &World, request: actix_web::test::TestRequest) -> (Answer, Lines) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .finish();
    let server = world.server().await;
    let _guard = tracing::subscriber::set_default(subscriber);
    (server.send(request).await, lines)
}

#[actix_web::test]
async fn every_line_of_a_request_carries_its_id_and_no_secret() {
    let world = World::new();
    let path = format!("/workflows/{}?token=hunter2", atelier_testkit::random_id());
    let request = as_user("alice", Method::GET, &path).insert_header(("X-Request-Id", "proxy-7"));

    let (answer, lines) = logged(&world, request).await;

    let id = answer.header("x-request-id").unwrap();
    let read = lines.read();
    for line in &read {
        assert_eq!(line["span"]["request_id"], id, "{line}");
        assert_eq!(line["span"]["client_request_id"], "proxy-7", "{line}");
    }
    let last = read.last().unwrap();
    assert_eq!(last["method"], "GET");
    assert_eq!(last["route"], "/api/v1/comfyui/workflows/{id}");
    assert_eq!(
        (&last["status"], &last["code"]),
        (&Value::from(422), &Value::from("validation"))
    );
    assert!(last["duration_ms"].as_f64().unwrap() >= 0.0);
    assert_eq!(last["span"]["user_id"], world.alice.user_id().to_string());
    for secret in ["hunter2", "alice"] {
        assert!(!lines.text().contains(secret), "{secret}: {}", lines.text());
    }
}

#[actix_web::test]
async fn a_hostile_request_id_is_left_out() {
    let world = World::new();
    let request =
        as_user("alice", Method::GET, "/runs").insert_header(("X-Request-Id", "a\"} {\"b"));

    let (_, lines) = logged(&world, request).await;

    assert!(
        !lines.text().contains("client_request_id"),
        "{}",
        lines.text()
    );
}

#[actix_web::test]
async fn the_cause_of_a_failure_is_logged_once_with_what_led_to_it() {
    let world = World::new();
    world.store.outage().begin();

    let (answer, lines) = logged(&world, as_user("alice", Method::GET, "/runs")).await;

    assert_eq!(answer.status, 503);
    assert_eq!(
        lines.text().matches("the test switched it off").count(),
        1,
        "{}",
        lines.text()
    );
    let last = lines.read().pop().unwrap();
    assert_eq!(last["level"], "ERROR");
    assert_eq!(
        last["cause"],
        "the database cannot be reached: the test switched it off"
    );
}

#[actix_web::test]
async fn lent_tokens_get_into_no_line() {
    for (path, header, body) in [
        (
            "/loras/import-from-google-drive",
            ("X-Google-Access-Token", "hunter2-token"),
            serde_json::json!({"google_drive_file_id": "1AbCdEfGhIjK"}),
        ),
        (
            "/loras/import-from-url",
            ("X-Source-Authorization", "Bearer hunter2-token"),
            serde_json::json!({"url": "https://models.example/a.safetensors"}),
        ),
    ] {
        let world = World::new();
        let bytes = atelier_testkit::build::safetensors_bytes(1);
        for (remote, reference) in [
            (&world.drive, "1AbCdEfGhIjK"),
            (&world.web, "https://models.example/a.safetensors"),
        ] {
            remote.put(reference, "a.safetensors", bytes.clone());
            remote.want_token(reference, "hunter2-token");
        }
        let request = as_user("alice", Method::POST, path)
            .insert_header(header)
            .set_json(body);

        let (answer, lines) = logged(&world, request).await;

        assert_eq!(answer.status, 202, "{answer:?}");
        assert!(!lines.text().contains("hunter2"), "{}", lines.text());
    }
}

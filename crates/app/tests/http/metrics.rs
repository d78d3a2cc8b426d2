//! What is seen of the server from outside.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::test::TestRequest;
use actix_web::web;
use atelier::config::Secret;
use atelier::http::Observation;
use atelier::telemetry::Metrics;
use atelier::telemetry::figures::{ConnectionFigures, FigureReader};
use atelier_domain::ports::{Measurement, Telemetry as _};
use atelier_domain::run::{RunPhase, RunStatus};
use atelier_testkit::build::a_workflow;
use serde_json::json;

use crate::support::{Server, World, as_user, serve, workflow_path};

async fn observed(world: &World, observation: Observation) -> Server {
    let api = world.bare_api(Arc::new(world.tokens.clone()));
    serve(web::Data::new(api.observed_by(observation))).await
}

fn with_figures(world: &World) -> Observation {
    let connections = || ConnectionFigures {
        idle: 3,
        in_use: 2,
        waiting: 1,
    };
    Observation {
        figures: Some(FigureReader::new(
            Arc::new(world.store.queue()),
            connections,
        )),
        ..Observation::default()
    }
}

async fn read(server: &Server) -> String {
    let answer = server.send(TestRequest::with_uri("/metrics")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let text = String::from_utf8(answer.bytes().to_vec()).unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

/// The value of one line, such as `atelier_queue_depth`; `None` where there is none.
fn value(text: &str, line: &str) -> Option<f64> {
    let values = text.lines().filter_map(|given| given.strip_prefix(line));
    let mut values = values.filter_map(|rest| rest.strip_prefix(' '));
    values.next().map(|value| value.parse().unwrap())
}

#[actix_web::test]
async fn requests_are_counted_by_their_route_whatever_the_path_is() {
    let world = World::new();
    let server = observed(&world, Observation::default()).await;
    for secret in ["hunter2", "hunter3"] {
        server
            .send(as_user("alice", Method::GET, &format!("/runs/{secret}")))
            .await;
        server
            .send(TestRequest::with_uri(&format!("/{secret}")))
            .await;
    }
    let invented = Method::from_bytes(b"HUNTER2").unwrap();
    server
        .send(TestRequest::with_uri("/healthz").method(invented))
        .await;

    let text = read(&server).await;

    assert!(
        !text.contains("hunter") && !text.contains("HUNTER"),
        "{text}"
    );
    for (line, count) in [
        (
            r#"atelier_http_requests_total{method="GET",route="/api/v1/comfyui/runs/{id}",status="400"}"#,
            2.0,
        ),
        (
            r#"atelier_http_requests_total{method="GET",route="unmatched",status="404"}"#,
            2.0,
        ),
        (
            r#"atelier_http_requests_total{method="other",route="/healthz",status="405"}"#,
            1.0,
        ),
        (
            r#"atelier_http_request_duration_seconds_count{route="/api/v1/comfyui/runs/{id}"}"#,
            2.0,
        ),
    ] {
        assert_eq!(value(&text, line), Some(count), "{line}\n{text}");
    }
    let version = format!(
        r#"atelier_build_info{{version="{}"}}"#,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(value(&text, &version), Some(1.0), "{text}");
    assert!(value(&text, "process_resident_memory_bytes").unwrap() > 1e5);
}

#[actix_web::test]
async fn the_queue_and_the_connections_are_told_where_they_are_known() {
    let world = World::new();
    let server = observed(&world, with_figures(&world)).await;
    let workflow = world.keep(&world.alice, a_workflow()).await;
    let run = format!("{}/run", workflow_path(workflow.id));
    assert_eq!(server.post(&run, &json!({})).await.status, 202);

    let text = read(&server).await;

    assert_eq!(value(&text, "atelier_queue_depth"), Some(1.0), "{text}");
    assert_eq!(value(&text, "atelier_runs_running"), Some(0.0));
    assert!(value(&text, "atelier_queue_oldest_age_seconds").is_some());
    for (state, count) in [("idle", 3.0), ("in_use", 2.0), ("waiting", 1.0)] {
        let line = format!(r#"atelier_database_connections{{state="{state}"}}"#);
        assert_eq!(value(&text, &line), Some(count), "{text}");
    }
}

#[actix_web::test]
async fn a_database_that_is_away_takes_no_more_than_its_own_figures_along() {
    let world = World::new();
    let server = observed(&world, with_figures(&world)).await;
    world.store.outage().begin();

    let text = read(&server).await;

    assert!(!text.contains("atelier_queue_depth"), "{text}");
    assert!(text.contains("atelier_database_connections"), "{text}");
}

#[actix_web::test]
async fn a_token_closes_the_measurements_to_everybody_else() {
    let world = World::new();
    let observation = Observation {
        token: Some(Secret::new("scraper")),
        ..Observation::default()
    };
    let server = observed(&world, observation).await;
    let ask = |credentials: Option<&str>| {
        let request = TestRequest::with_uri("/metrics");
        match credentials {
            Some(text) => request.insert_header((AUTHORIZATION, text)),
            None => request,
        }
    };

    for wrong in [
        None,
        Some("Bearer scrape"),
        Some("Basic scraper"),
        Some("scraper"),
    ] {
        let answer = server.send(ask(wrong)).await;
        answer.is_problem(401, "unauthenticated", &[]);
    }
    for right in ["Bearer scraper", "bearer scraper"] {
        assert_eq!(server.send(ask(Some(right))).await.status, 200);
    }
}

#[actix_web::test]
async fn a_stream_counts_for_as_long_as_somebody_reads_it() {
    let world = World::new();
    let server = observed(&world, Observation::default()).await;
    let workflow = world.keep(&world.alice, a_workflow()).await;
    let run = format!("{}/run", workflow_path(workflow.id));
    let run = server.post(&run, &json!({})).await.json();
    let events = format!("/runs/{}/events", run["id"].as_str().unwrap());

    let (answer, body) = server.open(as_user("alice", Method::GET, &events)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        value(&read(&server).await, "atelier_http_streams"),
        Some(1.0)
    );
    drop(body);

    assert_eq!(
        value(&read(&server).await, "atelier_http_streams"),
        Some(0.0)
    );
}

#[actix_web::test]
async fn what_a_worker_measures_is_told_by_backend() {
    let world = World::new();
    let metrics = Metrics::new();
    let backend = || "gpu-1".to_owned();
    let took = Duration::from_secs(3);
    for measurement in [
        Measurement::PhaseEnded {
            backend: backend(),
            phase: RunPhase::Executing,
            took,
        },
        Measurement::RunEnded {
            backend: backend(),
            status: RunStatus::Failed,
            code: Some("timed_out".to_owned()),
            took,
        },
        Measurement::RunReleased { backend: backend() },
        Measurement::LoraCopied {
            backend: backend(),
            bytes: 1_000,
            took,
        },
        Measurement::BackendSeen {
            backend: backend(),
            answers: true,
        },
    ] {
        metrics.record(measurement);
    }
    let observation = Observation {
        metrics,
        ..Observation::default()
    };
    let server = observed(&world, observation).await;

    let text = read(&server).await;

    for (line, expected) in [
        (
            r#"atelier_run_phase_seconds_sum{phase="executing",backend="gpu-1"}"#,
            3.0,
        ),
        (
            r#"atelier_runs_ended_total{status="failed",code="timed_out",backend="gpu-1"}"#,
            1.0,
        ),
        ("atelier_run_seconds_sum", 3.0),
        (r#"atelier_runs_released_total{backend="gpu-1"}"#, 1.0),
        (r#"atelier_lora_sync_bytes_total{backend="gpu-1"}"#, 1_000.0),
        (r#"atelier_lora_sync_seconds_count{backend="gpu-1"}"#, 1.0),
        (r#"atelier_backend_up{backend="gpu-1"}"#, 1.0),
    ] {
        assert_eq!(value(&text, line), Some(expected), "{line}\n{text}");
    }
}

//! Backends that the simulator does not imitate: very old ones, odd ones, and
//! ones that lie.

use std::sync::Arc;
use std::time::Duration;

use atelier_comfyui::ComfyOptions;
use atelier_domain::ports::{ComfyClient, ComfyError, PromptState};
use axum::Json;
use axum::Router;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::support::{client, next, quick_graph, submission};

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn options(base_url: String) -> ComfyOptions {
    ComfyOptions {
        base_url,
        ..ComfyOptions::default()
    }
}

fn old_backend(version: &'static str, interrupts: Arc<Mutex<Vec<serde_json::Value>>>) -> Router {
    Router::new()
        .route(
            "/system_stats",
            get(move || async move { Json(json!({"system": {"comfyui_version": version}})) }),
        )
        .route(
            "/queue",
            get(|| async {
                Json(json!({"queue_running": [[0, "runs", {}, {}, []]], "queue_pending": []}))
            }),
        )
        .route("/queue", post(|| async {}))
        .route(
            "/interrupt",
            post(move |Json(body): Json<serde_json::Value>| async move {
                interrupts.lock().await.push(body);
            }),
        )
}

#[tokio::test]
async fn a_backend_that_interrupts_whatever_runs_is_told_only_of_the_prompt_that_runs() {
    let interrupts = Arc::default();
    let comfy = client(options(
        serve(old_backend("0.3.56", Arc::clone(&interrupts))).await,
    ));

    comfy.cancel("waits").await.unwrap();
    assert!(interrupts.lock().await.is_empty());

    comfy.cancel("runs").await.unwrap();
    assert_eq!(interrupts.lock().await.len(), 1);
}

#[tokio::test]
async fn a_backend_that_can_is_interrupted_by_id() {
    let interrupts = Arc::default();
    let comfy = client(options(
        serve(old_backend("0.3.57", Arc::clone(&interrupts))).await,
    ));

    comfy.cancel("runs").await.unwrap();

    assert_eq!(*interrupts.lock().await, [json!({"prompt_id": "runs"})]);
}

#[tokio::test]
async fn a_path_in_the_address_stands_before_every_path() {
    let comfy = Router::new().route(
        "/system_stats",
        get(|| async { Json(json!({"system": {"comfyui_version": "0.33.0"}})) }),
    );
    let url = serve(Router::new().nest("/gpu/comfy", comfy)).await;

    let comfy = client(options(format!("{url}/gpu/comfy/")));

    assert_eq!(comfy.information().await.unwrap().version, "0.33.0");
}

#[tokio::test]
async fn a_login_page_with_status_200_is_a_refusal() {
    let login = || async { Html("<form>") };
    let url = serve(Router::new().fallback(login)).await;
    let comfy = client(options(url));

    let error = comfy.information().await.unwrap_err();
    let socket = comfy.connect_events().await.unwrap_err();

    assert!(
        matches!(error, ComfyError::Unauthorized { status: 200 }),
        "{error:?}"
    );
    assert!(
        matches!(socket, ComfyError::Unauthorized { status: 200 }),
        "{socket:?}"
    );
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let endless = || async {
        let chunks = futures_util::stream::repeat(Ok::<_, std::convert::Infallible>(
            bytes::Bytes::from(vec![b' '; 1 << 20]),
        ));
        axum::body::Body::from_stream(chunks)
    };
    let comfy = client(options(
        serve(Router::new().route("/system_stats", get(endless))).await,
    ));

    let error = comfy.information().await.unwrap_err();

    assert!(matches!(error, ComfyError::Protocol(_)), "{error:?}");
}

#[tokio::test]
async fn nonsense_is_not_repeated() {
    let nonsense = || async { (StatusCode::OK, "/srv/secret is not JSON") };
    let comfy = client(options(serve(Router::new().fallback(nonsense)).await));

    for error in [
        comfy.information().await.map(drop).unwrap_err(),
        comfy.queue().await.map(drop).unwrap_err(),
        comfy.prompt_state("x").await.map(drop).unwrap_err(),
        comfy
            .submit(submission(&quick_graph("x"), "c"))
            .await
            .map(drop)
            .unwrap_err(),
        comfy.lora_catalogue().await.map(drop).unwrap_err(),
        comfy
            .checkpoint_metadata("a.safetensors")
            .await
            .map(drop)
            .unwrap_err(),
    ] {
        assert!(matches!(error, ComfyError::Protocol(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_never_comes_is_lost() {
    let never = || async { std::future::pending::<()>().await };
    let url = serve(Router::new().route("/prompt", post(never))).await;
    let comfy = client(ComfyOptions {
        answer_timeout: Duration::from_millis(200),
        ..options(url)
    });

    let error = comfy
        .submit(submission(&quick_graph("x"), "c"))
        .await
        .unwrap_err();

    assert!(matches!(error, ComfyError::AnswerLost(_)), "{error:?}");
}

#[tokio::test]
async fn an_upgraded_backend_is_noticed_with_the_next_socket() {
    let asked = Arc::new(Mutex::new(0));
    let jobs = {
        let asked = Arc::clone(&asked);
        move || async move {
            *asked.lock().await += 1;
            StatusCode::NOT_FOUND
        }
    };
    let router = Router::new()
        .route("/api/jobs/{id}", get(jobs))
        .route(
            "/queue",
            get(|| async { Json(json!({"queue_running": [], "queue_pending": []})) }),
        )
        .route("/history/{id}", get(|| async { Json(json!({})) }));
    let comfy = client(options(serve(router).await));

    for _ in 0..3 {
        assert_eq!(comfy.prompt_state("x").await.unwrap(), PromptState::Unknown);
    }
    assert_eq!(
        *asked.lock().await,
        1,
        "what is not there is asked for once"
    );
    drop(comfy.connect_events().await);
    comfy.prompt_state("x").await.unwrap();
    assert_eq!(*asked.lock().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_other_end_is_dead_ends_with_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let dead = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let socket = tokio_tungstenite::accept_async(socket).await.unwrap();
        // Open, but never read: no ping is answered.
        std::future::pending::<()>().await;
        drop(socket);
    });
    let comfy = client(ComfyOptions {
        ping_interval: Duration::from_millis(50),
        pong_timeout: Duration::from_millis(300),
        ..options(url)
    });

    let mut events = comfy.connect_events().await.unwrap();

    assert!(matches!(
        next(&mut events).await,
        Some(Err(ComfyError::Unreachable(_)))
    ));
    assert!(next(&mut events).await.is_none());
    dead.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_socket_that_answers_pings_lives_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
        let mut pings = 0;
        // Reading answers the pings; after a while something is said.
        while let Some(Ok(message)) = futures_util::StreamExt::next(&mut socket).await {
            pings += u32::from(message.is_ping());
            if pings == 20 {
                let status =
                    r#"{"type":"status","data":{"status":{"exec_info":{"queue_remaining":7}}}}"#;
                futures_util::SinkExt::send(&mut socket, status.into())
                    .await
                    .unwrap();
            }
        }
    });
    let comfy = client(ComfyOptions {
        ping_interval: Duration::from_millis(50),
        pong_timeout: Duration::from_millis(400),
        ..options(url)
    });

    let mut events = comfy.connect_events().await.unwrap();

    assert!(matches!(
        next(&mut events).await,
        Some(Ok(atelier_domain::ports::ComfyEvent::QueueRemaining(7)))
    ));
}

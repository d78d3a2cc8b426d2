//! What a restart loses, and what it leaves.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::support::{Server, empty_to_save, eventually, long};

#[tokio::test]
async fn queue_history_and_numbers_are_lost_and_output_stays() {
    let server = Server::start_with(|options| options.step_delay = Duration::from_millis(5)).await;
    let done = server.submit(&empty_to_save(1, "kept"), None).await;
    server.finished(&done).await;
    let running = server.submit(&long(10_000, 1), None).await;
    server.running(&running).await;
    let pending = server.submit(&empty_to_save(2, "lost"), None).await;
    let address = server.simulator.local_addr();

    server.simulator.restart().await.unwrap();

    assert_eq!(server.simulator.local_addr(), address);
    assert_eq!(
        server.get("/queue").await,
        json!({"queue_running": [], "queue_pending": []})
    );
    assert_eq!(server.get("/history").await, json!({}));
    for lost in [&done, &running, &pending] {
        let job = server
            .send(Method::GET, &format!("/api/jobs/{lost}"), None)
            .await;
        assert_eq!(job.status(), StatusCode::NOT_FOUND);
    }
    let (_, answer) = server
        .post_prompt(&json!({"prompt": empty_to_save(3, "new")}))
        .await;
    assert_eq!(answer["number"], 0);
    assert!(server.path("output/kept_00001_.png").exists());
    assert_eq!(
        [&done, &running, &pending].map(|id| (
            server.simulator.submissions(id),
            server.simulator.executions(id)
        )),
        [(1, 1), (1, 1), (1, 0)],
        "the counts survive"
    );
}

#[tokio::test]
async fn temp_files_are_deleted() {
    let server = Server::start().await;
    let prompt = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    });
    let entry = server.run(&prompt).await;
    let name = entry["outputs"]["2"]["images"][0]["filename"]
        .as_str()
        .unwrap();
    server.simulator.restart().await.unwrap();
    let response = server
        .send(
            Method::GET,
            &format!("/view?filename={name}&type=temp"),
            None,
        )
        .await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn sockets_are_cut_without_a_close_frame() {
    let server = Server::start().await;
    let mut socket = server.connect("alice").await;
    socket.so_far().await;
    let (ended_in_order, restarted) =
        tokio::join!(socket.ends_in_order(), server.simulator.restart());
    restarted.unwrap();
    assert!(!ended_in_order);
}

#[tokio::test]
async fn connections_are_refused_during_the_downtime() {
    let server =
        Server::start_with(|options| options.restart_downtime = Duration::from_secs(1)).await;
    let address = server.simulator.local_addr();
    let refused = eventually("a connection is refused", async || {
        let error = tokio::net::TcpStream::connect(address).await.err();
        error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    let (restarted, ()) = tokio::join!(server.simulator.restart(), refused);
    restarted.unwrap();
    assert_eq!(
        server.get("/prompt").await["exec_info"]["queue_remaining"],
        0
    );
}

#[tokio::test]
async fn a_stopped_simulator_frees_its_port() {
    let server = Server::start_with(|options| options.step_delay = Duration::from_hours(1)).await;
    let address = server.simulator.local_addr();
    let prompt_id = server.submit(&long(10, 1), None).await;
    server.running(&prompt_id).await;
    server.simulator.stop().await;
    tokio::net::TcpListener::bind(address).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named_in_the_error() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut options = atelier_comfyui_sim::SimulatorOptions::in_dir(folder.path());
    options.listen = server.simulator.local_addr().to_string();
    let error = atelier_comfyui_sim::Simulator::start(options)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&server.simulator.local_addr().to_string()),
        "{error}"
    );
}

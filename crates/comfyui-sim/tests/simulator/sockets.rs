//! Who gets which frames.

use std::time::Duration;

use atelier_comfyui_sim::PreviewMethod;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::support::{Frame, Server, empty_to_save, eventually, long};

fn kinds(frames: &[Frame]) -> Vec<String> {
    frames.iter().map(Frame::kind).collect()
}

#[tokio::test]
async fn the_first_frame_names_the_client() {
    let server = Server::start().await;
    let first = server.connect("alice").await.next().await.unwrap();
    assert_eq!(
        first.data(),
        &json!({"status": {"exec_info": {"queue_remaining": 0}}, "sid": "alice"})
    );
    let minted = server.connect("").await.next().await.unwrap();
    let sid = minted.data()["sid"].as_str().unwrap();
    assert!(
        sid.len() == 32 && sid.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{sid}"
    );
}

#[tokio::test]
async fn feature_flags_count_only_as_the_first_message() {
    let server = Server::start().await;
    let flags =
        json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}}).to_string();
    let mut first = server.connect("first").await;
    first.send("no JSON").await;
    first.send(&flags).await;
    first.until(|frame| frame.kind() == "feature_flags").await;
    let mut second = server.connect("second").await;
    second.send("{}").await;
    second.send(&flags).await;
    assert_eq!(kinds(&second.so_far().await), ["status"]);
}

#[tokio::test]
async fn the_newer_of_two_sockets_wins_and_falls_silent_with_the_older() {
    let server = Server::start().await;
    let mut older = server.connect("alice").await;
    older.so_far().await;
    let mut newer = server.connect("alice").await;
    newer.so_far().await;
    let prompt_id = server.submit(&empty_to_save(1, "a"), Some("alice")).await;
    newer.until_end_of(&prompt_id).await;
    assert_eq!(
        older.so_far().await,
        [],
        "the older socket is open but deaf"
    );

    older.close().await;
    // The server forgets the client id a moment after the older socket is closed.
    eventually("the newer socket is deaf", async || {
        let prompt_id = server.submit(&empty_to_save(1, "a"), Some("alice")).await;
        server.finished(&prompt_id).await;
        newer.so_far().await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn frames_for_an_absent_client_are_dropped() {
    let server = Server::start().await;
    let mut witness = server.connect("witness").await;
    let prompt_id = server.submit(&empty_to_save(1, "a"), Some("alice")).await;
    server.finished(&prompt_id).await;
    witness
        .until(|frame| frame.data()["status"]["exec_info"]["queue_remaining"] == 1)
        .await;
    witness
        .until(|frame| frame.data()["status"]["exec_info"]["queue_remaining"] == 0)
        .await;
    assert_eq!(
        kinds(&server.connect("alice").await.so_far().await),
        ["status"]
    );
}

#[tokio::test]
async fn a_client_that_comes_back_learns_the_node_but_not_the_prompt() {
    let server = Server::start_with(|options| options.step_delay = Duration::from_millis(20)).await;
    let prompt_id = server.submit(&long(1000, 1), Some("alice")).await;
    let mut socket = server.connect("alice").await;
    socket.until(|frame| frame.kind() == "progress").await;
    let mut again = server.connect("alice").await;
    again.next().await.unwrap();
    let second = again.next().await.unwrap();
    assert_eq!(
        (second.kind(), second.data()),
        ("executing".to_owned(), &json!({"node": "3"}))
    );
    server
        .command("/interrupt", &json!({"prompt_id": prompt_id}))
        .await;
    again.until_end_of(&prompt_id).await;
}

#[tokio::test]
async fn progress_of_an_anonymous_prompt_goes_to_everybody() {
    let server =
        Server::start_with(|options| options.preview_method = PreviewMethod::Latent2Rgb).await;
    let mut bystander = server.connect("bystander").await;
    bystander.so_far().await;
    let prompt_id = server.submit(&long(2, 1), None).await;
    server.finished(&prompt_id).await;
    let frames = bystander
        .until(|frame| frame.data()["status"]["exec_info"]["queue_remaining"] == 0)
        .await;
    let mut seen = kinds(&frames);
    seen.sort();
    seen.dedup();
    assert_eq!(seen, ["binary:1", "progress", "progress_state", "status"]);
}

#[tokio::test]
async fn an_interrupted_anonymous_prompt_is_announced_to_everybody() {
    let server = Server::start_with(|options| options.step_delay = Duration::from_millis(5)).await;
    let mut bystander = server.connect("bystander").await;
    let prompt_id = server.submit(&long(10_000, 1), None).await;
    bystander.until(|frame| frame.kind() == "progress").await;
    server
        .command("/interrupt", &json!({"prompt_id": prompt_id}))
        .await;
    bystander
        .until(|frame| frame.kind() == "execution_interrupted")
        .await;
}

#[tokio::test]
async fn a_number_as_client_id_reaches_nobody() {
    let server = Server::start().await;
    let mut bystander = server.connect("123").await;
    bystander.so_far().await;
    let (status, answer) = server
        .post_prompt(&json!({"prompt": empty_to_save(1, "a"), "client_id": 123}))
        .await;
    assert_eq!(status.as_u16(), 200, "{answer}");
    server.finished(answer["prompt_id"].as_str().unwrap()).await;
    let frames = bystander
        .until(|frame| frame.data()["status"]["exec_info"]["queue_remaining"] == 0)
        .await;
    assert!(
        frames.iter().all(|frame| frame.kind() == "status"),
        "{frames:?}"
    );
}

#[tokio::test]
async fn previews_come_only_when_asked_for_and_only_from_the_current_version() {
    use atelier_comfyui_sim::Version;
    for (version, method, expected) in [
        (Version::V0_33_0, Value::Null, 0),
        (Version::V0_33_0, json!("latent2rgb"), 2),
        (Version::V0_33_0, json!("none"), 0),
        (Version::V0_3_64, json!("latent2rgb"), 0),
    ] {
        let server = Server::start_with(|options| options.version = version).await;
        let mut socket = server.connect("alice").await;
        let body = json!({"prompt": long(2, 1), "client_id": "alice", "extra_data": {"preview_method": method}});
        let (_, answer) = server.post_prompt(&body).await;
        let frames = socket
            .until_end_of(answer["prompt_id"].as_str().unwrap())
            .await;
        let previews = frames
            .iter()
            .filter(|frame| frame.kind() == "binary:1")
            .count();
        assert_eq!(previews, expected, "{version} {method}");
    }
}

#[tokio::test]
async fn the_history_is_readable_when_the_last_frame_arrives() {
    let server = Server::start().await;
    let mut socket = server.connect("alice").await;
    for color in 0..20 {
        let prompt_id = server
            .submit(&empty_to_save(color, "a"), Some("alice"))
            .await;
        socket.until_end_of(&prompt_id).await;
        let history = server.get(&format!("/history/{prompt_id}")).await;
        assert!(history.get(&prompt_id).is_some(), "prompt {color}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stalls_the_events_of_all() {
    let server = Server::start().await;
    let stuck = connect_with_a_small_buffer(&server, "stuck").await;
    // More than the sending side of the connection can hold.
    let text = "x".repeat(6 * 1024 * 1024);
    let prompt = json!({
        "1": {"class_type": "PrimitiveString", "inputs": {"value": text}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    });
    let mut other = server.connect("other").await;
    let large = server.submit(&prompt, Some("stuck")).await;
    server.idle().await;
    assert_eq!(server.simulator.executions(&large), 1);
    let prompt_id = server.submit(&empty_to_save(1, "a"), Some("other")).await;
    server.idle().await;
    assert!(
        !other
            .so_far()
            .await
            .iter()
            .any(|frame| frame.ends(&prompt_id))
    );
    drop(stuck);
    other.until_end_of(&prompt_id).await;
}

/// A socket whose receiving side holds next to nothing.
async fn connect_with_a_small_buffer(
    server: &Server,
    client_id: &str,
) -> WebSocketStream<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.simulator.local_addr()).await.unwrap();
    let url = format!(
        "ws://{}/ws?clientId={client_id}",
        server.simulator.local_addr()
    );
    client_async(url, stream).await.unwrap().0
}

//! Order, cancelling, interrupting and duplicates.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Server, empty_to_save, long};

const FIRST: &str = "00000000-0000-4000-8000-000000000001";
const SECOND: &str = "00000000-0000-4000-8000-000000000002";

/// A server that is busy with a prompt until that is interrupted.
async fn busy() -> (Server, String) {
    let server = Server::start_with(|options| options.step_delay = Duration::from_millis(5)).await;
    let blocker = server.submit(&long(10_000, 1), None).await;
    server.running(&blocker).await;
    (server, blocker)
}

async fn unblock(server: &Server, blocker: &str) {
    server
        .command("/interrupt", &json!({"prompt_id": blocker}))
        .await;
    server.idle().await;
}

#[tokio::test]
async fn prompts_run_in_the_order_of_their_numbers() {
    let (server, blocker) = busy().await;
    let mut ids = Vec::new();
    for (position, extra) in [
        json!({}),
        json!({}),
        json!({"front": true}),
        json!({"number": -1_000_000}),
        json!({"number": 0.5}),
    ]
    .iter()
    .enumerate()
    {
        let mut body = json!({"prompt": empty_to_save(u32::try_from(position).unwrap(), "order")});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let (_, answer) = server.post_prompt(&body).await;
        ids.push(answer["prompt_id"].as_str().unwrap().to_owned());
    }
    let queue = server.get("/queue").await;
    assert_eq!(queue["queue_pending"].as_array().unwrap().len(), 5);
    assert_eq!(
        queue["queue_pending"][0][1], ids[3],
        "the heap begins with what runs next"
    );
    unblock(&server, &blocker).await;
    let history = server
        .send(Method::GET, "/history", None)
        .await
        .text()
        .await
        .unwrap();
    let position = |index: usize| history.find(&format!("\"{}\":{{", ids[index])).unwrap();
    let mut order: Vec<usize> = (0..5).collect();
    order.sort_by_key(|index| position(*index));
    assert_eq!(order, [3, 2, 4, 0, 1]);
}

#[tokio::test]
async fn a_deleted_prompt_leaves_no_trace() {
    let (server, blocker) = busy().await;
    let pending = server.submit(&empty_to_save(1, "a"), None).await;
    assert_eq!(
        server.get(&format!("/api/jobs/{pending}")).await["status"],
        "pending"
    );
    server
        .command("/queue", &json!({"delete": [pending]}))
        .await;
    assert_eq!(
        server
            .send(Method::GET, &format!("/api/jobs/{pending}"), None)
            .await
            .status(),
        StatusCode::NOT_FOUND
    );
    unblock(&server, &blocker).await;
    assert_eq!(server.get(&format!("/history/{pending}")).await, json!({}));
    assert_eq!(server.simulator.executions(&pending), 0);
}

#[tokio::test]
async fn clear_drops_what_waits_and_leaves_what_runs() {
    let (server, blocker) = busy().await;
    for color in 0..3 {
        server.submit(&empty_to_save(color, "a"), None).await;
    }
    server.command("/queue", &json!({"clear": true})).await;
    let queue = server.get("/queue").await;
    assert_eq!(
        (&queue["queue_pending"], &queue["queue_running"][0][1]),
        (&json!([]), &json!(blocker))
    );
}

#[tokio::test]
async fn cancel_tells_running_pending_and_unknown_apart() {
    let (server, blocker) = busy().await;
    let pending = server.submit(&empty_to_save(1, "a"), None).await;
    let cancel = async |id: &str| {
        let response = server
            .send(Method::POST, &format!("/api/jobs/{id}/cancel"), None)
            .await;
        let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        answer["cancelled"].as_bool().unwrap()
    };
    assert!(cancel(&pending).await);
    assert!(!cancel(&pending).await);
    assert_eq!(
        server.get(&format!("/api/jobs/{blocker}")).await["status"],
        "in_progress"
    );
    assert!(cancel(&blocker).await);
    let entry = server.finished(&blocker).await;
    assert_eq!(entry["status"]["status_str"], "error");
    assert_eq!(entry["status"]["messages"][2][0], "execution_interrupted");
    assert_eq!(
        server.get(&format!("/api/jobs/{blocker}")).await["status"],
        "cancelled"
    );
    assert!(!cancel(&blocker).await);
}

#[tokio::test]
async fn an_interrupt_with_another_id_has_no_effect() {
    let (server, blocker) = busy().await;
    server
        .command("/interrupt", &json!({"prompt_id": FIRST}))
        .await;
    assert_eq!(server.get("/queue").await["queue_running"][0][1], blocker);
    server.command("/interrupt", &json!({})).await;
    assert_eq!(
        server.finished(&blocker).await["status"]["messages"][2][0],
        "execution_interrupted"
    );
}

#[tokio::test]
async fn an_interrupt_during_a_load_names_the_next_node() {
    let server =
        Server::start_with(|options| options.load_delay = Duration::from_millis(600)).await;
    let mut socket = server.connect("alice").await;
    let prompt_id = server.submit(&long(2, 1), Some("alice")).await;
    socket
        .until(|frame| frame.kind() == "executing" && frame.data()["node"] == "4")
        .await;
    server
        .command("/interrupt", &json!({"prompt_id": prompt_id}))
        .await;
    let frames = socket
        .until(|frame| frame.kind() == "execution_interrupted")
        .await;
    let data = frames.last().unwrap().data();
    assert_eq!(
        (&data["node_id"], &data["executed"]),
        (&json!("5"), &json!(["4"]))
    );
}

#[tokio::test]
async fn the_same_id_is_accepted_twice_and_runs_twice() {
    let (server, blocker) = busy().await;
    for color in [1, 2] {
        let body = json!({"prompt": empty_to_save(color, "twice"), "prompt_id": FIRST});
        assert_eq!(server.post_prompt(&body).await.0, StatusCode::OK);
    }
    unblock(&server, &blocker).await;
    assert_eq!(
        (
            server.simulator.submissions(FIRST),
            server.simulator.executions(FIRST)
        ),
        (2, 2)
    );
    assert_eq!(
        server.get("/history").await.as_object().unwrap().len(),
        2,
        "the second entry overwrote the first"
    );
}

#[tokio::test]
async fn the_same_id_with_the_same_number_is_an_error_and_queued_all_the_same() {
    let (server, blocker) = busy().await;
    let body = json!({"prompt": empty_to_save(1, "tie"), "prompt_id": SECOND, "number": 5});
    assert_eq!(server.post_prompt(&body).await.0, StatusCode::OK);
    assert_eq!(
        server.post_prompt(&body).await.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        server.get("/queue").await["queue_pending"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    unblock(&server, &blocker).await;
    assert_eq!(server.simulator.executions(SECOND), 2);
}

#[tokio::test]
async fn a_chain_that_is_too_long_is_refused() {
    let server = Server::start().await;
    let mut prompt = json!({"0": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}}});
    let length = 5000;
    for position in 1..length {
        prompt[position.to_string()] = json!({"class_type": "ImageInvert", "inputs": {"image": [(position - 1).to_string(), 0]}});
    }
    prompt["save"] = json!({"class_type": "SaveImage", "inputs": {"images": [(length - 1).to_string(), 0], "filename_prefix": "a"}});
    let (status, answer) = server.post_prompt(&json!({"prompt": prompt})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(
        answer
            .to_string()
            .contains("maximum recursion depth exceeded")
    );
}

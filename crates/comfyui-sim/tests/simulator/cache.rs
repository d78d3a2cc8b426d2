//! Results that are used again, by whoever comes next.

use serde_json::{Value, json};

use crate::support::{Server, empty_to_save};

fn file_name(entry: &Value) -> &str {
    entry["outputs"]["2"]["images"][0]["filename"]
        .as_str()
        .unwrap()
}

fn cached(entry: &Value) -> &Value {
    &entry["status"]["messages"][1][1]["nodes"]
}

#[tokio::test]
async fn another_client_gets_the_old_file_of_an_identical_prompt() {
    let server = Server::start().await;
    let first = server.run(&empty_to_save(1, "shared")).await;
    let prompt_id = server
        .submit(&empty_to_save(1, "shared"), Some("bob"))
        .await;
    let second = server.finished(&prompt_id).await;
    assert_eq!(file_name(&second), file_name(&first));
    assert_eq!(cached(&second), &json!(["1", "2"]));
    assert!(!server.path("output/shared_00002_.png").exists());
}

#[tokio::test]
async fn only_the_previous_prompt_is_remembered() {
    let server = Server::start().await;
    server.run(&empty_to_save(1, "evicted")).await;
    server.run(&empty_to_save(2, "other")).await;
    let again = server.run(&empty_to_save(1, "evicted")).await;
    assert_eq!(
        (file_name(&again), cached(&again)),
        ("evicted_00002_.png", &json!([]))
    );
}

#[tokio::test]
async fn node_ids_do_not_matter() {
    let server = Server::start().await;
    server.run(&empty_to_save(1, "ids")).await;
    let renamed = json!({
        "a": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 1}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["a", 0], "filename_prefix": "ids"}},
    });
    assert_eq!(
        cached(&server.run(&renamed).await)
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn freeing_memory_empties_the_cache() {
    let server = Server::start().await;
    server.run(&empty_to_save(1, "free")).await;
    server
        .command("/free", &json!({"unload_models": true}))
        .await;
    assert_eq!(
        cached(&server.run(&empty_to_save(1, "free")).await),
        &json!(["1", "2"])
    );
    server.command("/free", &json!({"free_memory": true})).await;
    assert_eq!(
        file_name(&server.run(&empty_to_save(1, "free")).await),
        "free_00002_.png"
    );
}

#[tokio::test]
async fn a_deleted_newest_file_gives_its_name_to_the_next() {
    let server = Server::start().await;
    server.run(&empty_to_save(1, "ctr")).await;
    server.run(&empty_to_save(2, "ctr")).await;
    std::fs::remove_file(server.path("output/ctr_00002_.png")).unwrap();
    assert_eq!(
        file_name(&server.run(&empty_to_save(3, "ctr")).await),
        "ctr_00002_.png"
    );
}

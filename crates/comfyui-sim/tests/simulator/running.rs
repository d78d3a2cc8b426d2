//! Prompts from submission to picture.

use serde_json::json;

use crate::support::{Frame, Server, decode, empty_to_save, lora_file, with_lora};

#[tokio::test]
async fn a_trivial_prompt_sends_the_recorded_frames_in_order() {
    let server = Server::start().await;
    let mut socket = server.connect("alice").await;
    let prompt_id = server.submit(&empty_to_save(1, "one"), Some("alice")).await;
    let frames = socket.until_end_of(&prompt_id).await;
    let kinds: Vec<_> = frames.iter().map(Frame::kind).collect();
    assert_eq!(
        kinds,
        [
            "status",
            "status",
            "status",
            "execution_start",
            "execution_cached",
            "progress_state",
            "executing",
            "progress_state",
            "progress_state",
            "executing",
            "executed",
            "progress_state",
            "execution_success",
            "status",
            "executing",
        ]
    );
    let entry = server.finished(&prompt_id).await;
    assert_eq!(
        entry["outputs"],
        json!({"2": {"images": [{"filename": "one_00001_.png", "subfolder": "", "type": "output"}]}})
    );
    let (pixels, texts) = decode(&server.picture(&entry, "2"));
    assert_eq!(pixels, [0, 0, 1].repeat(64));
    assert_eq!(texts[0].0, "prompt");
}

#[tokio::test]
async fn an_sd15_graph_with_a_lora_makes_a_picture() {
    let server = Server::start().await;
    std::fs::create_dir(server.path("models/loras/user-1")).unwrap();
    std::fs::write(
        server.path("models/loras/user-1/my.safetensors"),
        lora_file(b"weights"),
    )
    .unwrap();
    let entry = server
        .run(&with_lora("user-1/my.safetensors", 1.0, 42))
        .await;
    assert_eq!(entry["status"]["status_str"], "success", "{entry}");
    assert_eq!(server.pixels(&entry, "9").len(), 64 * 64 * 3);
}

//! The LoRA folder: what is listed, when it is noticed, and what happens when the file is opened.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Server, empty_to_save, long, lora_file, with_lora};

const NAME: &str = "user-1/my.safetensors";

fn error_of(entry: &Value) -> &Value {
    let messages = entry["status"]["messages"].as_array().unwrap();
    assert_eq!(messages.last().unwrap()[0], "execution_error", "{entry}");
    &messages.last().unwrap()[1]
}

#[tokio::test]
async fn model_files_are_listed_by_extension_with_forward_slashes() {
    let server = Server::start().await;
    let listed = [
        "a.bin",
        "a.ckpt",
        "a.pkl",
        "a.pt",
        "a.pt2",
        "a.pth",
        "a.safetensors",
        "a.sft",
        "UPPER.SAFETENSORS",
        ".hidden.safetensors",
        ".dot/in.safetensors",
        "deep/er/x.safetensors",
        "with space ü.safetensors",
        "#hash?.safetensors",
    ];
    for name in listed.into_iter().chain([
        "a.part",
        "a.safetensors.part",
        "a.tmp",
        "a.gguf",
        "a.txt",
        "a.json",
        "none",
    ]) {
        server.write_lora(name, b"x");
    }
    std::os::unix::fs::symlink("/nowhere", server.path("models/loras/broken.safetensors")).unwrap();
    let mut expected: Vec<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    expected.push("broken.safetensors".to_owned());
    expected.sort();
    assert_eq!(server.loras().await, expected);
}

#[tokio::test]
async fn a_directory_behind_a_link_is_followed_and_watched() {
    let server = Server::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("one.safetensors"), b"x").unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), server.path("models/loras/linked")).unwrap();
    // A link to its own parent is not walked for ever.
    std::os::unix::fs::symlink(server.path("models/loras"), elsewhere.path().join("up")).unwrap();
    assert!(
        server
            .loras()
            .await
            .contains(&"linked/one.safetensors".to_owned())
    );
    std::fs::remove_file(elsewhere.path().join("up")).unwrap();
    assert_eq!(server.loras().await, ["linked/one.safetensors"]);
}

#[tokio::test]
async fn a_new_file_is_usable_at_once() {
    let server = Server::start().await;
    let prompt = json!({"prompt": with_lora(NAME, 1.0, 1)});
    let (status, answer) = server.post_prompt(&prompt).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer["node_errors"]["10"]["errors"][0]["type"],
        "value_not_in_list"
    );
    server.write_lora(NAME, &lora_file(b"weights"));
    assert_eq!(server.post_prompt(&prompt).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_file_behind_a_restored_directory_time_stays_unseen_until_the_directory_is_touched() {
    let server = Server::start().await;
    server.write_lora("user-1/first.safetensors", b"x");
    let directory = server.path("models/loras/user-1");
    let handle = std::fs::File::open(&directory).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_hours(1);
    handle.set_modified(long_ago).unwrap();
    assert_eq!(server.loras().await.len(), 1);
    server.write_lora("user-1/second.safetensors", b"x");
    handle.set_modified(long_ago).unwrap();
    assert_eq!(server.loras().await.len(), 1);
    handle.set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!(server.loras().await.len(), 2);
}

#[tokio::test]
async fn a_removed_folder_is_noticed_at_once() {
    let server = Server::start().await;
    server.write_lora(NAME, b"x");
    assert_eq!(server.loras().await, [NAME]);
    std::fs::remove_dir_all(server.path("models/loras/user-1")).unwrap();
    assert!(server.loras().await.is_empty());
}

#[tokio::test]
async fn another_folder_can_be_the_lora_folder() {
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("x.safetensors"), lora_file(b"x")).unwrap();
    let server =
        Server::start_with(|options| options.loras_dir = Some(elsewhere.path().to_owned())).await;
    assert_eq!(server.loras().await, ["x.safetensors"]);
    let shown = server.get("/object_info/LoraLoader").await;
    assert_eq!(
        shown["LoraLoader"]["input"]["required"]["lora_name"][0],
        json!(["x.safetensors"])
    );
    assert_eq!(
        server.run(&with_lora("x.safetensors", 1.0, 1)).await["status"]["status_str"],
        "success"
    );
}

#[tokio::test]
async fn only_the_listed_spelling_is_accepted() {
    let server = Server::start().await;
    server.write_lora(NAME, &lora_file(b"x"));
    for name in [
        "../loras/user-1/my.safetensors",
        "my.safetensors",
        "user-1\\my.safetensors",
        "USER-1/my.safetensors",
        "/user-1/my.safetensors",
        "user-1/./my.safetensors",
        "user-1//my.safetensors",
    ] {
        let (status, answer) = server
            .post_prompt(&json!({"prompt": with_lora(name, 1.0, 1)}))
            .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}");
        let error = &answer["node_errors"]["10"]["errors"][0];
        assert_eq!(error["extra_info"]["received_value"], name);
        assert_eq!(
            error["extra_info"]["input_config"],
            json!([[NAME], {"tooltip": ""}]),
            "the whole list is shown"
        );
    }
}

#[tokio::test]
async fn a_list_of_more_than_twenty_is_not_shown() {
    let server = Server::start().await;
    for number in 0..21 {
        server.write_lora(&format!("n{number}.safetensors"), b"x");
    }
    let (_, answer) = server
        .post_prompt(&json!({"prompt": with_lora("missing.safetensors", 1.0, 1)}))
        .await;
    let error = &answer["node_errors"]["10"]["errors"][0];
    assert_eq!(
        error["details"],
        "lora_name: 'missing.safetensors' not in (list of length 21)"
    );
    assert_eq!(error["extra_info"]["input_config"], Value::Null);
}

#[tokio::test]
async fn a_truncated_file_fails_when_it_is_opened() {
    let server = Server::start().await;
    let whole = lora_file(b"some weights");
    for broken in [&whole[..whole.len() - 1], &whole[..30], &whole[..3], b""] {
        server.write_lora(NAME, broken);
        let entry = server.run(&with_lora(NAME, 1.0, 1)).await;
        let error = error_of(&entry);
        assert_eq!(
            error["exception_type"],
            "safetensors._safetensors_rust.SafetensorError"
        );
        assert_eq!(
            (&error["node_id"], &error["node_type"]),
            (&json!("10"), &json!("LoraLoader"))
        );
        assert!(
            error["exception_message"]
                .as_str()
                .unwrap()
                .starts_with("Error while deserializing header: ")
        );
    }
}

#[tokio::test]
async fn with_strength_zero_the_file_is_not_opened() {
    let server = Server::start().await;
    server.write_lora(NAME, b"broken");
    assert_eq!(
        server.run(&with_lora(NAME, 0.0, 1)).await["status"]["status_str"],
        "success"
    );
}

#[tokio::test]
async fn a_file_that_is_deleted_while_its_prompt_waits_is_missed_at_run_time() {
    let server = Server::start_with(|options| options.step_delay = Duration::from_millis(5)).await;
    server.write_lora(NAME, &lora_file(b"x"));
    let blocker = server.submit(&long(10_000, 1), None).await;
    server.running(&blocker).await;
    let prompt_id = server.submit(&with_lora(NAME, 1.0, 1), None).await;
    std::fs::remove_file(server.path("models/loras").join(NAME)).unwrap();
    server
        .command("/interrupt", &json!({"prompt_id": blocker}))
        .await;
    let entry = server.finished(&prompt_id).await;
    let error = error_of(&entry);
    assert_eq!(error["exception_type"], "FileNotFoundError");
    assert_eq!(
        error["exception_message"],
        format!("Model in folder 'loras' with filename '{NAME}' not found.\n")
    );
}

#[tokio::test]
async fn replaced_content_is_noticed_only_after_memory_was_freed() {
    let server = Server::start().await;
    let pixels =
        async |strength: f64| server.pixels(&server.run(&with_lora(NAME, strength, 1)).await, "9");
    server.write_lora(NAME, &lora_file(b"content one"));
    let (strong, weak) = (pixels(0.9).await, pixels(0.5).await);
    assert_ne!(strong, weak);
    server.write_lora("user-1/new.part", &lora_file(b"content two"));
    let folder = server.path("models/loras/user-1");
    std::fs::rename(folder.join("new.part"), folder.join("my.safetensors")).unwrap();
    assert_eq!(
        pixels(0.9).await,
        strong,
        "the loaded content is used, though the node runs again"
    );
    server.command("/free", &json!({"free_memory": true})).await;
    let fresh = pixels(0.9).await;
    assert_ne!(fresh, strong);
    server.simulator.restart().await.unwrap();
    assert_eq!(pixels(0.9).await, fresh);
}

#[tokio::test]
async fn new_content_under_a_new_name_is_used_at_once() {
    const OTHER: &str = "user-1/my.0123abcd.safetensors";
    let server = Server::start().await;
    let pixels = async |name: &str| server.pixels(&server.run(&with_lora(name, 0.9, 1)).await, "9");
    server.write_lora(NAME, &lora_file(b"content one"));
    let one = pixels(NAME).await;

    server.write_lora(OTHER, &lora_file(b"content two"));
    let two = pixels(OTHER).await;

    assert_ne!(one, two);
    assert_eq!(pixels(NAME).await, one, "the old path keeps its content");
    server.write_lora("user-2/copy.safetensors", &lora_file(b"content one"));
    let copy = pixels("user-2/copy.safetensors").await;
    assert_eq!(copy, one, "the content decides, not the name");
}

#[tokio::test]
async fn metadata_of_a_lora_can_be_read() {
    let server = Server::start().await;
    server.write_lora(NAME, &lora_file(b"x"));
    server.write_lora("broken.safetensors", b"x");
    assert_eq!(
        server
            .get(&format!("/view_metadata/loras?filename={NAME}"))
            .await,
        json!({"note": "tiny"})
    );
    assert_eq!(
        server
            .get("/view_metadata/loras?filename=../x/../user-1/./my.safetensors")
            .await,
        json!({"note": "tiny"}),
        "a way out leads back in"
    );
}

#[tokio::test]
async fn metadata_is_refused_as_the_real_server_does() {
    let server = Server::start().await;
    server.write_lora(NAME, &lora_file(b"x"));
    let headed = |header: &str| {
        let length = u64::try_from(header.len()).unwrap().to_le_bytes();
        [length.as_slice(), header.as_bytes()].concat()
    };
    server.write_lora("short.safetensors", b"x");
    server.write_lora("text.safetensors", &headed("no JSON"));
    server.write_lora("silent.safetensors", &headed("{}"));
    server.write_lora("long.safetensors", &headed(&" ".repeat(1024 * 1024 + 1)));
    server.write_lora(
        "without-tensors.safetensors",
        &headed(r#"{"__metadata__": {"a": "b"}, "t": {"data_offsets": [0, 9]}}"#),
    );
    for (path, status) in [
        ("loras?filename=without-tensors.safetensors", 200),
        ("loras?filename=none.safetensors", 404),
        ("loras?filename=silent.safetensors", 404),
        ("loras?filename=long.safetensors", 404),
        ("loras?filename=../loras/user-1/my.safetensors", 404),
        ("loras?filename=user-1/my.SAFETENSORS", 404),
        ("loras?filename=user-1", 404),
        ("loras", 404),
        ("nosuch?filename=user-1/my.safetensors", 404),
        ("checkpoints?filename=sim-sd15.safetensors", 404),
        ("loras?filename=short.safetensors", 500),
        ("loras?filename=text.safetensors", 500),
    ] {
        let path = format!("/view_metadata/{path}");
        let response = server.send(reqwest::Method::GET, &path, None).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn every_lora_class_takes_the_listed_names() {
    let server = Server::start().await;
    server.write_lora(NAME, &lora_file(b"x"));
    let shown = server.get("/object_info").await;
    for (class_type, input, at) in [
        ("LoraLoader", "lora_name", "/0"),
        ("LoraLoaderModelOnly", "lora_name", "/0"),
        ("LoraLoaderBypass", "lora_name", "/0"),
        ("LoraLoaderBypassModelOnly", "lora_name", "/0"),
        ("CreateHookLora", "lora_name", "/0"),
        ("CreateHookLoraModelOnly", "lora_name", "/0"),
        ("TrainLoraNode", "existing_lora", "/1/options"),
    ] {
        let options = shown[class_type]["input"]["required"][input]
            .pointer(at)
            .unwrap();
        assert_eq!(options[0], NAME, "{class_type}");
    }
    assert_eq!(
        server.run(&empty_to_save(1, "a")).await["status"]["status_str"],
        "success"
    );
}

//! Every recorded sequence, replayed: the same body is posted, the same frames in the same order and the same history are expected.
//!
//! All thirteen recordings are replayed. What cannot be equal is made equal first: identifiers, times, counters in file names, Python
//! tracebacks, the texts of Python objects, and the order of lists that the real server makes from sets.

use std::time::Duration;

use atelier_comfyui_sim::PreviewMethod;
use serde_json::{Value, json};

use crate::support::{Frame, Server, lora_file};

/// What has to happen around a recording.
struct Scene {
    name: &'static str,
    recorded: &'static str,
    /// Inputs to change for the prompt that is run before, so that as much is cached as it was then; `None` for no such prompt.
    before: Option<&'static [(&'static str, &'static str, i64)]>,
    /// Whether the client announces that it understands preview metadata.
    flags: bool,
    /// Whether the prompt is interrupted after its first preview.
    interrupted: bool,
}

macro_rules! scene {
    ($name:literal, $before:expr) => {
        Scene {
            name: $name,
            recorded: include_str!(concat!("../recorded/fixtures/", $name, ".json")),
            before: $before,
            flags: false,
            interrupted: false,
        }
    };
}

fn scenes() -> Vec<Scene> {
    vec![
        scene!("execution_error", None),
        Scene {
            interrupted: true,
            ..scene!("interrupted_in_ksampler", Some(&[("3", "seed", 1)]))
        },
        // The recorded run found only the nodes without a prompt text in the cache.
        Scene {
            interrupted: true,
            ..scene!(
                "interrupted_with_partial_outputs",
                Some(&[("6", "text", 1), ("7", "text", 2), ("21", "color", 1)])
            )
        },
        scene!("ksampler_previews_legacy", Some(&[("3", "seed", 1)])),
        Scene {
            flags: true,
            ..scene!("ksampler_previews_v2", None)
        },
        scene!(
            "lora_file_missing_at_run_time",
            Some(&[("10", "strength_model", 0), ("10", "strength_clip", 0)])
        ),
        Scene {
            flags: true,
            ..scene!(
                "real_lora_strength_1",
                Some(&[("10", "strength_model", 0), ("10", "strength_clip", 0)])
            )
        },
        scene!("save_image_websocket", None),
        scene!("success_five_nodes_two_outputs", None),
        scene!("success_fully_cached", Some(&[])),
        scene!(
            "success_partially_cached",
            Some(&[("2", "filename_prefix", 1)])
        ),
        scene!("success_two_nodes_batch3", None),
        scene!("text_output", None),
    ]
}

#[tokio::test]
async fn recorded_sequences_are_reproduced() {
    for scene in scenes() {
        replay(&scene).await;
    }
}

async fn replay(scene: &Scene) {
    let fixture: Value = serde_json::from_str(scene.recorded).unwrap();
    let mut body = fixture["post_prompt"]["request"]["json"].clone();
    let server = Server::start_with(|options| {
        options.checkpoints = vec!["random-sd15.safetensors".to_owned()];
        options.preview_method = PreviewMethod::Latent2Rgb;
        if scene.interrupted {
            options.step_delay = Duration::from_millis(500);
        }
    })
    .await;
    place_lora(&server, scene.name);
    if let Some(changes) = scene.before {
        let mut before = body["prompt"].clone();
        for (node_id, input, value) in changes {
            before[*node_id]["inputs"][*input] = json!(value);
        }
        if scene.interrupted {
            before["3"]["inputs"]["steps"] = json!(1);
        }
        let entry = server.run(&before).await;
        assert_eq!(
            entry["status"]["status_str"], "success",
            "{}: {entry}",
            scene.name
        );
    }
    let mut socket = server.connect(body["client_id"].as_str().unwrap()).await;
    if scene.flags {
        socket
            .send(
                &json!({"type": "feature_flags", "data": {"supports_preview_metadata": true}})
                    .to_string(),
            )
            .await;
        socket.until(|frame| frame.kind() == "feature_flags").await;
    }
    body.as_object_mut().unwrap().remove("prompt_id");
    let (status, answer) = server.post_prompt(&body).await;
    assert_eq!(status.as_u16(), 200, "{}: {answer}", scene.name);
    let prompt_id = answer["prompt_id"].as_str().unwrap().to_owned();
    let mut frames = Vec::new();
    if scene.interrupted {
        frames = socket.until(|frame| frame.kind() == "binary:1").await;
        server
            .command("/interrupt", &json!({"prompt_id": prompt_id}))
            .await;
    }
    frames.extend(socket.until_end_of(&prompt_id).await);
    compare_frames(scene.name, &fixture, &frames, &prompt_id);
    compare_history(scene.name, &fixture, &server.finished(&prompt_id).await);
}

/// Puts the LoRA where the recorded prompt expects it; for the one that was deleted in time, a link to nothing does the same.
fn place_lora(server: &Server, scene: &str) {
    let folder = server.path("models/loras/user-11111111-1111-1111-1111-111111111111");
    std::fs::create_dir_all(&folder).unwrap();
    match scene {
        "real_lora_strength_1" => {
            std::fs::write(folder.join("real.safetensors"), lora_file(b"real")).unwrap();
        }
        "lora_file_missing_at_run_time" => {
            std::os::unix::fs::symlink("/nowhere", folder.join("doomed.safetensors")).unwrap();
        }
        _ => {}
    }
}

fn compare_frames(scene: &str, fixture: &Value, frames: &[Frame], prompt_id: &str) {
    let recorded_id = recorded_id(fixture);
    let recorded: Vec<Value> = fixture["frames_of_the_submitting_client"]
        .as_array()
        .unwrap()
        .iter()
        .map(summarize)
        .collect();
    let actual: Vec<Value> = frames
        .iter()
        .map(|frame| match frame {
            Frame::Text(text) => summarize(&json!({"text": text})),
            Frame::Binary(bytes) => binary_summary(bytes),
        })
        .collect();
    let recorded = from_start(recorded, &recorded_id);
    let actual = from_start(actual, prompt_id);
    let kinds = |frames: &[Value]| {
        frames
            .iter()
            .map(|frame| frame["type"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&actual), kinds(&recorded), "{scene}");
    for (actual, recorded) in actual.iter().zip(&recorded) {
        let recorded = replace(recorded, &recorded_id, prompt_id);
        assert_eq!(normalize(actual), normalize(&recorded), "{scene}");
    }
}

fn recorded_id(fixture: &Value) -> String {
    fixture["post_prompt"]["response"]["json"]["prompt_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Drops what came before the prompt was started: the queue was not always empty in the recordings.
fn from_start(frames: Vec<Value>, prompt_id: &str) -> Vec<Value> {
    let started = |frame: &Value| {
        frame["type"] == "execution_start" && frame["data"]["prompt_id"] == prompt_id
    };
    let start = frames
        .iter()
        .position(started)
        .expect("the prompt was started");
    frames.into_iter().skip(start).collect()
}

/// A recorded frame, binary ones with event, picture type and metadata.
fn summarize(frame: &Value) -> Value {
    if let Some(text) = frame.get("text") {
        return text.clone();
    }
    let binary = &frame["binary"];
    let (event, metadata) = (&binary["event"], &binary["metadata"]);
    json!({"type": "binary", "data": {"event": event, "image_type": image_type(binary), "metadata": metadata}})
}

fn image_type(binary: &Value) -> Value {
    match binary["image_head_hex"].as_str().unwrap_or_default() {
        head if head.starts_with("ffd8") => json!("jpeg"),
        head if head.starts_with("8950") => json!("png"),
        other => json!(other),
    }
}

fn binary_summary(bytes: &[u8]) -> Value {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (metadata, picture) = if number(0) == 4 {
        let end = 8 + usize::try_from(number(4)).unwrap();
        (
            serde_json::from_slice(&bytes[8..end]).unwrap(),
            &bytes[end..],
        )
    } else {
        (Value::Null, &bytes[8..])
    };
    let kind = if picture.starts_with(&[0xff, 0xd8]) {
        "jpeg"
    } else {
        "png"
    };
    assert!(
        number(0) == 4 || number(4) == if kind == "jpeg" { 1 } else { 2 },
        "announced and real picture type differ"
    );
    json!({"type": "binary", "data": {"event": number(0), "image_type": kind, "metadata": metadata}})
}

fn compare_history(scene: &str, fixture: &Value, entry: &Value) {
    // One recording has no history.
    let Some(recorded) = fixture["history_answer"].get(recorded_id(fixture)) else {
        assert_eq!(scene, "ksampler_previews_legacy");
        return;
    };
    let actual_id = entry["prompt"][1].as_str().unwrap();
    let mut recorded = replace(recorded, &recorded_id(fixture), actual_id);
    recorded["prompt"][0] = entry["prompt"][0].clone();
    assert_eq!(normalize(entry), normalize(&recorded), "{scene}");
}

fn replace(value: &Value, from: &str, to: &str) -> Value {
    serde_json::from_str(&value.to_string().replace(from, to)).unwrap()
}

/// Makes equal what no two runs have in common.
fn normalize(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let normalized = members.iter().map(|(key, value)| {
                let value = match key.as_str() {
                    "timestamp" | "create_time" | "traceback" => Value::Null,
                    "filename" => json!(plain_file_name(value.as_str().unwrap())),
                    // The texts of Python objects; which inputs there are is compared.
                    "current_inputs" => {
                        json!(value.as_object().unwrap().keys().collect::<Vec<_>>())
                    }
                    "executed" | "nodes" | "current_outputs" if value.is_array() => sorted(value),
                    _ => normalize(value),
                };
                (key.clone(), value)
            });
            Value::Object(normalized.collect())
        }
        // The outputs of a queue item are a set too.
        Value::Array(items) if items.len() == 5 && items[4].is_array() => {
            let mut items: Vec<Value> = items.iter().map(normalize).collect();
            items[4] = sorted(&items[4]);
            Value::Array(items)
        }
        Value::Array(items) => items.iter().map(normalize).collect(),
        other => other.clone(),
    }
}

fn sorted(list: &Value) -> Value {
    let mut items: Vec<String> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap().to_owned())
        .collect();
    items.sort();
    json!(items)
}

/// A file name without its counter and without the letters that only one server process uses.
fn plain_file_name(name: &str) -> String {
    match name.strip_prefix("ComfyUI_temp_") {
        Some(_) => "ComfyUI_temp".to_owned(),
        None => name
            .chars()
            .map(|character| {
                if character.is_ascii_digit() {
                    '#'
                } else {
                    character
                }
            })
            .collect(),
    }
}

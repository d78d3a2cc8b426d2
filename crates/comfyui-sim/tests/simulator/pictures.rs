//! Pixels, files and what is in them.

use reqwest::{Method, StatusCode, multipart};
use serde_json::{Value, json};

use crate::support::{Server, decode, lora_file, with_lora, without_lora};

const LORA: &str = "a.safetensors";

/// How many of the pixels are different, in percent.
fn difference(first: &[u8], second: &[u8]) -> usize {
    assert_eq!(first.len(), second.len());
    let different = first
        .chunks(3)
        .zip(second.chunks(3))
        .filter(|(first, second)| first != second)
        .count();
    different * 100 / (first.len() / 3)
}

#[tokio::test]
async fn the_same_inputs_make_the_same_pixels_on_every_server() {
    let mut pictures = Vec::new();
    for _ in 0..2 {
        let server = Server::start().await;
        server.write_lora(LORA, &lora_file(b"weights"));
        pictures.push(server.pixels(&server.run(&with_lora(LORA, 1.0, 42)).await, "9"));
    }
    assert_eq!(pictures[0], pictures[1]);
}

#[tokio::test]
async fn every_input_that_matters_changes_the_picture() {
    let server =
        Server::start_with(|options| options.checkpoints.push("other.safetensors".to_owned()))
            .await;
    server.write_lora(LORA, &lora_file(b"weights"));
    server.write_lora("b.safetensors", &lora_file(b"weightz"));
    let base = with_lora(LORA, 1.0, 42);
    let reference = server.pixels(&server.run(&base).await, "9");
    for (node_id, input, value) in [
        ("3", "seed", json!(43)),
        ("3", "steps", json!(4)),
        ("3", "cfg", json!(7.5)),
        ("3", "sampler_name", json!("heun")),
        ("3", "scheduler", json!("karras")),
        ("3", "denoise", json!(0.5)),
        ("4", "ckpt_name", json!("other.safetensors")),
        ("6", "text", json!("a photo of a dog")),
        ("7", "text", json!("ugly")),
        ("10", "lora_name", json!("b.safetensors")),
        ("10", "strength_model", json!(0.9)),
        ("10", "strength_clip", json!(0.9)),
    ] {
        let mut changed = base.clone();
        changed[node_id]["inputs"][input] = value;
        let pixels = server.pixels(&server.run(&changed).await, "9");
        assert!(
            difference(&reference, &pixels) > 95,
            "{node_id}.{input}: {}%",
            difference(&reference, &pixels)
        );
    }
}

#[tokio::test]
async fn a_lora_of_strength_zero_is_no_lora() {
    let server = Server::start().await;
    server.write_lora(LORA, &lora_file(b"weights"));
    let pixels = async |prompt: Value| server.pixels(&server.run(&prompt).await, "9");
    let none = pixels(without_lora(42)).await;
    assert_eq!(pixels(with_lora(LORA, 0.0, 42)).await, none);
    assert!(difference(&pixels(with_lora(LORA, 1.0, 42)).await, &none) > 95);
}

#[tokio::test]
async fn a_real_checkpoint_counts_with_its_bytes() {
    let server = Server::start().await;
    let mut pictures = Vec::new();
    for content in [b"one", b"two"] {
        std::fs::write(
            server.path("models/checkpoints/real.safetensors"),
            lora_file(content),
        )
        .unwrap();
        let mut prompt = without_lora(1);
        prompt["4"]["inputs"]["ckpt_name"] = json!("real.safetensors");
        server.command("/free", &json!({"free_memory": true})).await;
        pictures.push(server.pixels(&server.run(&prompt).await, "9"));
    }
    assert_ne!(pictures[0], pictures[1]);
}

#[tokio::test]
async fn pictures_are_inverted_and_scaled() {
    let server = Server::start().await;
    let prompt = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 4, "batch_size": 2, "color": 0x0010_2030}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "upscale_method": "nearest-exact", "width": 0, "height": 8, "crop": "disabled"}},
        "3": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "%width%x%height%"}},
    });
    let entry = server.run(&prompt).await;
    let names: Vec<_> = entry["outputs"]["4"]["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["filename"].clone())
        .collect();
    assert_eq!(names, ["16x8_00001_.png", "16x8_00002_.png"]);
    assert_eq!(
        server.pixels(&entry, "4"),
        [0xef, 0xdf, 0xcf].repeat(16 * 8)
    );
}

#[tokio::test]
async fn a_cropped_picture_is_the_middle() {
    let server = Server::start().await;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 4, 1);
    encoder.set_color(png::ColorType::Grayscale);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(&[10, 20, 30, 40])
        .unwrap();
    std::fs::write(server.path("input/row.png"), file).unwrap();
    let prompt = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "row.png"}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], "upscale_method": "nearest-exact", "width": 2, "height": 1, "crop": "center"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "crop"}},
    });
    assert_eq!(
        server.pixels(&server.run(&prompt).await, "3"),
        [20, 20, 20, 30, 30, 30]
    );
}

#[tokio::test]
async fn the_file_holds_the_prompt_and_what_the_client_adds() {
    let server = Server::start().await;
    let prompt = without_lora(1);
    let body = json!({"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": {"id": "ü"}, "run": 7}}});
    let (_, answer) = server.post_prompt(&body).await;
    let entry = server.finished(answer["prompt_id"].as_str().unwrap()).await;
    let (_, texts) = decode(&server.picture(&entry, "9"));
    let text = |keyword: &str| {
        texts
            .iter()
            .find(|(known, _)| known == keyword)
            .map(|(_, text)| text.as_str())
            .unwrap()
    };
    assert_eq!(
        serde_json::from_str::<Value>(text("prompt")).unwrap(),
        prompt
    );
    assert_eq!(
        (text("workflow"), text("run")),
        (r#"{"id": "\u00fc"}"#, "7")
    );
}

#[tokio::test]
async fn a_prefix_cannot_leave_the_output_folder() {
    let server = Server::start().await;
    for prefix in ["../../escape", "/tmp/escape", "a/../../escape"] {
        let mut prompt = without_lora(1);
        prompt["9"]["inputs"]["filename_prefix"] = json!(prefix);
        let entry = server.run(&prompt).await;
        let error = &entry["status"]["messages"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()[1];
        assert_eq!(
            (&error["node_id"], &error["exception_type"]),
            (&json!("9"), &json!("Exception")),
            "{prefix}"
        );
        assert!(
            error["exception_message"]
                .as_str()
                .unwrap()
                .contains("outside the output folder"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_uploaded_picture_comes_out_as_it_went_in() {
    let server = Server::start().await;
    let original = server.run(&without_lora(5)).await;
    let file = server.picture(&original, "9");
    let form = multipart::Form::new()
        .part("image", multipart::Part::bytes(file).file_name("up.png"))
        .text("subfolder", "user-1/x");
    let response = server
        .http
        .post(server.url("/upload/image"))
        .multipart(form)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    for name in ["user-1/x/up.png", "user-1/x/up.png [input]"] {
        let prompt = json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "copy"}},
        });
        assert_eq!(
            server.pixels(&server.run(&prompt).await, "2"),
            server.pixels(&original, "9"),
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_missing_picture_is_refused_and_a_corrupt_one_fails() {
    let server = Server::start().await;
    std::fs::write(
        server.path("input/corrupt.png"),
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    )
    .unwrap();
    std::fs::write(server.path("input/text.png"), b"hello").unwrap();
    let prompt = |name: &str| {
        json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
        })
    };
    for name in ["nosuch.png", "../output/x.png", "/etc/passwd"] {
        let (status, answer) = server.post_prompt(&json!({"prompt": prompt(name)})).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{name}");
        let error = &answer["node_errors"]["1"]["errors"][0];
        assert_eq!(error["type"], "custom_validation_failed");
        assert_eq!(
            error["details"],
            format!("image - Invalid image file: {name}")
        );
    }
    for (name, exception) in [
        ("corrupt.png", "OSError"),
        ("text.png", "PIL.UnidentifiedImageError"),
    ] {
        let entry = server.run(&prompt(name)).await;
        assert_eq!(
            entry["status"]["messages"][2][1]["exception_type"], exception,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_replaced_input_picture_is_loaded_again() {
    let server = Server::start().await;
    let mut pictures = Vec::new();
    for seed in [1, 2] {
        let source = server.run(&without_lora(seed)).await;
        std::fs::write(server.path("input/same.png"), server.picture(&source, "9")).unwrap();
        let prompt = json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": "same.png"}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "same"}},
        });
        pictures.push(server.pixels(&server.run(&prompt).await, "2"));
    }
    assert_ne!(pictures[0], pictures[1]);
}

#[tokio::test]
async fn more_pixels_than_memory_is_an_error_of_the_node() {
    let server = Server::start().await;
    let prompt = json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 16384, "height": 16384, "batch_size": 4096, "color": 1}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "big"}},
    });
    let entry = server.run(&prompt).await;
    let error = &entry["status"]["messages"][2][1];
    assert_eq!(error["node_id"], "1");
    assert!(
        error["exception_message"]
            .as_str()
            .unwrap()
            .contains("can't allocate memory"),
        "{error}"
    );
}

#[tokio::test]
async fn previews_are_kept_in_the_temp_folder_and_served_from_there() {
    let server = Server::start().await;
    let mut prompt = without_lora(1);
    prompt["9"] = json!({"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}});
    let entry = server.run(&prompt).await;
    let image = &entry["outputs"]["9"]["images"][0];
    assert_eq!(image["type"], "temp");
    let path = format!(
        "/view?filename={}&type=temp",
        image["filename"].as_str().unwrap()
    );
    let response = server.send(Method::GET, &path, None).await;
    assert_eq!(response.bytes().await.unwrap(), server.picture(&entry, "9"));
}

//! What is known of LoRAs: facts of the file, hashes, filters; what ComfyUI itself offers; which
//! backends have what.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::with_lora;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

/// How long workers may take to tell how their backends are, and to bring what is asked for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A file as kohya's trainer writes it for Stable Diffusion XL.
fn sdxl() -> LoraFile {
    const CROSS: &str = "lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_v";
    const TEXT: &str = "lora_te2_text_model_encoder_layers_0_self_attn_v_proj";
    let metadata = json!({
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.title": "Houses XL",
        "modelspec.author": "Ada",
        "modelspec.license": "CC-BY-4.0",
        "modelspec.trigger_phrase": "hstyle, brick house",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "8",
        "ss_network_alpha": "4",
        "ss_tag_frequency": "{\"10_a\": {\"window\": 3, \"door\": 7}, \"5_b\": {\"window\": 9}}"
    });
    LoraFile::new(
        &metadata,
        &[
            (&format!("{CROSS}.lora_down.weight"), &[8, 2048]),
            (&format!("{CROSS}.lora_up.weight"), &[1280, 8]),
            (&format!("{TEXT}.lora_down.weight"), &[8, 1280]),
            (&format!("{TEXT}.lora_up.weight"), &[1280, 8]),
        ],
        |_| 7,
    )
}

/// The filenames of a list of LoRAs, in order of the alphabet.
async fn filenames(client: &Client, query: &str) -> Vec<String> {
    let list = client.get(&format!("/loras?{query}")).await.expect(200);
    let items = list["items"].as_array().expect("a list");
    let names = items.iter().map(|lora| lora["filename"].as_str());
    let mut names: Vec<_> = names.flatten().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lora_tells_what_its_file_says() {
    let client = house().await.server.client();
    let file = sdxl();

    let lora = client
        .upload_lora("houses.safetensors", file.bytes.clone())
        .await
        .expect(201);

    assert_eq!(lora["base_model"], "SDXL", "{lora}");
    assert_eq!(lora["base_model_confidence"], "high", "{lora}");
    let evidence = lora["base_model_evidence"].as_str().expect("a text");
    assert!(evidence.contains("attn2"), "{evidence}");
    assert_eq!(lora["title"], "Houses XL");
    assert_eq!(lora["rank"], 8);
    assert_eq!(lora["network_type"], "LoRA");
    assert_eq!(
        lora["trigger_words"],
        json!(["hstyle", "brick house", "window", "door"])
    );
    assert_eq!(lora["metadata"]["author"], "Ada");
    assert_eq!(lora["metadata"]["license"], "CC-BY-4.0");
    assert_eq!(lora["metadata"]["alpha"], 4.0);
    assert_eq!(lora["version"], 1);
    assert_eq!(lora["sha256"], file.sha256());
    assert_eq!(lora["hashes"], file.hashes());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_that_says_nothing_nothing_is_guessed() {
    let client = house().await.server.client();
    let file = LoraFile::of_size(1_000);

    let lora = client
        .upload_lora("weights.safetensors", file.bytes.clone())
        .await
        .expect(201);

    for unknown in ["base_model", "title", "rank", "network_type"] {
        assert_eq!(lora[unknown], Value::Null, "{unknown}: {lora}");
    }
    assert_eq!(lora["trigger_words"], json!([]));
    assert_eq!(lora["metadata"], json!({}));
    assert_eq!(lora["hashes"], file.hashes());
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_are_found_by_what_is_known_of_them() {
    let server = &house().await.server;
    let (client, stranger) = (server.client(), server.client());
    let files = [
        ("houses.safetensors", sdxl()),
        ("old.safetensors", LoraFile::small(41)),
        ("weights.safetensors", LoraFile::of_size(1_000)),
    ];
    for (filename, file) in &files {
        client
            .upload_lora(filename, file.bytes.clone())
            .await
            .expect(201);
    }

    for (base_model, expected) in [
        ("SDXL", vec!["houses.safetensors"]),
        ("sdxl", vec!["houses.safetensors"]),
        ("SD%201.x", vec!["old.safetensors"]),
        ("unknown", vec!["weights.safetensors"]),
        ("Flux.1", vec![]),
    ] {
        let found = filenames(&client, &format!("base_model={base_model}")).await;
        assert_eq!(found, expected, "{base_model}");
    }
    for (filename, file) in &files {
        for hash in [
            file.sha256(),
            file.sha256().to_uppercase(),
            file.blake3(),
            file.auto_v2(),
            file.auto_v2().to_lowercase(),
            file.auto_v3(),
        ] {
            let found = filenames(&client, &format!("hash={hash}")).await;
            assert_eq!(found, [*filename], "{hash}");
            let nothing = filenames(&stranger, &format!("hash={hash}")).await;
            assert_eq!(nothing, Vec::<String>::new(), "{hash}");
        }
    }
    assert_eq!(filenames(&client, "q=HOUSE").await, ["houses.safetensors"]);
    let both = format!("base_model=SDXL&hash={}", files[1].1.auto_v2());
    assert_eq!(filenames(&client, &both).await, Vec::<String>::new());
    for (query, parameter) in [
        ("hash=abc", "hash"),
        ("hash=zzzzzzzzzz", "hash"),
        ("base_model=SDX", "base_model"),
    ] {
        let refused = client.get(&format!("/loras?{query}")).await;
        let problem = refused.expect_problem(422, "validation");
        assert!(problem.to_string().contains(parameter), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comfyui_offers_is_listed_without_anybodys_files() {
    let site = Site::new(ATELIER).await;
    let folder = |name: &str| {
        let folder = site.backend.loras.join(name);
        std::fs::create_dir(&folder).expect("it is new");
        folder
    };
    let system = LoraFile::small(1).bytes;
    let write = |path: std::path::PathBuf| std::fs::write(path, &system).expect("there is room");
    write(site.backend.loras.join("house-style.safetensors"));
    write(folder("styles").join("ink.safetensors"));
    // Left by another installation, or put there by hand.
    write(folder("User-0a000000-0000-4000-8000-000000000001").join("secret.safetensors"));
    let server = site.serve();
    let client = server.client();
    client.add_lora("mine.safetensors", 2).await;
    let run = client.run_to_the_end(&with_lora("mine.safetensors")).await;
    assert_eq!(run["status"], "completed", "{run}");

    let mut listed = Value::Null;
    wait_until("what ComfyUI offers to be known", PATIENCE, async || {
        listed = client.get("/loras/system").await.expect(200);
        listed["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty())
    })
    .await;

    let names = ["house-style.safetensors", "styles/ink.safetensors"];
    let backend = &listed["items"][0]["backends"];
    assert_eq!(backend.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(
        listed["items"],
        json!(names.map(|name| json!({"name": name, "backends": backend})))
    );
    let first = client.get("/loras/system?limit=1").await.expect(200);
    assert_eq!(first["items"][0]["name"], names[0]);
    let cursor = first["next_cursor"].as_str().expect("there is more");
    let second = format!("/loras/system?limit=1&cursor={cursor}");
    let second = client.get(&second).await.expect(200);
    assert_eq!(second["items"][0]["name"], names[1]);
    assert_eq!(second["next_cursor"], Value::Null);
    let found = client.get("/loras/system?q=INK").await.expect(200);
    assert_eq!(found["items"], json!([listed["items"][1]]));
    let hidden = client.get("/loras/system?q=secret").await.expect(200);
    assert_eq!(hidden["items"], json!([]));
    for name in names {
        let run = client.run_to_the_end(&with_lora(name)).await;
        assert_eq!(run["status"], "completed", "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetched_lora_is_on_every_backend_before_any_run() {
    let (one, two) = (Backend::start().await, Backend::start().await);
    let site = Site::with_backend(ATELIER, one).await;
    let server = site
        .setup()
        .with_backends(&[("one", &site.backend), ("two", &two)])
        .start();
    let (client, stranger) = (server.client(), server.client());
    let lora = client.add_lora("style.safetensors", 1).await;
    let path = format!("/loras/{}/prefetch", id_of(&lora));
    let prefetch = async || {
        let request = client.request(Method::POST, &path);
        client.send(request).await.expect(202)
    };
    let states = |answer: &Value| -> Vec<(String, String)> {
        let copies = answer["backends"].as_array().expect("a list");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        copies
            .iter()
            .map(|copy| (text(&copy["backend"]), text(&copy["state"])))
            .collect()
    };
    let of_both =
        |state: &str| ["one", "two"].map(|backend| (backend.to_owned(), state.to_owned()));

    // Workers tell every few seconds which backends they serve.
    wait_until("both backends to be known", PATIENCE, async || {
        states(&prefetch().await).len() == 2
    })
    .await;
    prefetch().await;

    let file = LoraFile::small(1).bytes;
    let below = lora["comfyui_path"].as_str().expect("a path");
    wait_until("both to have it", PATIENCE, async || {
        [&site.backend, &two]
            .iter()
            .all(|backend| std::fs::read(backend.loras.join(below)).is_ok_and(|copy| copy == file))
    })
    .await;
    wait_until("both to say so", PATIENCE, async || {
        states(&prefetch().await) == of_both("present")
    })
    .await;
    assert_eq!(site.backend.prompts().await + two.prompts().await, 0);
    let refused = stranger.send(stranger.request(Method::POST, &path)).await;
    refused.expect_problem(404, "lora-not-found");
}

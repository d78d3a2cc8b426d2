//! What a graph may name it gets: by the exact path, and nothing else.

use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{with_lora, without_lora};
use serde_json::{Value, json};

use crate::ATELIER;
use crate::contents::ask;
use crate::conventions::{CORE, all};
use crate::neighbours::{SYSTEM, neighbours, replace};

/// A name that the other person has, too.
const SHARED: &str = "hidden-style.safetensors";

#[tokio::test(flavor = "multi_thread")]
async fn every_class_gets_the_exact_path_of_what_it_may_load() {
    let house = neighbours().await;
    let client = house.server.client();
    client.add_lora(SHARED, 1).await;
    let second = replace(&client, SHARED, LoraFile::small(2).bytes).await;
    let folder = format!("user-{}", client.person().id);
    let first_path = format!("{folder}/{SHARED}");
    let second_path = second["comfyui_path"].as_str().expect("a path").to_owned();
    assert_ne!(first_path, second_path);
    let mut expected = vec![
        (SHARED.to_owned(), &second_path),
        (format!("{folder}/{SHARED}"), &second_path),
        (format!("{SHARED}@1"), &first_path),
        (format!("{SHARED}@2"), &second_path),
        (format!("{folder}/{SHARED}@1"), &first_path),
        (second_path.clone(), &second_path),
    ];
    let system = SYSTEM.map(str::to_owned);
    expected.extend(system.iter().map(|path| (path.clone(), path)));

    for convention in all().filter(|convention| convention.takes_paths) {
        let mut graph = without_lora();
        for (number, (name, _)) in expected.iter().enumerate() {
            graph[format!("t{number}")] = convention.node(convention.value(name));
        }
        let workflow = client.create_workflow(&graph, false).await;
        let run = client.start_run(&workflow, &json!({})).await;

        let sql = format!("select graph::text from comfyui_workflow_runs where id = '{run}'");
        let text = house.site.database.text(&sql).await;
        let stored: Value = serde_json::from_str(&text).expect("JSON");
        for (number, (name, path)) in expected.iter().enumerate() {
            let written = convention.name_in(&stored[format!("t{number}")]);
            assert_eq!(written, path.as_str(), "{convention:?}: {name}");
        }
        assert!(!text.contains(&house.secret.owner), "{convention:?}");
        // Nothing else was rewritten.
        let node = &stored["t0"]["inputs"];
        assert_eq!(node["model"], json!(["4", 0]), "{convention:?}");
        assert_eq!(node["switch_3"], json!("Off"), "{convention:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn comfyui_is_given_nothing_but_own_and_system_paths() {
    let site = Site::new(ATELIER).await;
    let system = SYSTEM[0];
    let bytes = LoraFile::small(200).bytes;
    std::fs::write(site.backend.loras.join(system), bytes).expect("there is room");
    let server = site.serve();
    let (other, client) = (server.client(), server.client());
    other.add_lora(SHARED, 3).await;
    let run = other.run_to_the_end(&with_lora(SHARED)).await;
    assert_eq!(run["status"], "completed", "{run}");
    client.add_lora(SHARED, 1).await;
    let second = replace(&client, SHARED, LoraFile::small(2).bytes).await;
    let own = [
        format!("user-{}/{SHARED}", client.person().id),
        second["comfyui_path"].as_str().expect("a path").to_owned(),
    ];
    // The classes stand beside the workflow: ComfyUI is given them, and need not run them.
    let mut graph = with_lora(SHARED);
    let mut expected = vec![("10".to_owned(), CORE[2], own[1].clone())];
    for (number, convention) in CORE.into_iter().enumerate() {
        for (word, name, path) in [
            ("latest", SHARED.to_owned(), &own[1]),
            ("first", format!("{SHARED}@1"), &own[0]),
            ("system", system.to_owned(), &system.to_owned()),
        ] {
            let node = format!("{word}{number}");
            graph[&node] = convention.node(convention.value(&name));
            expected.push((node, convention, path.clone()));
        }
    }

    let run = client.run_to_the_end(&graph).await;

    assert_eq!(run["status"], "completed", "{run}");
    let prompt_id = run["comfyui_prompt_id"].as_str().expect("an id");
    let history = ask(&site.backend, &format!("/history/{prompt_id}")).await;
    let prompt = &history[prompt_id]["prompt"][2];
    for (node, convention, path) in &expected {
        assert_eq!(convention.name_in(&prompt[node]), path, "{convention:?}");
    }
    let text = prompt.to_string();
    assert!(!text.contains(&other.person().id.to_string()), "{text}");
}

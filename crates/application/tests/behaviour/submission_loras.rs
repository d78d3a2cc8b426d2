//! Every way to name a LoRA, for every class that takes one
//! (`reference/comfyui/model_inputs.json`).

use std::sync::Arc;

use atelier_application::runs::{SubmitRequest, SubmitRun};
use atelier_domain::ports::{LoraCatalogue, LoraRepo as _, MockRunRepo};
use atelier_testkit::build::{a_new_lora, an_actor};
use serde_json::{Value, json};

use crate::support::{House, graph_with, lora_graph};

/// A class and its inputs with a name in place, and where the name stands.
type Shape = (&'static str, fn(&str) -> Value, &'static str);

const SHAPES: [Shape; 14] = [
    (
        "LoraLoader",
        |name| json!({"lora_name": name, "strength_model": 1.0}),
        "/lora_name",
    ),
    (
        "LoraLoaderModelOnly",
        |name| json!({"lora_name": name}),
        "/lora_name",
    ),
    (
        "LoraLoaderBypass",
        |name| json!({"lora_name": name}),
        "/lora_name",
    ),
    (
        "LoraLoaderBypassModelOnly",
        |name| json!({"lora_name": name}),
        "/lora_name",
    ),
    (
        "CreateHookLora",
        |name| json!({"lora_name": name}),
        "/lora_name",
    ),
    (
        "CreateHookLoraModelOnly",
        |name| json!({"lora_name": name}),
        "/lora_name",
    ),
    (
        "TrainLoraNode",
        |name| json!({"existing_lora": name}),
        "/existing_lora",
    ),
    (
        "Power Lora Loader (rgthree)",
        |name| json!({"lora_1": {"on": true, "lora": name, "strength": 1.0}}),
        "/lora_1/lora",
    ),
    (
        "Lora Loader Stack (rgthree)",
        |name| json!({"lora_01": name, "lora_02": "None"}),
        "/lora_01",
    ),
    (
        "LoRA Stacker",
        |name| json!({"lora_name_1": name, "lora_count": 1}),
        "/lora_name_1",
    ),
    (
        "Efficient Loader",
        |name| json!({"lora_name": name}),
        "/lora_name",
    ),
    (
        "CR LoRA Stack",
        |name| json!({"lora_name_3": name, "switch_3": "On"}),
        "/lora_name_3",
    ),
    (
        "easy loraStack",
        |name| json!({"lora_10_name": name}),
        "/lora_10_name",
    ),
    (
        "ttN pipeLoraStack",
        |name| json!({"lora_2_name": name}),
        "/lora_2_name",
    ),
];

fn value_at(graph: &atelier_domain::graph::PromptGraph, place: &str) -> Value {
    let inputs = Value::Object(graph.node("7").unwrap().inputs().clone());
    inputs.pointer(place).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn an_own_lora_becomes_its_exact_path_in_every_class() {
    let house = House::new();
    let lora = house.lora("My Style.safetensors", 1).await;
    let path = lora.content.unwrap().comfyui_path.to_string();
    for (class, inputs, place) in SHAPES {
        for name in ["My Style.safetensors", path.as_str()] {
            let run = house
                .submit(&graph_with(class, &inputs(name)))
                .await
                .unwrap();

            let graph = house.queued_graph().await;
            assert_eq!(
                value_at(&graph, place),
                json!(path),
                "{class} {name} {}",
                run.id
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_run_needs_each_lora_once() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let mut graph = lora_graph("a.safetensors");
    graph["8"] = graph["7"].clone();

    let run = house.submit(&graph).await.unwrap();

    let claimed = house.claimed().await;
    assert_eq!((claimed.run_id, claimed.lora_ids), (run.id, vec![lora.id]));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ones_own_never_reaches_the_queue_in_any_class() {
    let house = House::new();
    house.lora("mine.safetensors", 1).await;
    house.offer(&["system.safetensors"]);
    house.catalogue.refresh().await;
    let other = an_actor().user_id();
    let own = house.actor.user_id();
    // A mock without expectations: putting anything into the queue would panic.
    let submissions = SubmitRun {
        runs: Arc::new(MockRunRepo::new()),
        ..house.submissions()
    };
    for (class, inputs, place) in SHAPES {
        for name in [
            format!("../user-{other}/x.safetensors"),
            format!("user-{other}/x.safetensors"),
            format!("user-{own}/../user-{other}/x.safetensors"),
            format!("USER-{own}/mine.safetensors"),
            format!("user-{own}/no-such.safetensors"),
            format!("user-{own}/mine.0123abcd.safetensors"),
            "/etc/passwd".to_owned(),
            "a\\b".to_owned(),
            "no-such.safetensors".to_owned(),
            "styles/no-such.safetensors".to_owned(),
            "SYSTEM.safetensors".to_owned(),
            "system".to_owned(),
        ] {
            let workflow = house.workflow(&graph_with(class, &inputs(&name))).await;

            let refused = submissions
                .execute(&house.actor, workflow, SubmitRequest::default())
                .await;

            let Err(atelier_application::runs::SubmitRunError::Invalid(violations)) = refused
            else {
                panic!("{class} {name}: not refused: {refused:?}");
            };
            let pointers: Vec<&str> = violations
                .iter()
                .map(|fault| fault.pointer.as_str())
                .collect();
            assert_eq!(
                pointers,
                [format!("/workflow_json/7/inputs{place}")],
                "{class} {name}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_only_a_run_would_tell_are_refused() {
    let house = House::new();
    for (class, inputs) in [
        ("LoraLoader", json!({"lora_name": ["1", 0]})),
        ("LoraLoader", json!({"lora_name": {"a": 1}})),
        ("LoraTagLoader", json!({"text": "<lora:style:1>"})),
        (
            "Lora Loader (LoraManager)",
            json!({"loras": {"__value__": [{"name": "style"}]}}),
        ),
    ] {
        let violations = house.refusal(&graph_with(class, &inputs)).await;

        assert!(
            violations[0]
                .pointer
                .starts_with("/workflow_json/7/inputs/"),
            "{class} {inputs}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comfyui_offers_is_left_alone() {
    let house = House::new();
    house.offer(&["system.safetensors", "styles/anime.ckpt"]);
    house.catalogue.refresh().await;
    for name in ["system.safetensors", "styles/anime.ckpt"] {
        house.submit(&lora_graph(name)).await.unwrap();

        assert_eq!(
            value_at(&house.queued_graph().await, "/lora_name"),
            json!(name)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn ones_own_lora_goes_before_a_system_file_of_the_same_name() {
    let house = House::new();
    let lora = house.lora("both.safetensors", 1).await;
    house.offer(&["both.safetensors"]);
    house.catalogue.refresh().await;

    house.submit(&lora_graph("both.safetensors")).await.unwrap();

    let path = lora.content.unwrap().comfyui_path.to_string();
    assert_eq!(
        value_at(&house.queued_graph().await, "/lora_name"),
        json!(path)
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comfyui_got_since_is_found() {
    let house = House::new();
    house.catalogue.refresh().await;
    house.offer(&["new.safetensors"]);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;

    house.submit(&lora_graph("new.safetensors")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn while_no_catalogue_is_known_a_system_file_is_left_to_dispatch() {
    let house = House::new();
    house.comfy.outage().begin();

    house
        .submit(&lora_graph("perhaps.safetensors"))
        .await
        .unwrap();
    let refused = house.refusal(&lora_graph("../perhaps.safetensors")).await;

    assert_eq!(
        value_at(&house.queued_graph().await, "/lora_name"),
        json!("perhaps.safetensors")
    );
    assert_eq!(refused.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_input_that_only_the_backend_knows_is_resolved_too() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    house.comfy.set_catalogue(LoraCatalogue {
        inputs: [("MyLoader".to_owned(), "weights".to_owned())].into(),
        ..LoraCatalogue::default()
    });
    house.catalogue.refresh().await;

    house
        .submit(&graph_with(
            "MyLoader",
            &json!({"weights": "a.safetensors"}),
        ))
        .await
        .unwrap();

    let path = lora.content.unwrap().comfyui_path.to_string();
    assert_eq!(
        value_at(&house.queued_graph().await, "/weights"),
        json!(path)
    );
}

#[tokio::test(start_paused = true)]
async fn other_bytes_under_a_filename_are_reached_by_name_and_by_path() {
    let house = House::new();
    let first = house.lora("a.safetensors", 1).await;
    assert!(matches!(
        house
            .store
            .loras()
            .delete(&house.actor, first.id)
            .await
            .unwrap(),
        atelier_domain::ports::WriteOutcome::Done(())
    ));
    let second = house
        .lora("a.safetensors", 2)
        .await
        .content
        .unwrap()
        .comfyui_path;
    assert_ne!(second, first.content.unwrap().comfyui_path);
    for name in ["a.safetensors".to_owned(), second.to_string()] {
        house.submit(&lora_graph(&name)).await.unwrap();

        assert_eq!(
            value_at(&house.queued_graph().await, "/lora_name"),
            json!(second.to_string())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lora_that_is_still_being_uploaded_is_named_as_such() {
    let house = House::new();
    house.catalogue.refresh().await;
    house
        .store
        .loras()
        .reserve(&house.actor, a_new_lora("slow.safetensors"))
        .await
        .unwrap();

    let violations = house.refusal(&lora_graph("slow.safetensors")).await;

    assert!(
        violations[0].detail.contains("still being uploaded"),
        "{violations:?}"
    );
}

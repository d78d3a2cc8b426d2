//! Versions of LoRAs, as graphs name them.

use std::collections::BTreeSet;

use atelier_application::runs::{SubmitRequest, SubmitRunError};
use atelier_domain::ids::LoraId;
use atelier_domain::ports::{LoraRepo as _, WriteOutcome};
use atelier_testkit::build::an_actor;
use serde_json::{Value, json};

use crate::support::{House, lora_graph};

const NAME: &str = "a.safetensors";

/// What a worker would be given in place of a name.
async fn becomes(house: &House, name: &str) -> Value {
    let run = house.submit(&lora_graph(name)).await.unwrap();
    let claimed = house.claimed().await;
    assert_eq!(claimed.run_id, run.id);
    let graph = claimed.graph.parse().unwrap();
    graph.node("7").unwrap().inputs()["lora_name"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_bare_name_is_the_latest_version_and_a_number_is_that_one() {
    let house = House::new();
    let first = house.lora(NAME, 1).await.content.unwrap().comfyui_path;
    let second = house.next_version(NAME, 2).await;
    let third = house
        .next_version(NAME, 3)
        .await
        .content
        .unwrap()
        .comfyui_path;
    let own = house.actor.user_id();
    let path_of_second = second.content.unwrap().comfyui_path.to_string();

    for (name, path) in [
        (NAME.to_owned(), third.to_string()),
        (format!("user-{own}/{NAME}@3"), third.to_string()),
        (format!("{NAME}@1"), first.to_string()),
        (format!("{NAME}@2"), path_of_second.clone()),
        (format!("user-{own}/{NAME}@2"), path_of_second.clone()),
        // A workflow that was saved with an exact path goes on as it was.
        (path_of_second.clone(), path_of_second.clone()),
    ] {
        assert_eq!(becomes(&house, &name).await, json!(path), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_name_in_a_graph_gets_its_own_version_and_the_run_needs_them_all() {
    let house = House::new();
    let versions = [
        house.lora(NAME, 1).await,
        house.next_version(NAME, 2).await,
        house.next_version(NAME, 3).await,
    ];
    let mut graph = lora_graph(NAME);
    for (node, name) in [("11", "@1"), ("12", "@2"), ("13", "@3")] {
        graph[node] = lora_graph(&format!("{NAME}{name}"))["7"].clone();
    }

    house.submit(&graph).await.unwrap();

    let claimed = house.claimed().await;
    let needed: BTreeSet<LoraId> = claimed.lora_ids.iter().copied().collect();
    assert_eq!(needed, versions.iter().map(|lora| lora.id).collect());
    assert_eq!(claimed.lora_ids.len(), 3);
    let prepared = claimed.graph.parse().unwrap();
    for (node, version) in [("11", 0), ("12", 1), ("13", 2), ("7", 2)] {
        let path = &versions[version].content.as_ref().unwrap().comfyui_path;
        let value = &prepared.node(node).unwrap().inputs()["lora_name"];
        assert_eq!(*value, json!(path.to_string()), "{node}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_not_there_is_refused_where_it_is_named() {
    let house = House::new();
    let first = house.lora(NAME, 1).await;
    house.next_version(NAME, 2).await;
    house.offer(&["a.safetensors@7"]);
    house.catalogue.refresh().await;
    let deleted = house.store.loras().delete(&house.actor, first.id).await;
    assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));

    for name in [
        format!("{NAME}@1"),
        format!("{NAME}@3"),
        format!("{NAME}@7"),
        "b.safetensors@1".to_owned(),
    ] {
        let violations = house.refusal(&lora_graph(&name)).await;

        assert_eq!(violations.len(), 1, "{name}: {violations:?}");
        assert_eq!(violations[0].pointer, "/workflow_json/7/inputs/lora_name");
        assert!(violations[0].detail.contains("version"), "{violations:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_path_of_a_version_that_was_deleted_is_refused() {
    let house = House::new();
    house.lora(NAME, 1).await;
    let second = house.next_version(NAME, 2).await;
    house.next_version(NAME, 3).await;
    let path = second.content.unwrap().comfyui_path.to_string();
    let deleted = house.store.loras().delete(&house.actor, second.id).await;
    assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));

    let violations = house.refusal(&lora_graph(&path)).await;

    assert!(violations[0].detail.contains("deleted"), "{violations:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_reaches_anothers_versions() {
    let house = House::new();
    house.lora(NAME, 1).await;
    let second = house
        .next_version(NAME, 2)
        .await
        .content
        .unwrap()
        .comfyui_path;
    let stranger = an_actor();
    for name in [format!("{NAME}@2"), second.to_string()] {
        let workflow = house
            .workflow_of(&stranger, &lora_graph(&name), false)
            .await;
        let submissions = house.submissions();

        let refused = submissions
            .execute(&stranger, workflow, SubmitRequest::default())
            .await;

        assert!(
            matches!(refused, Err(SubmitRunError::Invalid(_))),
            "{name}: {refused:?}"
        );
    }
}

//! What a backend offers: its version, its LoRAs, its files.

use std::collections::BTreeSet;

use atelier_comfyui_sim::Version;
use atelier_domain::output::{BackendFile, BackendFolder, BackendOutputContent};
use atelier_domain::ports::{ComfyClient, ComfyError};
use futures_util::StreamExt;

use crate::support::{on_both_versions, quick_graph, world};

on_both_versions!(
    the_version_is_told,
    loras_and_their_inputs_are_listed,
    without_loras_no_input_is_guessed,
    every_core_input_is_found_by_its_options,
    classes_and_models_are_listed_without_loras,
    a_checkpoint_tells_of_itself,
    a_picture_is_fetched,
    a_file_that_is_gone_is_not_found,
    a_file_elsewhere_is_not_found,
);

async fn the_version_is_told(version: Version) {
    let world = world(version).await;

    assert_eq!(
        world.comfy.information().await.unwrap().version,
        version.number()
    );
}

async fn loras_and_their_inputs_are_listed(version: Version) {
    let world = world(version).await;
    let loras = world.folder.path().join("models/loras");
    std::fs::create_dir_all(loras.join("user-1")).unwrap();
    for name in [
        "system.safetensors",
        "user-1/ä b.safetensors",
        "ignored.txt",
        "half.safetensors.part",
    ] {
        std::fs::write(loras.join(name), "x").unwrap();
    }

    let catalogue = world.comfy.lora_catalogue().await.unwrap();

    let files: Vec<_> = catalogue.files.iter().map(String::as_str).collect();
    assert_eq!(files, ["system.safetensors", "user-1/ä b.safetensors"]);
    let inputs: Vec<_> = catalogue
        .inputs
        .iter()
        .map(|(class, input)| (class.as_str(), input.as_str()))
        .collect();
    assert!(inputs.contains(&("LoraLoader", "lora_name")), "{inputs:?}");
    assert!(
        inputs.contains(&("LoraLoaderModelOnly", "lora_name")),
        "{inputs:?}"
    );
    assert!(
        inputs.iter().all(|(class, _)| class.contains("Lora")),
        "{inputs:?}"
    );
}

async fn without_loras_no_input_is_guessed(version: Version) {
    let world = world(version).await;

    let catalogue = world.comfy.lora_catalogue().await.unwrap();

    assert!(catalogue.files.is_empty());
    assert!(catalogue.inputs.is_empty(), "{:?}", catalogue.inputs);
}

async fn every_core_input_is_found_by_its_options(version: Version) {
    let world = world(version).await;
    let loras = world.folder.path().join("models/loras");
    std::fs::create_dir_all(&loras).unwrap();
    std::fs::write(loras.join("system.safetensors"), "x").unwrap();

    let catalogue = world.comfy.lora_catalogue().await.unwrap();

    let core = [
        ("CreateHookLora", "lora_name"),
        ("CreateHookLoraModelOnly", "lora_name"),
        ("LoraLoader", "lora_name"),
        ("LoraLoaderBypass", "lora_name"),
        ("LoraLoaderBypassModelOnly", "lora_name"),
        ("LoraLoaderModelOnly", "lora_name"),
        ("TrainLoraNode", "existing_lora"),
    ];
    let expected: BTreeSet<_> = core
        .into_iter()
        .filter(|(class_type, _)| catalogue.classes.contains(*class_type))
        .map(|(class_type, input)| (class_type.to_owned(), input.to_owned()))
        .collect();
    assert_eq!(catalogue.inputs, expected);
    let count = if version == Version::V0_3_64 { 4 } else { 7 };
    assert_eq!(expected.len(), count);
}

async fn classes_and_models_are_listed_without_loras(version: Version) {
    let world = world(version).await;
    let models = world.folder.path().join("models");
    for file in [
        "checkpoints/xl/model.safetensors",
        "loras/system.safetensors",
        "loras/user-11111111-2222-4333-8444-55555555abcd/secret.safetensors",
    ] {
        let file = models.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "x").unwrap();
    }

    let catalogue = world.comfy.lora_catalogue().await.unwrap();

    assert!(catalogue.classes.contains("KSampler"));
    let key = ("CheckpointLoaderSimple".to_owned(), "ckpt_name".to_owned());
    let checkpoints: Vec<_> = catalogue.models[&key].iter().collect();
    assert_eq!(
        checkpoints,
        ["sim-sd15.safetensors", "xl/model.safetensors"]
    );
    let models = format!("{:?}", catalogue.models);
    assert!(!models.contains("secret") && !models.contains("system"));
}

async fn a_checkpoint_tells_of_itself(version: Version) {
    let world = world(version).await;
    let checkpoints = world.folder.path().join("models/checkpoints/a b");
    std::fs::create_dir_all(&checkpoints).unwrap();
    let header = serde_json::json!({"__metadata__": {
        "modelspec.architecture": "stable-diffusion-v1",
        "modelspec.thumbnail": "x".repeat(100_000),
        "odd": 1
    }})
    .to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [length.as_slice(), header.as_bytes()].concat();
    std::fs::write(checkpoints.join("é&c.safetensors"), file).unwrap();
    std::fs::write(checkpoints.join("old.ckpt"), "x").unwrap();

    let told = world
        .comfy
        .checkpoint_metadata("a b/é&c.safetensors")
        .await
        .unwrap();

    let expected = ("modelspec.architecture", "stable-diffusion-v1");
    let told: Vec<_> = told.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(told, [expected]);
    for silent in [
        "sim-sd15.safetensors",
        "a b/old.ckpt",
        "none.safetensors",
        "",
    ] {
        let told = world.comfy.checkpoint_metadata(silent).await.unwrap();
        assert!(told.is_empty(), "{silent}: {told:?}");
    }
}

async fn a_picture_is_fetched(version: Version) {
    let world = world(version).await;
    let prompt_id = world.submitted(&quick_graph("user-1/ä & b#1/img")).await;
    let result = world.result(&prompt_id).await;
    let BackendOutputContent::File(file) = &result.outputs[0].content else {
        unreachable!("a picture is a file")
    };

    let mut output = world.comfy.fetch_output(file).await.unwrap();

    let mut bytes = Vec::new();
    while let Some(chunk) = output.bytes.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(output.content_type.as_deref(), Some("image/png"));
    assert_eq!(output.size_bytes, Some(bytes.len() as u64));
    let on_disk = world
        .folder
        .path()
        .join("output")
        .join(&file.subfolder)
        .join(&file.filename);
    assert_eq!(bytes, std::fs::read(on_disk).unwrap());
}

fn file(filename: &str, subfolder: &str) -> BackendFile {
    BackendFile {
        filename: filename.to_owned(),
        subfolder: subfolder.to_owned(),
        folder: BackendFolder::Output,
    }
}

async fn a_file_that_is_gone_is_not_found(version: Version) {
    let world = world(version).await;

    let error = world
        .comfy
        .fetch_output(&file("gone_00001_.png", ""))
        .await
        .unwrap_err();

    assert!(matches!(error, ComfyError::NotFound(_)), "{error:?}");
}

async fn a_file_elsewhere_is_not_found(version: Version) {
    let world = world(version).await;
    std::fs::write(world.folder.path().join("secret.png"), "x").unwrap();

    for (filename, subfolder) in [
        ("secret.png", ".."),
        ("../secret.png", ""),
        ("secret.png", "/etc"),
        ("x.png [input]", ""),
    ] {
        let error = world
            .comfy
            .fetch_output(&file(filename, subfolder))
            .await
            .unwrap_err();
        assert!(matches!(error, ComfyError::NotFound(_)), "{error:?}");
    }
}

//! What a backend offers: its version, its LoRAs, its files.

use atelier_comfyui_sim::Version;
use atelier_domain::output::{BackendFile, BackendFolder, BackendOutputContent};
use atelier_domain::ports::{ComfyClient, ComfyError};
use futures_util::StreamExt;

use crate::support::{on_both_versions, quick_graph, world};

on_both_versions!(
    the_version_is_told,
    loras_and_their_inputs_are_listed,
    without_loras_no_input_is_guessed,
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

//! What a graph may mean by a LoRA, whichever class loads it.

use atelier_testkit::build::safetensors_bytes;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::with_node;
use serde_json::{Value, json};

use crate::house::ATELIER;

/// A class that loads LoRAs, and how node `10` of it names one.
struct Loader {
    class_type: &'static str,
    input: &'static str,
    /// The file's name lies in an object, as the rows of some packs do.
    is_row: bool,
}

const fn loader(class_type: &'static str, input: &'static str) -> Loader {
    Loader {
        class_type,
        input,
        is_row: false,
    }
}

/// Every core class of `reference/comfyui/model_inputs.json` that reads the LoRA folder, and some
/// of other packs.
const LOADERS: [Loader; 11] = [
    loader("CreateHookLora", "lora_name"),
    loader("CreateHookLoraModelOnly", "lora_name"),
    loader("LoraLoader", "lora_name"),
    loader("LoraLoaderBypass", "lora_name"),
    loader("LoraLoaderBypassModelOnly", "lora_name"),
    loader("LoraLoaderModelOnly", "lora_name"),
    loader("TrainLoraNode", "existing_lora"),
    loader("LoRA Stacker", "lora_name_1"),
    loader("CR LoRA Stack", "lora_name_3"),
    loader("Lora Loader Stack (rgthree)", "lora_02"),
    Loader {
        class_type: "Power Lora Loader (rgthree)",
        input: "lora_1",
        is_row: true,
    },
];

impl Loader {
    fn graph(&self, lora: &str) -> Value {
        let mut inputs = json!({"model": ["4", 0], "clip": ["4", 1], "strength_model": 1.0,
                                "strength_clip": 1.0});
        inputs[self.input] = self.value(lora);
        with_node(self.class_type, &inputs)
    }

    fn value(&self, lora: &str) -> Value {
        if self.is_row {
            json!({"on": true, "lora": lora, "strength": 1.0})
        } else {
            json!(lora)
        }
    }

    fn pointer(&self) -> String {
        let row = if self.is_row { "/lora" } else { "" };
        format!("/workflow_json/10/inputs/{}{row}", self.input)
    }
}

async fn refused(client: &Client, graph: &Value, params: Value) -> Vec<String> {
    let workflow = client.create_workflow(graph, false).await;
    client
        .post(
            &format!("/workflows/{workflow}/run"),
            &json!({"input_params": params}),
        )
        .await
        .expect_pointers(422, "validation")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_class_reaches_a_file_that_is_not_the_owners() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let (client, other) = (server.client(), server.client());
    client.add_lora("mine.safetensors", 1).await;
    other.add_lora("x.safetensors", 2).await;
    // The other person's file is on the backend's disk, and offered by ComfyUI.
    let folder = site
        .backend
        .loras
        .join(format!("user-{}", other.person().id));
    std::fs::create_dir(&folder).expect("it is new");
    std::fs::write(folder.join("x.safetensors"), safetensors_bytes(2)).expect("there is room");

    let other_id = other.person().id;
    let values = [
        format!("../user-{other_id}/x.safetensors"),
        format!("user-{other_id}/x.safetensors"),
        format!("User-{other_id}/x.safetensors"),
        format!("styles/../user-{other_id}/x.safetensors"),
        "/etc/passwd".to_owned(),
        "a\\b".to_owned(),
        "nobody-has-this.safetensors".to_owned(),
        "no-model-at-all".to_owned(),
        format!("user-{}/nobody-has-this.safetensors", client.person().id),
    ];
    for loader in &LOADERS {
        for value in &values {
            let pointers = refused(&client, &loader.graph(value), json!({})).await;
            assert_eq!(
                pointers,
                [loader.pointer()],
                "{}: {value}",
                loader.class_type
            );

            // The same value as a parameter of a workflow that is in order.
            let graph = loader.graph("mine.safetensors");
            let params = json!({format!("10.{}", loader.input): loader.value(value)});
            let pointers = refused(&client, &graph, params).await;
            assert_eq!(
                pointers,
                [loader.pointer()],
                "{}: {value}",
                loader.class_type
            );
        }
    }

    assert_eq!(site.backend.prompts().await, 0);
    let runs = site
        .database
        .count("select count(*) from comfyui_workflow_runs")
        .await;
    assert_eq!(runs, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_class_gets_the_whole_path_of_ones_own_file() {
    let site = Site::new(ATELIER).await;
    std::fs::create_dir(site.backend.loras.join("styles")).expect("it is new");
    for system in ["system.safetensors", "styles/system.safetensors"] {
        std::fs::write(site.backend.loras.join(system), safetensors_bytes(9))
            .expect("there is room");
    }
    // Nobody works on the runs: some classes are not ComfyUI's own.
    let server = site.serve_without_worker();
    let client = server.client();
    client.add_lora("mine.safetensors", 1).await;

    let path = format!("user-{}/mine.safetensors", client.person().id);
    for loader in &LOADERS {
        for (value, expected) in [
            ("mine.safetensors", path.as_str()),
            (path.as_str(), path.as_str()),
            ("system.safetensors", "system.safetensors"),
            ("styles/system.safetensors", "styles/system.safetensors"),
        ] {
            let graph = loader.graph(value);
            let workflow = client.create_workflow(&graph, false).await;
            let run = client.start_run(&workflow, &json!({})).await;

            let stored =
                format!("select graph::text from comfyui_workflow_runs where id = '{run}'");
            let stored = site.database.text(&stored).await;
            let stored: Value = serde_json::from_str(&stored).expect("a graph");
            let input = &stored["10"]["inputs"][loader.input];
            let lora = if loader.is_row { &input["lora"] } else { input };
            assert_eq!(lora, expected, "{}: {value}", loader.class_type);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bypass_that_means_no_lora_is_no_lora() {
    let site = Site::new(ATELIER).await;
    let server = site.serve_without_worker();
    let client = server.client();

    for (class_type, input, value) in [
        ("TrainLoraNode", "existing_lora", "[None]"),
        ("LoRA Stacker", "lora_name_1", "None"),
    ] {
        let workflow = client
            .create_workflow(&with_node(class_type, &json!({input: value})), false)
            .await;
        client.start_run(&workflow, &json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loaders_that_match_names_fuzzily_are_refused() {
    let site = Site::new(ATELIER).await;
    let server = site.serve_without_worker();
    let client = server.client();
    client.add_lora("mine.safetensors", 1).await;

    for (class_type, inputs, input) in [
        (
            "LoraTagLoader",
            json!({"text": "a cat <lora:mine:0.8>"}),
            "text",
        ),
        (
            "Lora Loader (LoraManager)",
            json!({"loras": [{"name": "mine", "strength": 1.0}]}),
            "loras",
        ),
        ("LoraLoader", json!({"lora_name": ["4", 0]}), "lora_name"),
        ("LoraLoader", json!({"lora_name": 5}), "lora_name"),
    ] {
        let pointers = refused(&client, &with_node(class_type, &inputs), json!({})).await;
        assert_eq!(
            pointers,
            [format!("/workflow_json/10/inputs/{input}")],
            "{class_type}"
        );
    }
}

use std::sync::Arc;
use std::time::Duration;

use atelier_comfyui::{ComfyHttp, ComfyOptions};
use atelier_comfyui_sim::{Simulator, SimulatorOptions, Version};
use atelier_domain::graph::GraphJson;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{
    ComfyClient, ComfyError, ComfyEvent, ComfyEvents, PromptResult, PromptState, PromptSubmission,
    SubmittedPrompt,
};
use atelier_testkit::{SequentialIds, random_id};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Stamps each case for both versions.
macro_rules! on_both_versions {
    ($($case:ident),+ $(,)?) => {
        mod current { $(#[tokio::test(flavor = "multi_thread")] async fn $case() {
            super::$case(atelier_comfyui_sim::Version::V0_33_0).await;
        })+ }
        mod older { $(#[tokio::test(flavor = "multi_thread")] async fn $case() {
            super::$case(atelier_comfyui_sim::Version::V0_3_64).await;
        })+ }
    };
}
pub(crate) use on_both_versions;

/// A simulator and a client of it.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) comfy: ComfyHttp,
    pub(crate) folder: TempDir,
}

pub(crate) async fn world(version: Version) -> World {
    world_with(version, |_options| {}).await
}

pub(crate) async fn world_with(
    version: Version,
    change: impl FnOnce(&mut SimulatorOptions),
) -> World {
    let folder = tempfile::tempdir().unwrap();
    let mut options = SimulatorOptions::in_dir(folder.path());
    options.version = version;
    change(&mut options);
    let simulator = Simulator::start(options).await.unwrap();
    let comfy = client(ComfyOptions {
        base_url: simulator.url(),
        ..ComfyOptions::default()
    });
    World {
        simulator,
        comfy,
        folder,
    }
}

pub(crate) fn client(options: ComfyOptions) -> ComfyHttp {
    ComfyHttp::new(options, Arc::new(SequentialIds::new()), Handle::current()).unwrap()
}

/// One picture, at once.
pub(crate) fn quick_graph(prefix: &str) -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}}
    })
}

/// As many steps as are given, each as long as the simulator is told.
pub(crate) fn sampling_graph(steps: u32) -> Value {
    json!({
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sim-sd15.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog", "clip": ["4", 1]}},
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 1, "steps": steps, "cfg": 8.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]
        }},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "sampled"}}
    })
}

pub(crate) fn submission(graph: &Value, client_id: &str) -> PromptSubmission {
    PromptSubmission {
        run_id: RunId::new(random_id()),
        client_id: client_id.to_owned(),
        graph: GraphJson::from_trusted(graph.to_string()),
        extra_data: json!({"extra_pnginfo": {"atelier": {"run": "x"}}}),
    }
}

impl World {
    pub(crate) async fn submit(&self, graph: &Value) -> Result<SubmittedPrompt, ComfyError> {
        self.comfy.submit(submission(graph, "nobody-listens")).await
    }

    /// Submits, and expects it to be taken; gives its id.
    pub(crate) async fn submitted(&self, graph: &Value) -> String {
        self.submit(graph).await.unwrap().prompt_id
    }

    pub(crate) async fn state(&self, prompt_id: &str) -> PromptState {
        self.comfy.prompt_state(prompt_id).await.unwrap()
    }

    /// Asks until the state is as wanted.
    pub(crate) async fn reaches(
        &self,
        prompt_id: &str,
        mut wanted: impl FnMut(&PromptState) -> bool,
    ) -> PromptState {
        let asking = async {
            loop {
                let state = self.state(prompt_id).await;
                if wanted(&state) {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .expect("the prompt never got there")
    }

    pub(crate) async fn result(&self, prompt_id: &str) -> PromptResult {
        match self
            .reaches(prompt_id, |state| matches!(state, PromptState::Finished(_)))
            .await
        {
            PromptState::Finished(result) => result,
            other => unreachable!("{other:?} is not finished"),
        }
    }
}

/// The next event of a socket, in bounded time.
pub(crate) async fn next(events: &mut ComfyEvents) -> Option<Result<ComfyEvent, ComfyError>> {
    tokio::time::timeout(PATIENCE, events.stream.next())
        .await
        .expect("no event came")
}

/// All events up to the end of a prompt.
pub(crate) async fn until_ended(events: &mut ComfyEvents, prompt_id: &str) -> Vec<ComfyEvent> {
    let mut seen = Vec::new();
    loop {
        let event = next(events).await.expect("the stream ended").unwrap();
        let is_end = matches!(&event, ComfyEvent::Ended { prompt_id: ended } if ended == prompt_id);
        seen.push(event);
        if is_end {
            return seen;
        }
    }
}

/// What every kind of question meets at a backend that answers none.
pub(crate) async fn all_refusals(comfy: &ComfyHttp) -> Vec<ComfyError> {
    vec![
        comfy.information().await.map(drop).unwrap_err(),
        comfy
            .submit(submission(&quick_graph("x"), "c"))
            .await
            .map(drop)
            .unwrap_err(),
        comfy.prompt_state("x").await.map(drop).unwrap_err(),
        comfy.lora_catalogue().await.map(drop).unwrap_err(),
        comfy.connect_events().await.map(drop).unwrap_err(),
    ]
}

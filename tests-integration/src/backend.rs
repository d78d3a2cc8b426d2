//! A simulated ComfyUI that any number of tests may share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use atelier_comfyui_sim::{FaultsHandle, Simulator, SimulatorOptions};
use atelier_testkit::{PATIENCE, wait_until};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::scratch;

/// A simulator on a thread of its own: tests on different runtimes may share it.
#[derive(Debug)]
pub struct Backend {
    /// Where it keeps models and pictures.
    pub folder: PathBuf,
    /// Its LoRA folder.
    pub loras: PathBuf,
    simulator: Arc<Simulator>,
    runtime: Option<Runtime>,
}

impl Backend {
    /// Starts the current version, without faults and without delays.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one that is told something else.
    pub async fn start_with(change: impl FnOnce(&mut SimulatorOptions)) -> Self {
        let folder = scratch::folder("comfyui");
        let mut options = SimulatorOptions {
            control: true,
            ..SimulatorOptions::in_dir(&folder)
        };
        change(&mut options);
        let loras = options.loras_dir();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("comfyui-sim")
            .enable_all()
            .build()
            .expect("there are threads");
        let simulator = runtime
            .spawn(Simulator::start(options))
            .await
            .expect("the start does not panic")
            .expect("there is a free port");
        Self {
            folder,
            loras,
            simulator: Arc::new(simulator),
            runtime: Some(runtime),
        }
    }

    /// Where it is, such as `http://127.0.0.1:41234`.
    pub fn url(&self) -> String {
        self.simulator.url()
    }

    /// What goes wrong with it.
    pub fn faults(&self) -> FaultsHandle {
        self.simulator.faults()
    }

    /// How often a prompt began to run, over all restarts.
    pub fn executions(&self, prompt_id: &str) -> u32 {
        self.simulator.executions(prompt_id)
    }

    /// How often a prompt was taken in, over all restarts.
    pub fn submissions(&self, prompt_id: &str) -> u32 {
        self.simulator.submissions(prompt_id)
    }

    /// How many prompts were ever taken in.
    pub async fn prompts(&self) -> usize {
        let executions = self.ask(|client, url| client.get(format!("{url}/sim/executions")));
        executions.await.as_object().expect("an object").len()
    }

    /// Restarts it: everything but its files is lost.
    pub async fn restart(&self) {
        let simulator = Arc::clone(&self.simulator);
        self.runtime
            .as_ref()
            .expect("it is there until it is dropped")
            .spawn(async move { simulator.restart().await })
            .await
            .expect("the restart does not panic")
            .expect("the port is still ours");
    }

    /// Begins a restart and comes back as soon as nobody listens any more; the backend is away for
    /// as long as its options say.
    pub async fn go_away(&self) {
        let simulator = Arc::clone(&self.simulator);
        self.runtime
            .as_ref()
            .expect("it is there until it is dropped")
            .spawn(async move { simulator.restart().await });
        let address = self.simulator.local_addr();
        wait_until("the port to be closed", PATIENCE, async || {
            TcpStream::connect(address).await.is_err()
        })
        .await;
    }

    /// Whether it has nothing to do.
    pub async fn is_idle(&self) -> bool {
        let queue = self
            .ask(|client, url| client.get(format!("{url}/queue")))
            .await;
        ["queue_running", "queue_pending"]
            .iter()
            .all(|list| queue[list] == json!([]))
    }

    /// Keeps it busy with somebody else's prompt, which samples for so many steps.
    pub async fn occupy(&self, steps: u32) -> Occupation<'_> {
        let mut graph = crate::workflows::without_lora();
        graph["3"]["inputs"]["steps"] = json!(steps);
        graph["9"]["inputs"]["filename_prefix"] = json!("somebody-else");
        let prompt = json!({"prompt": graph});
        let answer = self
            .ask(|client, url| client.post(format!("{url}/prompt")).json(&prompt))
            .await;
        Occupation {
            backend: self,
            prompt_id: answer["prompt_id"].as_str().expect("an id").to_owned(),
        }
    }

    async fn ask(
        &self,
        request: impl FnOnce(&reqwest::Client, String) -> reqwest::RequestBuilder,
    ) -> Value {
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .expect("a client without TLS settings");
        let response = request(&client, self.url())
            .send()
            .await
            .expect("it answers");
        assert!(response.status().is_success(), "{response:?}");
        let body = response.bytes().await.expect("a whole body");
        serde_json::from_slice(&body).unwrap_or_default()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::ZERO);
        }
    }
}

/// Somebody else's prompt, on the backend until it ends or is interrupted.
#[derive(Debug)]
pub struct Occupation<'a> {
    backend: &'a Backend,
    prompt_id: String,
}

impl Occupation<'_> {
    /// Whether the prompt is the one that is being executed.
    pub async fn is_running(&self) -> bool {
        let queue = self
            .backend
            .ask(|client, url| client.get(format!("{url}/queue")))
            .await;
        queue["queue_running"][0][1] == self.prompt_id
    }

    /// Takes the prompt off the backend.
    pub async fn end(self) {
        let prompt = json!({"prompt_id": self.prompt_id});
        self.backend
            .ask(|client, url| client.post(format!("{url}/interrupt")).json(&prompt))
            .await;
    }
}

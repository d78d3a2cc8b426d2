//! A simulator in a temporary folder, an HTTP client, and a WebSocket that remembers its frames.

mod graphs;
mod socket;

use std::path::Path;
use std::time::Duration;

use atelier_comfyui_sim::{Simulator, SimulatorOptions};
use reqwest::{Client, Method, Response, StatusCode, redirect};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use graphs::{empty_to_save, long, lora_file, with_lora, without_lora};
pub(crate) use socket::{Frame, Socket};

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running simulator and a client for it.
pub(crate) struct Server {
    pub(crate) simulator: Simulator,
    pub(crate) folder: TempDir,
    pub(crate) http: Client,
}

impl Server {
    /// The current version without faults.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut SimulatorOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = SimulatorOptions::in_dir(folder.path());
        change(&mut options);
        let simulator = Simulator::start(options).await.unwrap();
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            simulator,
            folder,
            http,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.url())
    }

    pub(crate) fn path(&self, relative: &str) -> std::path::PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let mut request = self.http.request(method, self.url(path));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        request.send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let response = self.send(Method::GET, path, None).await;
        let text = response.text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"))
    }

    /// Posts a command; the answer is expected to be an empty 200.
    pub(crate) async fn command(&self, path: &str, body: &Value) {
        let response = self.send(Method::POST, path, Some(body)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.text().await.unwrap(), "", "{path}");
    }

    /// Posts a prompt body; status and answer.
    pub(crate) async fn post_prompt(&self, body: &Value) -> (StatusCode, Value) {
        let response = self.send(Method::POST, "/prompt", Some(body)).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        (
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        )
    }

    /// Submits a prompt that has to be accepted; its id.
    pub(crate) async fn submit(&self, prompt: &Value, client_id: Option<&str>) -> String {
        let mut body = json!({"prompt": prompt});
        if let Some(client_id) = client_id {
            body["client_id"] = json!(client_id);
        }
        let (status, answer) = self.post_prompt(&body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["prompt_id"].as_str().unwrap().to_owned()
    }

    /// Polls the history until the prompt is in it.
    pub(crate) async fn finished(&self, prompt_id: &str) -> Value {
        let poll = async {
            loop {
                let mut history = self.get(&format!("/history/{prompt_id}")).await;
                if let Some(entry) = history.get_mut(prompt_id) {
                    return entry.take();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, poll)
            .await
            .unwrap_or_else(|_| panic!("{prompt_id} did not finish"))
    }

    /// Runs a prompt to its end; its history entry.
    pub(crate) async fn run(&self, prompt: &Value) -> Value {
        let prompt_id = self.submit(prompt, None).await;
        self.finished(&prompt_id).await
    }

    /// The bytes of the first picture of an output node.
    pub(crate) fn picture(&self, entry: &Value, node_id: &str) -> Vec<u8> {
        let image = &entry["outputs"][node_id]["images"][0];
        let relative = Path::new(
            image["type"]
                .as_str()
                .unwrap_or_else(|| panic!("no picture in {entry}")),
        )
        .join(image["subfolder"].as_str().unwrap())
        .join(image["filename"].as_str().unwrap());
        std::fs::read(self.folder.path().join(relative)).unwrap()
    }

    /// The pixels of the first picture of an output node.
    pub(crate) fn pixels(&self, entry: &Value, node_id: &str) -> Vec<u8> {
        decode(&self.picture(entry, node_id)).0
    }

    /// Waits until nothing runs and nothing waits.
    pub(crate) async fn idle(&self) {
        let empty = async || self.get("/prompt").await["exec_info"]["queue_remaining"] == 0;
        eventually("the queue is empty", empty).await;
    }

    /// Waits until this prompt is the running one.
    pub(crate) async fn running(&self, prompt_id: &str) {
        eventually("the prompt runs", async || {
            self.get("/queue").await["queue_running"][0][1] == prompt_id
        })
        .await;
    }

    /// The names in the LoRA folder.
    pub(crate) async fn loras(&self) -> Vec<String> {
        serde_json::from_value(self.get("/models/loras").await).unwrap()
    }

    /// Writes a file below the LoRA folder, making its directory.
    pub(crate) fn write_lora(&self, name: &str, content: &[u8]) {
        let path = self.path("models/loras").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) async fn connect(&self, client_id: &str) -> Socket {
        Socket::open(&self.simulator.url(), client_id).await
    }
}

/// Pixels and `tEXt` chunks of a PNG file.
pub(crate) fn decode(file: &[u8]) -> (Vec<u8>, Vec<(String, String)>) {
    let mut reader = png::Decoder::new(std::io::Cursor::new(file))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    let texts = &reader.info().uncompressed_latin1_text;
    (
        pixels,
        texts
            .iter()
            .map(|chunk| (chunk.keyword.clone(), chunk.text.clone()))
            .collect(),
    )
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, poll)
        .await
        .unwrap_or_else(|_| panic!("it did not happen that {what}"));
}

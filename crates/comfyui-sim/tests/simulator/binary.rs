//! The program: started, steered from outside, and stopped.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{empty_to_save, eventually};

/// A running program; killed at the end.
struct Program {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_comfyui-sim"))
            .args(["--listen", "127.0.0.1:0", "--base-dir"])
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap_or_else(|| panic!("{line}"))
            .to_owned();
        Self {
            child,
            url,
            _folder: folder,
        }
    }

    async fn get(&self, path: &str) -> Value {
        let text = reqwest::get(format!("{}{path}", self.url))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        serde_json::from_str(&text).unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> reqwest::Response {
        reqwest::Client::builder()
            .build()
            .unwrap()
            .post(format!("{}{path}", self.url))
            .body(body.to_string())
            .send()
            .await
            .unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already, which is what the caller wants.
        if self.child.kill().is_ok() {
            self.child.wait().unwrap();
        }
    }
}

#[tokio::test]
async fn it_runs_prompts_and_is_steered_over_http() {
    let program = Program::start(&[
        "--control",
        "--version",
        "0.3.64",
        "--checkpoint",
        "a.safetensors",
        "--checkpoint",
        "b.safetensors",
    ]);
    assert_eq!(
        program.get("/system_stats").await["system"]["comfyui_version"],
        "0.3.64"
    );
    assert_eq!(
        program.get("/models/checkpoints").await,
        json!(["a.safetensors", "b.safetensors"])
    );
    let accepted = program
        .post(
            "/prompt",
            &json!({"prompt": empty_to_save(1, "a"), "prompt_id": "job-1"}),
        )
        .await;
    assert_eq!(accepted.status().as_u16(), 200);
    eventually("it is executed", async || {
        program.get("/sim/executions").await["job-1"]["executions"] == 1
    })
    .await;
    program
        .post("/sim/faults", &json!({"fail_percent": 100}))
        .await;
    assert_eq!(
        program.post("/prompt", &json!({})).await.status().as_u16(),
        500
    );
}

#[tokio::test]
async fn faults_and_credentials_come_from_the_command_line() {
    let program = Program::start(&[
        "--user",
        "ada",
        "--password",
        "x",
        "--fault",
        "redirect-front",
        "--fault",
        "late-history=5",
    ]);
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    let get = || client.get(format!("{}/prompt", program.url));
    assert_eq!(get().send().await.unwrap().status().as_u16(), 302);
    assert_eq!(
        get()
            .basic_auth("ada", Some("x"))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16(),
        200
    );
}

#[tokio::test]
async fn an_interrupt_signal_ends_it() {
    let mut program = Program::start(&[]);
    let status = Command::new("kill")
        .args(["-INT", &program.child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    eventually("the program has ended", async || {
        program.child.try_wait().unwrap().is_some()
    })
    .await;
    assert!(program.child.try_wait().unwrap().unwrap().success());
}

#[test]
fn nonsense_is_refused_with_an_explanation() {
    for (arguments, expected) in [
        (["--fault", "flood"], "there is no fault"),
        (["--fault", "slow"], "needs a number"),
        (["--version", "9.9.9"], "0.33.0 and 0.3.64"),
        (["--listen", "nowhere"], "no address to listen on"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_comfyui-sim"))
            .current_dir(folder.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(!output.status.success());
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains(expected), "{complaint}");
    }
}

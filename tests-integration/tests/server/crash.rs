//! Workers that are killed, in every phase of a run: it ends completed all the same, and once.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::process::Process;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{with_lora, without_models};
use serde_json::{Value, json};

use crate::house::ATELIER;

/// How long a run may take to reach a phase, or a lease to be taken over.
const PATIENCE: Duration = Duration::from_mins(1);

/// The attempt that goes on with a run which was handed over.
const HANDED_OVER: u32 = 1;

const STYLE: &str = "style.safetensors";

/// A server that only serves, and workers that come and go.
struct Scene {
    site: Site,
    client: Client,
    _server: Server,
}

impl Scene {
    async fn new() -> Self {
        let backend =
            Backend::start_with(|options| options.step_delay = Duration::from_millis(100)).await;
        let site = Site::with_backend(ATELIER, backend).await.on_s3();
        let server = site.serve_without_worker();
        Self {
            client: server.client(),
            site,
            _server: server,
        }
    }

    /// Starts a worker; its claims end three seconds after its last sign of life.
    fn worker(&self) -> Process {
        self.site
            .setup()
            .with("ATELIER_LEASE_SECONDS", "3")
            .arguments(&["worker"])
            .spawn()
    }

    /// A workflow with a LoRA that no backend has yet.
    async fn workflow(&self) -> String {
        self.client.add_lora(STYLE, 1).await;
        self.client.create_workflow(&with_lora(STYLE), false).await
    }

    /// Starts a run that samples for so many tenths of a second.
    async fn start_run(&self, workflow: &str, tenths: u32) -> String {
        self.client
            .start_run(workflow, &json!({"steps": tenths}))
            .await
    }

    async fn until_phase(&self, run: &str, phase: &str) {
        let mut last = Value::Null;
        wait_until(phase, PATIENCE, async || {
            last = self.client.get(&format!("/runs/{run}")).await.expect(200);
            assert!(
                ["pending", "running"].contains(&last["status"].as_str().expect("a status")),
                "the run is over: {last}"
            );
            last["phase"] == phase
        })
        .await;
    }

    /// The run has ended well, in this attempt, and nothing of it happened twice.
    async fn assert_completed_once(&self, run: &str, attempt: u32) {
        let over = self.client.finished_run(run).await;
        assert_eq!(over["status"], "completed", "{over}");
        assert_eq!(over["attempt"], attempt, "{over}");
        assert_eq!(over["outputs"].as_array().map(Vec::len), Some(1), "{over}");
        assert!(!self.client.output(&over, 0).await.is_empty());
        let prompt = over["comfyui_prompt_id"].as_str().expect("an id");
        assert_eq!(self.site.backend.executions(prompt), 1);
        let count = async |sql: &str| self.site.database.count(&sql.replace("RUN", run)).await;
        let completions = "select count(*) from comfyui_run_events where run_id = 'RUN' \
                           and kind = 'status' and data->>'status' = 'completed'";
        assert_eq!(count(completions).await, 1);
        let claimed = "select count(*) from comfyui_workflow_runs where id = 'RUN' \
                       and (claim_token is not null or lease_until is not null)";
        assert_eq!(count(claimed).await, 0);
        let outputs = "select count(*) from comfyui_run_outputs where run_id = 'RUN'";
        assert_eq!(count(outputs).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_outlives_the_server_that_took_it() {
    let site = Site::new(ATELIER).await;
    let mut first = site.serve_without_worker();
    let client = first.client();
    let workflow = client.create_workflow(&without_models(1), false).await;
    let run = client.start_run(&workflow, &json!({})).await;

    first.process.kill();
    let second = site.serve();

    let client = Client::new(&second.url, Some(client.person().clone()));
    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "completed", "{over}");
    assert_eq!(over["attempt"], 1, "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_while_it_copies_a_lora() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    scene.site.s3_gate().hold_gets(true);
    let mut worker = scene.worker();
    let run = scene.start_run(&workflow, 1).await;
    scene.until_phase(&run, "syncing_loras").await;

    worker.kill();
    scene.site.s3_gate().hold_gets(false);
    let _next = scene.worker();

    scene.assert_completed_once(&run, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_while_it_submits() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    scene.site.s3_gate().hold_gets(true);
    let mut worker = scene.worker();
    let run = scene.start_run(&workflow, 1).await;
    scene.until_phase(&run, "syncing_loras").await;
    // From here on ComfyUI takes very long to answer.
    let faults = scene.site.backend.faults();
    faults.change(|faults| faults.delay_answers_ms = 600_000);
    scene.site.s3_gate().hold_gets(false);
    scene.until_phase(&run, "submitting").await;

    worker.kill();
    faults.clear();
    let _next = scene.worker();

    scene.assert_completed_once(&run, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_after_its_submission_was_taken() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    let mut worker = scene.worker();
    // The prompt is taken in, but nobody learns of it.
    let faults = scene.site.backend.faults();
    faults.change(|faults| faults.lose_prompt_answers = 1);
    let run = scene.start_run(&workflow, 1).await;
    wait_until("the prompt to be taken in", PATIENCE, async || {
        scene.site.backend.submissions(&run) == 1
    })
    .await;

    worker.kill();
    let _next = scene.worker();

    scene.assert_completed_once(&run, 2).await;
    assert_eq!(scene.site.backend.submissions(&run), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_while_its_run_waits_in_the_queue() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    let occupation = scene.site.backend.occupy(10_000).await;
    let mut worker = scene.worker();
    let run = scene.start_run(&workflow, 1).await;
    scene.until_phase(&run, "queued").await;

    worker.kill();
    occupation.end().await;
    let _next = scene.worker();

    scene.assert_completed_once(&run, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_while_its_run_is_executed() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    let mut worker = scene.worker();
    let run = scene.start_run(&workflow, 100).await;
    scene.until_phase(&run, "executing").await;

    worker.kill();
    let _next = scene.worker();

    scene.assert_completed_once(&run, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_while_it_stores_the_outputs() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    scene.site.s3_gate().hold_puts(true);
    let mut worker = scene.worker();
    let run = scene.start_run(&workflow, 1).await;
    scene.until_phase(&run, "storing_outputs").await;

    worker.kill();
    scene.site.s3_gate().hold_puts(false);
    let _next = scene.worker();

    scene.assert_completed_once(&run, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_may_be_killed_with_the_worker_in_it() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    let setup = scene.site.setup().with("ATELIER_LEASE_SECONDS", "3");
    let mut first = setup.start();
    let run = scene.start_run(&workflow, 20).await;
    scene.until_phase(&run, "executing").await;

    first.process.kill();
    let _second = setup.start();

    scene.assert_completed_once(&run, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_stop_hands_its_run_over() {
    let scene = Scene::new().await;
    let workflow = scene.workflow().await;
    // With a lease that is much longer than this test may take.
    let setup = scene
        .site
        .setup()
        .with("ATELIER_LEASE_SECONDS", "3600")
        .arguments(&["worker"]);
    let mut worker = setup.spawn();
    let run = scene.start_run(&workflow, 50).await;
    scene.until_phase(&run, "executing").await;

    let status = worker.terminate(PATIENCE);
    let _next = setup.spawn();

    assert!(status.success(), "{status}");
    scene.assert_completed_once(&run, HANDED_OVER).await;
}

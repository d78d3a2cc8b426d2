//! LoRAs that their owners delete: gone for new runs at once, there for old ones to their end,
//! then nowhere.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::process::Process;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::objects_of;
use atelier_tests_integration::workflows::with_lora;
use reqwest::Method;
use serde_json::json;

use crate::ATELIER;
use crate::contents::{assert_is, names_in, weights};
use crate::workshop::PATIENCE;

const STYLE: &str = "style.safetensors";

/// Two backends, each with a worker of its own that knows no other.
struct Pair {
    server: Server,
    workers: [Process; 2],
    site: Site,
    other: Backend,
}

impl Pair {
    async fn new() -> Self {
        let slow = async || {
            Backend::start_with(|options| options.step_delay = Duration::from_millis(50)).await
        };
        let site = Site::with_backend(ATELIER, slow().await).await;
        let other = slow().await;
        let setup = site.setup().with("ATELIER_LEASE_SECONDS", "3");
        let server = setup
            .clone()
            .arguments(&["serve", "--no-worker"])
            .with_backends(&[("one", &site.backend), ("two", &other)]);
        let worker = setup.arguments(&["worker"]);
        let workers = [("one", &site.backend), ("two", &other)]
            .map(|backend| worker.clone().with_backends(&[backend]).spawn());
        Self {
            server: server.start(),
            workers,
            site,
            other,
        }
    }

    fn backends(&self) -> [&Backend; 2] {
        [&self.site.backend, &self.other]
    }
}

/// Somebody's LoRA that is on both backends.
struct Everywhere {
    client: Client,
    file: LoraFile,
    /// Below a backend's LoRA folder.
    path: String,
    /// Below the API.
    address: String,
}

impl Pair {
    async fn with_lora_everywhere(&self) -> Everywhere {
        let client = self.server.client();
        let file = weights(100_000, 1);
        let lora = client.upload_lora(STYLE, file.bytes.clone()).await;
        let lora = lora.expect(201);
        let path = lora["comfyui_path"].as_str().expect("a path").to_owned();
        let address = format!("/loras/{}", id_of(&lora));
        wait_until("a copy on both", PATIENCE, async || {
            let request = client.request(Method::POST, &format!("{address}/prefetch"));
            client.send(request).await.expect(202);
            let mut backends = self.backends().into_iter();
            backends.all(|backend| backend.loras.join(&path).exists())
        })
        .await;
        Everywhere {
            client,
            file,
            path,
            address,
        }
    }

    /// Row and object of the only LoRA are gone.
    async fn has_forgotten(&self, client: &Client) -> bool {
        let rows = "select count(*) from comfyui_lora_models";
        let keys = objects_of(&self.site, client.person());
        let has_object = keys.iter().any(|key| key.starts_with("loras/"));
        !has_object && self.site.database.count(rows).await == 0
    }

    /// Waits until both workers have looked for what may go, some times.
    async fn until_tidied(&self) {
        let deleted = "select count(*) from comfyui_lora_models \
                       where deleted_at < now() - interval '3 s'";
        wait_until("some cleaning", PATIENCE, async || {
            self.site.database.count(deleted).await == 1
        })
        .await;
    }
}

/// Starts a run that waits on a backend.
async fn queued_run(client: &Client, workflow: &str) -> String {
    let run = client.start_run(workflow, &json!({})).await;
    wait_until("the run to wait on a backend", PATIENCE, async || {
        let run = client.get(&format!("/runs/{run}")).await.expect(200);
        run["phase"] == "queued"
    })
    .await;
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lora_outlives_the_runs_that_need_it_and_then_goes_everywhere() {
    let pair = Pair::new().await;
    let lora = pair.with_lora_everywhere().await;
    let client = &lora.client;
    let [one, two] = pair.backends();
    let occupations = [one.occupy(10_000).await, two.occupy(10_000).await];
    let workflow = client.create_workflow(&with_lora(STYLE), false).await;
    let run = queued_run(client, &workflow).await;

    client.delete(&lora.address).await.expect(204);

    let gone = client.get(&lora.address).await;
    gone.expect_problem(404, "lora-not-found");
    let again = format!("/workflows/{workflow}/run");
    let again = client.post(&again, &json!({})).await;
    again.expect_problem(422, "validation");
    pair.until_tidied().await;
    let mut backends = pair.backends().into_iter();
    let holder = backends.find(|backend| backend.submissions(&run) == 1);
    let copy = holder
        .expect("a backend has the run")
        .loras
        .join(&lora.path);
    assert_is(&copy, &lora.file);
    let keys = objects_of(&pair.site, client.person());
    assert_eq!(keys, [format!("loras/{STYLE}")]);
    for occupation in occupations {
        occupation.end().await;
    }
    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "completed", "{over}");
    wait_until("row, object and copies to be gone", PATIENCE, async || {
        let mut backends = pair.backends().into_iter();
        backends.all(|backend| names_in(&backend.loras).is_empty())
            && pair.has_forgotten(client).await
    })
    .await;
    // Nothing was taken from the run itself.
    assert!(!client.output(&over, 0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_though_their_worker_was_away_when_the_lora_was_deleted() {
    let mut pair = Pair::new().await;
    let lora = pair.with_lora_everywhere().await;
    pair.workers[1].kill();

    lora.client.delete(&lora.address).await.expect(204);

    wait_until("all but one copy to be gone", PATIENCE, async || {
        names_in(&pair.site.backend.loras).is_empty() && pair.has_forgotten(&lora.client).await
    })
    .await;
    assert_is(&pair.other.loras.join(&lora.path), &lora.file);
    let setup = pair.site.setup().arguments(&["worker"]);
    let _back = setup.with_backends(&[("two", &pair.other)]).spawn();
    wait_until("the other copy to be gone", PATIENCE, async || {
        names_in(&pair.other.loras).is_empty()
    })
    .await;
}

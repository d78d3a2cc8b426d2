//! LoRAs that their owners delete: gone for new runs at once, there for old ones to their end,
//! then nowhere.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::id_of;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_lora_outlives_the_runs_that_need_it_and_then_goes_everywhere() {
    let pair = Pair::new().await;
    let client = pair.server.client();
    let file = weights(100_000, 1);
    let lora = client
        .upload_lora(STYLE, file.bytes.clone())
        .await
        .expect(201);
    let path = lora["comfyui_path"].as_str().expect("a path").to_owned();
    let address = format!("/loras/{}", id_of(&lora));
    wait_until("a copy on both", PATIENCE, async || {
        let request = client.request(Method::POST, &format!("{address}/prefetch"));
        client.send(request).await.expect(202);
        let backends = pair.backends();
        backends
            .iter()
            .all(|backend| backend.loras.join(&path).exists())
    })
    .await;
    let [one, two] = pair.backends();
    let occupations = [one.occupy(10_000).await, two.occupy(10_000).await];
    let workflow = client.create_workflow(&with_lora(STYLE), false).await;
    let run = client.start_run(&workflow, &json!({})).await;
    wait_until("the run to wait on a backend", PATIENCE, async || {
        let run = client.get(&format!("/runs/{run}")).await.expect(200);
        run["phase"] == "queued"
    })
    .await;

    client.delete(&address).await.expect(204);

    client
        .get(&address)
        .await
        .expect_problem(404, "lora-not-found");
    let again = format!("/workflows/{workflow}/run");
    let again = client.post(&again, &json!({})).await;
    again.expect_problem(422, "validation");
    // Both tidy up twice at least before the run goes on.
    let tidied =
        "select count(*) from comfyui_lora_models where deleted_at < now() - interval '3 s'";
    wait_until("some cleaning", PATIENCE, async || {
        pair.site.database.count(tidied).await == 1
    })
    .await;
    let backends = pair.backends();
    let holds = backends
        .iter()
        .filter(|backend| backend.submissions(&run) == 1);
    let holds: Vec<_> = holds.collect();
    assert_eq!(holds.len(), 1);
    assert_is(&holds[0].loras.join(&path), &file);
    assert_eq!(
        objects_of(&pair.site, client.person()),
        [format!("loras/{STYLE}")]
    );
    for occupation in occupations {
        occupation.end().await;
    }
    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "completed", "{over}");
    wait_until("row, object and copies to be gone", PATIENCE, async || {
        let rows = "select count(*) from comfyui_lora_models";
        let keys = objects_of(&pair.site, client.person());
        pair.site.database.count(rows).await == 0
            && !keys.iter().any(|key| key.starts_with("loras/"))
            && backends
                .iter()
                .all(|backend| names_in(&backend.loras).is_empty())
    })
    .await;
    // Nothing was taken from the run itself.
    assert!(!client.output(&over, 0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_though_their_worker_was_away_when_the_lora_was_deleted() {
    let mut pair = Pair::new().await;
    let client = pair.server.client();
    let file = weights(100_000, 1);
    let lora = client
        .upload_lora(STYLE, file.bytes.clone())
        .await
        .expect(201);
    let path = lora["comfyui_path"].as_str().expect("a path").to_owned();
    let address = format!("/loras/{}", id_of(&lora));
    wait_until("a copy on both", PATIENCE, async || {
        let request = client.request(Method::POST, &format!("{address}/prefetch"));
        client.send(request).await.expect(202);
        let backends = pair.backends();
        backends
            .iter()
            .all(|backend| backend.loras.join(&path).exists())
    })
    .await;
    pair.workers[1].kill();

    client.delete(&address).await.expect(204);

    wait_until(
        "row, object and one copy to be gone",
        PATIENCE,
        async || {
            let rows = "select count(*) from comfyui_lora_models";
            pair.site.database.count(rows).await == 0
                && objects_of(&pair.site, client.person()).is_empty()
                && names_in(&pair.site.backend.loras).is_empty()
        },
    )
    .await;
    assert_is(&pair.other.loras.join(&path), &file);
    let setup = pair.site.setup().arguments(&["worker"]);
    let _back = setup.with_backends(&[("two", &pair.other)]).spawn();
    wait_until("the other copy to be gone", PATIENCE, async || {
        names_in(&pair.other.loras).is_empty()
    })
    .await;
}

//! LoRAs that come from Google Drive, whatever happens on their way.

use std::time::Duration;

use atelier_testkit::drive_double::{DriveFile, Endpoint, Fault};
use atelier_testkit::wait_until;
use atelier_tests_integration::client::id_of;
use atelier_tests_integration::imports::{
    self, DriveSite, begin, content, import, import_of, lora_when, new_id,
};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::traces::objects_of;
use atelier_tests_integration::workflows::with_lora;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::house::ATELIER;

const STYLE: &str = "style.safetensors";

/// Cleaning happens every second here.
const CLEANING: Duration = Duration::from_secs(30);

pub(crate) fn link(id: &str) -> String {
    format!("https://drive.google.com/file/d/{id}/view?usp=sharing")
}

/// A server that reaches a Drive on which nothing ever goes wrong.
pub(crate) struct Quiet {
    pub(crate) at: DriveSite,
    pub(crate) server: Server,
}

pub(crate) async fn quiet() -> &'static Quiet {
    static QUIET: OnceCell<Quiet> = OnceCell::const_new();
    QUIET
        .get_or_init(|| async {
            let at = DriveSite::new(ATELIER).await;
            let server = at.setup().start();
            Quiet { at, server }
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_share_link_names_is_imported_and_runs() {
    let Quiet { at, server } = quiet().await;
    let client = server.client();
    let file = LoraFile::small(1);
    let id = at.put(STYLE, &file);

    let answer = import(
        &client,
        &json!({"google_drive_file_id": link(&id), "name": "A style", "description": "For houses",
                "tags": ["one"]}),
    )
    .await;

    let location = answer.header("location").to_owned();
    let begun = answer.expect(202);
    assert_eq!(begun["status"], "importing", "{begun}");
    assert_eq!(location, format!("/api/v1/comfyui/loras/{}", id_of(&begun)));
    assert_eq!(
        begun["source"],
        json!({"kind": "google_drive", "google_drive_file_id": id})
    );
    let lora = imports::ready(&client, &id_of(&begun)).await;
    file.assert_is(&lora);
    assert_eq!(lora["filename"], STYLE);
    assert_eq!(lora["name"], "A style");
    assert_eq!(lora["description"], "For houses");
    assert_eq!(lora["tags"], json!(["one"]));
    assert_eq!(lora["source"], begun["source"]);
    let run = client.run_to_the_end(&with_lora(STYLE)).await;
    assert_eq!(run["status"], "completed", "{run}");
    let copy = at
        .site
        .backend
        .loras
        .join(format!("user-{}/{STYLE}", client.person().id));
    assert_eq!(std::fs::read(copy).expect("it is there"), file.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_name_a_file_finds_it() {
    let Quiet { at, server } = quiet().await;
    let file = LoraFile::small(1);
    // What it is called there is a title, without an extension.
    let id = at.put("My Style v2", &file);
    let shortcut = new_id();
    at.drive.put(DriveFile::shortcut(&shortcut, &id));
    let old = new_id();
    at.drive.put(DriveFile {
        resource_key: Some("0-key".to_owned()),
        ..DriveFile::blob(&old, STYLE, content(&file))
    });
    let shared_drive = new_id();
    at.drive.put(DriveFile {
        drive_id: Some("0ADrive".to_owned()),
        ..DriveFile::blob(&shared_drive, STYLE, content(&file))
    });
    for (reference, source, filename) in [
        (id.clone(), &id, "My Style v2.safetensors"),
        (
            format!("https://drive.google.com/open?id={id}"),
            &id,
            "My Style v2.safetensors",
        ),
        (link(&shortcut), &id, "My Style v2.safetensors"),
        (
            format!("https://drive.google.com/file/d/{old}/view?resourcekey=0-key"),
            &old,
            STYLE,
        ),
        (link(&shared_drive), &shared_drive, STYLE),
    ] {
        let client = server.client();

        let begun = import_of(&client, &reference).await.expect(202);

        assert_eq!(begun["filename"], filename, "{reference}");
        assert_eq!(begun["source"]["google_drive_file_id"], json!(source));
        let lora = imports::ready(&client, &id_of(&begun)).await;
        file.assert_is(&lora);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_in_bytes_and_a_deleted_import_ends() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().start();
    let client = server.client();
    let file = LoraFile::of_size(3_000_000);
    let id = at.put(STYLE, &file);
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let lora = begin(&client, &id).await;
    let held_back = lora_when(&client, &lora, "a million bytes", |lora| {
        lora["progress"]["bytes_done"] == 1_000_000
    })
    .await;
    assert_eq!(held_back["status"], "importing");
    assert_eq!(held_back["progress"]["bytes_total"], file.bytes.len());
    assert_eq!(held_back["file_size"], Value::Null);

    client.delete(&format!("/loras/{lora}")).await.expect(204);

    client
        .get(&format!("/loras/{lora}"))
        .await
        .expect_problem(404, "lora-not-found");
    let transfers = "select count(*) from comfyui_lora_transfers";
    wait_until("the transfer to be gone", CLEANING, async || {
        at.site.database.count(transfers).await == 0
    })
    .await;
    wait_until("every object to be gone", CLEANING, async || {
        objects_of(&at.site, client.person()).is_empty()
    })
    .await;
    let downloads = at.drive.count(Endpoint::Download);
    // Its name is free, and the same file comes whole.
    let again = begin(&client, &id).await;
    let again = imports::ready(&client, &again).await;
    file.assert_is(&again);
    assert_eq!(again["filename"], STYLE);
    assert_eq!(at.drive.count(Endpoint::Download), downloads + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_refusals_and_old_tokens_on_the_way_delay_an_import_only() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().start();
    let client = server.client();
    let file = LoraFile::of_size(500_000);
    let id = at.put(STYLE, &file);
    for fault in [
        Fault::CutAfter(100_000),
        Fault::api(429, "rateLimitExceeded").with_header("retry-after", "1"),
        Fault::CutAfter(100_000),
        Fault::api(401, "authError"),
        Fault::CutAfter(50_000),
        Fault::Reset,
        Fault::ShortBy(200_000),
        Fault::page(503),
        Fault::api(403, "userRateLimitExceeded"),
    ] {
        at.drive.fail_next(Endpoint::Download, fault);
    }

    let lora = begin(&client, &id).await;

    file.assert_is(&imports::ready(&client, &lora).await);
    // It went on where it was, and did not begin anew.
    let requests = at.drive.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|request| request.endpoint == Some(Endpoint::Download))
        .map(|request| request.range.clone())
        .collect();
    assert!(ranges.len() >= 9, "{ranges:?}");
    let begun_anew = ranges
        .iter()
        .skip(1)
        .filter(|range| range.as_deref().is_none_or(|range| range == "bytes=0-"));
    assert_eq!(begun_anew.count(), 0, "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_on_the_way_comes_as_it_is_then() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().start();
    let client = server.client();
    let (first, second) = (LoraFile::of_size(400_000), LoraFile::of_size(500_000));
    let id = at.put(STYLE, &first);
    at.drive.fail_next(
        Endpoint::Download,
        Fault::CutAndChange {
            after: 200_000,
            content: content(&second),
        },
    );

    let lora = begin(&client, &id).await;

    second.assert_is(&imports::ready(&client, &lora).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_outlives_a_worker_that_is_killed_in_the_middle_of_it() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().arguments(&["serve", "--no-worker"]).start();
    let client = server.client();
    let file = LoraFile::of_size(2_000_000);
    let id = at.put(STYLE, &file);
    let worker = at.setup().arguments(&["worker"]);
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let mut first = worker.spawn();
    let lora = begin(&client, &id).await;
    lora_when(&client, &lora, "a million bytes", |lora| {
        lora["progress"]["bytes_done"] == 1_000_000
    })
    .await;

    first.kill();
    let _second = worker.spawn();

    file.assert_is(&imports::ready(&client, &lora).await);
    assert_eq!(
        objects_of(&at.site, client.person()),
        [format!("loras/{STYLE}")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_in_good_order_gives_its_import_back() {
    let at = DriveSite::new(ATELIER).await;
    // With a lease that is longer than this test may take.
    let setup = at.setup().with("ATELIER_LEASE_SECONDS", "3600");
    let server = setup.clone().arguments(&["serve", "--no-worker"]).start();
    let client = server.client();
    let file = LoraFile::of_size(2_000_000);
    let id = at.put(STYLE, &file);
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let worker = setup.arguments(&["worker"]);
    let mut first = worker.spawn();
    let lora = begin(&client, &id).await;
    wait_until("a download", imports::PATIENCE, async || {
        at.drive.count(Endpoint::Download) == 1
    })
    .await;

    let status = first.terminate(Duration::from_secs(30));
    let _second = worker.spawn();

    assert!(status.success(), "{status}");
    file.assert_is(&imports::ready(&client, &lora).await);
}

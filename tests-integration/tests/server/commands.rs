//! The command line: what the program prints, and how it ends.

use std::process::{Command, Output};
use std::time::Duration;

use atelier_comfyui_sim::Front;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::people::{JWT_SECRET, Person};
use atelier_tests_integration::server::backends_file;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::without_models;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::house::{ATELIER, house};

const PATIENCE: Duration = Duration::from_secs(30);

fn atelier(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(ATELIER)
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_configuration_is_checked_whole_before_anything_starts() {
    let output = atelier(
        &["serve"],
        &[
            ("ATELIER_MAX_LORA_BYTES", "0"),
            ("ATELIER_LEASE_SECONDS", "1"),
            ("ATELIER_DATABASE_CONNECTIONS", "1"),
            ("COMFYUI_WEB_USER", "somebody"),
        ],
    );

    assert!(!output.status.success());
    let told = text(&output.stderr);
    for variable in [
        "ATELIER_MAX_LORA_BYTES",
        "ATELIER_LEASE_SECONDS",
        "ATELIER_DATABASE_CONNECTIONS",
        "BLOB_URL",
        "COMFYUI_WEB_PASSWORD",
        "DATABASE_URL",
        "SUPABASE_JWT_SECRET",
    ] {
        assert!(told.contains(variable), "{variable} is not told:\n{told}");
    }
}

#[test]
fn mistakes_are_told_without_the_secrets_in_them() {
    let output = atelier(
        &["serve"],
        &[
            ("DATABASE_URL", "mysql://root:hunter2@database/atelier"),
            ("BLOB_URL", "s3://key:hunter2@bucket"),
            ("COMFYUI_URL", "ftp://user:hunter2@comfyui"),
            ("SUPABASE_JWT_SECRET", "hunter2"),
        ],
    );

    assert!(!output.status.success());
    let told = text(&output.stderr) + &text(&output.stdout);
    assert!(told.contains("DATABASE_URL"), "{told}");
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn every_secret_may_be_in_a_file() {
    for (command, secrets) in [
        (
            "serve",
            &[
                "ATELIER_METRICS_TOKEN",
                "COMFYUI_WEB_PASSWORD",
                "COMFYUI_WEB_TOKEN",
                "DATABASE_URL",
                "GDOC_CLIENT",
                "GDOC_TOKEN",
                "GOOGLE_CLIENT_SECRET",
                "MINIO_ACCESS_KEY",
                "MINIO_SECRET_KEY",
                "SUPABASE_JWT_SECRET",
            ][..],
        ),
        ("migrate", &["ATELIER_APP_PASSWORD", "ATELIER_MIGRATE_URL"]),
    ] {
        let files: Vec<String> = secrets.iter().map(|name| format!("{name}_FILE")).collect();
        let store = ("BLOB_URL", "s3://atelier");
        let secrets = files.iter().map(|file| (file.as_str(), "/nowhere/secret"));
        let variables: Vec<(&str, &str)> = secrets.chain([store]).collect();

        let output = atelier(&[command], &variables);

        assert!(!output.status.success());
        let told = text(&output.stderr);
        for file in &files {
            let expected = format!("\n  {file}: `/nowhere/secret` cannot be read");
            assert!(told.contains(&expected), "{expected} is not told:\n{told}");
        }
    }
}

#[test]
fn a_file_of_backends_is_checked_with_all_else() {
    let file = backends_file(
        "[[backends]]\nname = \"gpu-1\"\nurl = \"http://gpu-1:hunter2@gpu\"\nloras_dir = \"/loras\"\n\
         [[backends]]\nname = \"gpu-1\"\nurl = \"http://gpu-2\"\nlora_dir = \"/loras\"\n\
         user = \"somebody\"\npassword_env = \"GPU_PASSWORD\"\ntoken = \"hunter2\"\n",
    );
    let name = file.display().to_string();

    let output = atelier(
        &["worker", "--config", &name],
        &[
            ("ATELIER_AFFINITY_SECONDS", "61"),
            ("GPU_PASSWORD", "hunter2"),
        ],
    );

    assert!(!output.status.success());
    let told = text(&output.stderr);
    for expected in [
        "ATELIER_AFFINITY_SECONDS: must be a number from 0 to 60".to_owned(),
        "BLOB_URL: is required".to_owned(),
        "DATABASE_URL: is required".to_owned(),
        format!("{name}: backends[0].url (line 3): must hold no user"),
        format!("{name}: backends[1].name (line 6): is the name of backends[0] too"),
        format!("{name}: backends[1].lora_dir (line 8): is not known"),
        format!("{name}: backends[1].loras_dir (line 5): is required"),
        format!("{name}: backends[1].token (line 11): cannot be used together with `user`"),
    ] {
        assert!(told.contains(&expected), "{expected} is not told:\n{told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn a_file_in_the_working_directory_is_found_and_does_not_win_over_variables() {
    let file = backends_file("[[backends]]\nname = \"gpu-1\"\npassword = hunter2\n");
    let folder = file.parent().expect("it is in a folder");

    let output = Command::new(ATELIER)
        .arg("worker")
        .current_dir(folder)
        .env_clear()
        .env("COMFYUI_URL", "http://comfyui:8188")
        .output()
        .expect("the program starts");

    assert!(!output.status.success());
    let told = text(&output.stderr);
    for expected in [
        "\n  COMFYUI_URL: cannot be used together with the file atelier.toml: drop one",
        "\n  atelier.toml: line 3: ",
    ] {
        assert!(told.contains(expected), "{expected} is not told:\n{told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_the_backends_of_a_file_and_uses_the_one_that_answers() {
    let site = Site::new(ATELIER).await;
    let other = Backend::start().await;
    site.backend
        .faults()
        .change(|faults| faults.front = Some(Front::Redirect));
    let setup = site
        .setup()
        .with_backends(&[("gpu-1", &site.backend), ("gpu-2", &other)]);
    let server = setup.clone().arguments(&["serve", "--no-worker"]).start();
    let _worker = setup.arguments(&["worker"]).spawn();
    let client = server.client();
    let workflow = client.create_workflow(&without_models(1), false).await;

    let run = client.start_run(&workflow, &json!({})).await;

    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "completed", "{over}");
    assert_eq!(over["backend"], "gpu-2", "{over}");
    assert_eq!(other.prompts().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_told() {
    let house = house().await;
    let taken = house.server.url.trim_start_matches("http://").to_owned();

    let mut process = house.site.setup().with("ATELIER_LISTEN", &taken).spawn();

    assert!(!process.wait(PATIENCE).success());
    let told = process.printed();
    assert!(
        told.contains(&taken) && told.contains("ATELIER_LISTEN"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_answers_who_waits_and_ends_well() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let client = server.client();
    site.backend
        .faults()
        .change(|faults| faults.delay_answers_ms = 120_000);
    let workflow = client.create_workflow(&without_models(1), false).await;
    let run = client.start_run(&workflow, &json!({})).await;
    let path = format!("/runs/{run}?wait=60");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.get(&path).await }
    });
    // The wait has begun when the request is on its way; a stop before that refuses it.
    let mut process = server.process;
    atelier_testkit::wait_until("a request that waits", PATIENCE, async || {
        client.get("/runs").await.status == 200
    })
    .await;

    let begun = std::time::Instant::now();
    let status = tokio::task::spawn_blocking(move || process.terminate(PATIENCE))
        .await
        .expect("it ends");

    assert!(status.success(), "{status}");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    let answer = waiting.await.expect("no panic").expect(200);
    assert!(["pending", "running"].contains(&answer["status"].as_str().expect("a status")));
    site.backend.faults().clear();
    let next = site.serve();
    let client = Client::new(&next.url, Some(client.person().clone()));
    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "completed", "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_token_signs_in() {
    let person = Uuid::from_u128(0x0195_0000_0000_7000_8000_0000_0000_00aa);
    let secret = [("SUPABASE_JWT_SECRET", JWT_SECRET)];

    let output = atelier(
        &["token", "--sub", &person.to_string(), "--ttl", "1m"],
        &secret,
    );

    assert!(output.status.success(), "{}", text(&output.stderr));
    let token = text(&output.stdout).trim().to_owned();
    let client = Client::new(
        &house().await.server.url,
        Some(Person { id: person, token }),
    );
    client.get("/workflows").await.expect(200);
    for arguments in [&["token"][..], &["token", "--sub", "somebody"]] {
        assert!(!atelier(arguments, &secret).status.success());
    }
    let without_secret = atelier(&["token", "--sub", &person.to_string()], &[]);
    assert!(!without_secret.status.success());
    assert!(text(&without_secret.stderr).contains("SUPABASE_JWT_SECRET"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_document_is_the_served_one() {
    let anonymous = house().await.server.anonymous();
    let served = anonymous
        .send(anonymous.at(reqwest::Method::GET, "/openapi.json"))
        .await
        .expect(200);

    let output = atelier(&["openapi"], &[]);

    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(printed, served);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_run_once_and_again() {
    let site = Site::new(ATELIER).await;

    let again = atelier(
        &["migrate"],
        &[("ATELIER_MIGRATE_URL", site.database.owner_url.as_str())],
    );

    assert!(again.status.success(), "{}", text(&again.stderr));
    let nowhere = atelier(
        &["migrate"],
        &[(
            "ATELIER_MIGRATE_URL",
            "postgres://nobody:hunter2@127.0.0.1:1/none",
        )],
    );
    assert!(!nowhere.status.success());
    assert!(!text(&nowhere.stderr).contains("hunter2"));
}

#[test]
fn help_names_the_variables() {
    let output = atelier(
        &["serve", "--help"],
        &[("DATABASE_URL", "postgres://u:hunter2@h/d")],
    );

    assert!(output.status.success());
    let help = text(&output.stdout);
    for variable in [
        "DATABASE_URL",
        "BLOB_URL",
        "ATELIER_CONFIG",
        "COMFYUI_URL",
        "SUPABASE_JWT_SECRET",
    ] {
        assert!(help.contains(variable), "{variable}");
    }
    assert!(!help.contains("hunter2"), "{help}");
}

//! `atelier local`: everything on this machine, with no configuration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::Client;
use atelier_tests_integration::people::Person;
use atelier_tests_integration::picture::Picture;
use atelier_tests_integration::process::{Process, is_running};
use atelier_tests_integration::scratch;
use atelier_tests_integration::server::{backends_file, backends_text};
use serde_json::Value;

use crate::house::ATELIER;

/// A new cluster takes a while to make, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// What would be taken from the environment of whoever runs the tests.
const VARIABLES: [&str; 9] = [
    "ATELIER_CONFIG",
    "BLOB_URL",
    "COMFYUI_LORAS_DIR",
    "COMFYUI_URL",
    "DATABASE_URL",
    "MINIO_ENDPOINT",
    "RUST_LOG",
    "SUPABASE_DB_URL",
    "SUPABASE_JWT_SECRET",
];

fn start(data_dir: &Path, arguments: &[&str]) -> Process {
    start_with(data_dir, arguments, &[])
}

fn start_with(data_dir: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new(ATELIER);
    // The rest of the environment says where Postgres is.
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
        .args(["local", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .envs(variables.iter().copied());
    Process::start(&mut command)
}

/// Runs the sample job; gives what was printed.
async fn smoke(data_dir: &Path, arguments: &[&str]) -> String {
    let (status, printed) = ended(start(data_dir, &[&["--smoke"], arguments].concat())).await;
    assert!(status.success(), "{status}; printed:\n{printed}");
    printed
}

/// Waits for the end of a process; gives how it ended and what it printed.
async fn ended(mut process: Process) -> (ExitStatus, String) {
    tokio::task::spawn_blocking(move || (process.wait(PATIENCE), process.printed()))
        .await
        .expect("no panic")
}

/// The picture whose path was printed.
fn picture(printed: &str) -> Value {
    let path = printed
        .lines()
        .find_map(|line| line.trim().strip_prefix("saved the picture "))
        .expect("the path is told");
    Picture::decode(&fs::read(path).expect("it is there")).prompt()
}

fn demo_user(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join("demo-user"))
        .expect("it is remembered")
        .trim()
        .to_owned()
}

fn postmaster_file(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres/data/postmaster.pid")
}

fn postmaster(data_dir: &Path) -> u32 {
    let text = fs::read_to_string(postmaster_file(data_dir)).expect("Postgres is running");
    text.lines()
        .next()
        .and_then(|line| line.parse().ok())
        .expect("it begins with the process id")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_job_ends_with_a_picture_and_the_next_start_keeps_everything() {
    let data_dir = scratch::folder("local").join("data");

    let first = smoke(&data_dir, &[]).await;

    let user = demo_user(&data_dir);
    let lora = picture(&first)["10"]["inputs"]["lora_name"].clone();
    assert_eq!(
        lora,
        format!("user-{user}/demo-sd15.safetensors"),
        "{first}"
    );
    for step in [
        "data directory",
        "database",
        "server",
        "uploaded",
        "started the run",
    ] {
        assert!(first.contains(step), "{step} is not told:\n{first}");
    }
    assert!(
        !postmaster_file(&data_dir).exists(),
        "Postgres was not stopped"
    );
    let secret = fs::read(data_dir.join("jwt-secret")).expect("it is remembered");

    let second = smoke(&data_dir, &[]).await;

    assert_eq!(demo_user(&data_dir), user);
    assert_eq!(
        fs::read(data_dir.join("jwt-secret")).expect("it is there"),
        secret
    );
    assert_eq!(picture(&second)["10"]["inputs"]["lora_name"], lora);
    let pictures = fs::read_dir(data_dir.join("pictures")).expect("they are there");
    assert_eq!(pictures.count(), 2);
    assert!(
        !postmaster_file(&data_dir).exists(),
        "Postgres was not stopped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_no_postgres_and_loses_nothing() {
    let data_dir = scratch::folder("local").join("data");
    let mut process = start(&data_dir, &[]);
    let token = process.wait_for_line(PATIENCE, |line| {
        Some(line.strip_prefix("export TOKEN=")?.to_owned())
    });
    let postgres = postmaster(&data_dir);
    assert!(is_running(postgres));

    process.kill();

    wait_until("Postgres to end", PATIENCE, async || !is_running(postgres)).await;
    let mut again = start(&data_dir, &[]);
    let url = again.wait_for_line(PATIENCE, |line| {
        let (_, rest) = line.split_once("Atelier is ready at ")?;
        rest.split(' ').next().map(str::to_owned)
    });
    let user = demo_user(&data_dir).parse().expect("a UUID");
    let client = Client::new(&url, Some(Person { id: user, token }));
    let workflows = client.get("/workflows?scope=own").await.expect(200);
    // The sample job is done once, on the empty directory.
    assert_eq!(
        workflows["items"].as_array().map(Vec::len),
        Some(1),
        "{workflows}"
    );
    let runs = client.get("/runs?status=completed").await.expect(200);
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(1), "{runs}");

    let postgres = postmaster(&data_dir);
    let status = again.terminate(PATIENCE);
    assert!(status.success(), "{status}; printed:\n{}", again.printed());
    assert!(!is_running(postgres), "Postgres was not stopped");
    assert!(!postmaster_file(&data_dir).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_runs_on_a_comfyui_that_was_started_separately() {
    let backend = Backend::start().await;
    let data_dir = scratch::folder("local").join("data");
    let (url, loras) = (backend.url(), backend.loras.display().to_string());

    let printed = smoke(&data_dir, &["--comfyui-url", &url, "--loras-dir", &loras]).await;

    let path = format!("user-{}/demo-sd15.safetensors", demo_user(&data_dir));
    assert_eq!(picture(&printed)["10"]["inputs"]["lora_name"], path);
    assert!(backend.loras.join(path).is_file());
    assert!(
        !data_dir.join("comfyui").exists(),
        "a simulator was started, too"
    );
    assert_eq!(backend.prompts().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_runs_on_a_backend_of_a_file() {
    let (first, second) = (Backend::start().await, Backend::start().await);
    let file = backends_file(&backends_text(&[("gpu-1", &first), ("gpu-2", &second)]));
    let data_dir = scratch::folder("local").join("data");

    let printed = smoke(&data_dir, &["--config", &file.display().to_string()]).await;

    let path = format!("user-{}/demo-sd15.safetensors", demo_user(&data_dir));
    assert_eq!(picture(&printed)["10"]["inputs"]["lora_name"], path);
    for told in [first.url(), second.url()] {
        assert!(printed.contains(&told), "{told} is not told:\n{printed}");
    }
    assert!(
        !data_dir.join("comfyui").exists(),
        "a simulator was started, too"
    );
    assert_eq!(first.prompts().await + second.prompts().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comfyui_that_is_not_there_fails_the_smoke_test() {
    let data_dir = scratch::folder("local").join("data");
    let nowhere = [
        "--smoke",
        "--comfyui-url",
        "http://127.0.0.1:1",
        "--loras-dir",
        "/nowhere",
    ];

    let (status, printed) = ended(start(&data_dir, &nowhere)).await;

    assert!(!status.success(), "{printed}");
    assert!(printed.contains("http://127.0.0.1:1"), "{printed}");
    assert!(
        !postmaster_file(&data_dir).exists(),
        "Postgres was not stopped"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_that_are_set_to_nothing_count_as_missing() {
    let data_dir = scratch::folder("local").join("data");
    let nothing = VARIABLES.map(|variable| (variable, ""));

    let (status, printed) = ended(start_with(&data_dir, &["--smoke"], &nothing)).await;

    assert!(status.success(), "{status}; printed:\n{printed}");
    assert!(data_dir.join("comfyui").is_dir());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_named_as_supabase_does_is_used() {
    let data_dir = scratch::folder("local").join("data");
    let nowhere = [
        (
            "SUPABASE_DB_URL",
            "postgres://atelier_app@127.0.0.1:1/postgres",
        ),
        ("RUST_LOG", "off"),
    ];

    let (status, printed) = ended(start_with(&data_dir, &["--smoke"], &nowhere)).await;

    assert!(!status.success(), "{printed}");
    assert!(printed.contains("unavailable"), "{printed}");
    assert!(
        !data_dir.join("postgres").exists(),
        "a private Postgres was started"
    );
}

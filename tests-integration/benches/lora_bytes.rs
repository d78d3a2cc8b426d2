//! How fast a large LoRA goes in, and to a backend, and what memory the server takes for it: against the same bytes put
//! straight into the same S3 server, and against `cp` and `sha256sum` of the same file, all on one machine.
//!
//! `cargo bench -p atelier-tests-integration --bench lora_bytes` does it with 1 GiB; `ATELIER_BENCH_LORA_MIB` asks for
//! another size.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark reads its size, prints, and stops at the first surprise"
)]

mod rows;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use atelier_s3_double::S3Double;
use atelier_testkit::drive_double::{Content, DriveDouble, DriveFile};
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::with_lora;
use bytes::Bytes;
use futures_util::stream;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::signer::Signer as _;
use object_store::{ObjectStoreExt as _, WriteMultipart};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::time::Instant;

use rows::record;

const PROGRAM: &str = env!("CARGO_BIN_EXE_atelier-under-test");

const MIB: u64 = 1024 * 1024;

const PATIENCE: Duration = Duration::from_mins(20);

/// A safetensors file with one tensor of so many bytes, never whole in memory.
#[derive(Clone)]
struct LargeFile {
    start: Bytes,
    blocks: u64,
}

impl LargeFile {
    fn of_mib(blocks: u64) -> Self {
        let size = blocks * MIB;
        let header =
            json!({"weights": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}})
                .to_string();
        let mut start = (header.len() as u64).to_le_bytes().to_vec();
        start.extend(header.bytes());
        Self {
            start: start.into(),
            blocks,
        }
    }

    fn length(&self) -> u64 {
        self.start.len() as u64 + self.blocks * MIB
    }

    fn body(&self) -> Body {
        let block = Bytes::from(vec![0x5a; 1024 * 1024]);
        let blocks = std::iter::once(self.start.clone())
            .chain((0..self.blocks).map(move |_| block.clone()))
            .map(Ok::<_, std::io::Error>);
        Body::wrap_stream(stream::iter(blocks))
    }
}

#[tokio::main(worker_threads = 2, flavor = "multi_thread")]
async fn main() {
    let mib = std::env::var("ATELIER_BENCH_LORA_MIB").ok();
    let mib: u64 = mib.map_or(1024, |text| text.parse().expect("a number of MiB"));
    let file = LargeFile::of_mib(mib);
    for on_s3 in [true, false] {
        measure(&file, on_s3).await;
    }
}

async fn measure(file: &LargeFile, on_s3: bool) {
    let site = Site::new(PROGRAM).await;
    let site = if on_s3 { site.on_s3() } else { site };
    let drive = DriveDouble::start().expect("a free port");
    let server = site
        .setup()
        .with("ATELIER_RATE_LIMIT", "off")
        // As in the image.
        .with("MALLOC_ARENA_MAX", "2")
        .with("RUST_LOG", "warn,atelier::server=info")
        .with("GOOGLE_API_BASE_URL", drive.api_base_url())
        .with("GOOGLE_TOKEN_URL", drive.token_url())
        .with("GDOC_TOKEN", drive.gdoc_token())
        .start();
    let client = server.client();
    client.add_lora("small.safetensors", 1).await;
    client.run_to_the_end(&with_lora("small.safetensors")).await;
    let report = Report {
        mib: file.blocks,
        server: &server,
        before_kib: server.process.peak_memory_kib(),
    };
    println!("objects {}:", if on_s3 { "on S3" } else { "in a folder" });

    let mut straight = None;
    if let Some(s3) = &site.s3 {
        let taken = put_straight(s3, file).await;
        report.line("straight PUT", taken);
        straight = Some(taken);
        let taken = put_straight_in_parts(s3, file).await;
        report.line("straight, in parts", taken);
    }
    let uploaded = upload(&client, file).await;
    report.line("upload", uploaded);
    let grown = report.grown_mib();
    let synced = run(&client, "large.safetensors").await;
    report.line("run that syncs it", synced);
    let copy = site
        .backend
        .loras
        .join(format!("user-{}/large.safetensors", client.person().id));
    let copied = copy_and_hash(&copy);
    report.line("cp and sha256sum", copied);
    let taken = import(&client, &drive, file).await;
    report.line("import from Drive", taken);
    if let Some(straight) = straight {
        let rates = |ours, theirs| {
            let (ours, theirs) = (report.rate(ours), report.rate(theirs));
            (
                ours / theirs,
                format!("{ours:.0} MiB/s, against {theirs:.0} MiB/s"),
            )
        };
        let (ratio, figures) = rates(uploaded, straight);
        record("upload", ratio, &figures);
        record(
            "upload-memory",
            grown,
            &format!("{} MiB uploaded", file.blocks),
        );
        let (ratio, figures) = rates(synced, copied);
        record("sync", ratio, &figures);
    }
}

struct Report<'a> {
    mib: u64,
    server: &'a Server,
    before_kib: u64,
}

impl Report<'_> {
    fn line(&self, what: &str, taken: Duration) {
        println!(
            "  {what:<20} {:7.2} s {:8.0} MiB/s   peak memory grew by {:.1} MiB",
            taken.as_secs_f64(),
            self.rate(taken),
            self.grown_mib(),
        );
    }

    /// MiB in a second.
    fn rate(&self, taken: Duration) -> f64 {
        f64::from(u32::try_from(self.mib).expect("a size in MiB")) / taken.as_secs_f64()
    }

    /// By how much the server's peak memory has grown since it was idle.
    fn grown_mib(&self) -> f64 {
        let grown = self
            .server
            .process
            .peak_memory_kib()
            .saturating_sub(self.before_kib);
        f64::from(u32::try_from(grown).expect("KiB")) / 1024.0
    }
}

fn straight(s3: &S3Double) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_endpoint(s3.endpoint())
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_bucket_name(s3.bucket())
        .with_access_key_id(s3.access_key())
        .with_secret_access_key(s3.secret_key())
        .with_unsigned_payload(true)
        .build()
        .expect("a store")
}

/// As clients send what is too large for one request, four parts of 8 MiB at a time.
async fn put_straight_in_parts(s3: &S3Double, file: &LargeFile) -> Duration {
    let block = Bytes::from(vec![0x5a; 1024 * 1024]);
    let begun = Instant::now();
    let upload = straight(s3).put_multipart(&"in parts".into()).await;
    let mut writer = WriteMultipart::new_with_chunk_size(upload.expect("an upload"), 8 << 20);
    writer.put(file.start.clone());
    for _ in 0..file.blocks {
        writer.wait_for_capacity(3).await.expect("room");
        writer.put(block.clone());
    }
    writer.finish().await.expect("an object");
    begun.elapsed()
}

async fn put_straight(s3: &S3Double, file: &LargeFile) -> Duration {
    let url = straight(s3)
        .signed_url(Method::PUT, &"straight".into(), Duration::from_hours(1))
        .await
        .expect("an address");
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client");
    let begun = Instant::now();
    let answer = client
        .put(url)
        .header("content-length", file.length())
        .body(file.body())
        .send()
        .await
        .expect("an answer");
    assert!(answer.status().is_success(), "{}", answer.status());
    begun.elapsed()
}

async fn upload(client: &Client, file: &LargeFile) -> Duration {
    let part = Part::stream_with_length(file.body(), file.length()).file_name("large.safetensors");
    let request = client
        .request(Method::POST, "/loras")
        .timeout(PATIENCE)
        .multipart(Form::new().part("file", part));
    let begun = Instant::now();
    client.send(request).await.expect(201);
    begun.elapsed()
}

async fn run(client: &Client, filename: &str) -> Duration {
    let workflow = client.create_workflow(&with_lora(filename), false).await;
    let begun = Instant::now();
    let run = client
        .post(&format!("/workflows/{workflow}/run"), &json!({}))
        .await
        .expect(202);
    let path = format!("/runs/{}?wait=60", id_of(&run));
    let ended = until(client, &path, |run| run["completed_at"].is_string()).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    begun.elapsed()
}

async fn import(client: &Client, drive: &DriveDouble, file: &LargeFile) -> Duration {
    let content = Content::patterned(file.start.clone(), file.length());
    drive.put(DriveFile::blob(
        "1LargeFileOfTheBench",
        "from drive.safetensors",
        content,
    ));
    let begun = Instant::now();
    let request = json!({"google_drive_file_id": "1LargeFileOfTheBench"});
    let lora = client
        .post("/loras/import-from-google-drive", &request)
        .await
        .expect(202);
    let path = format!("/loras/{}", id_of(&lora));
    let ended = until(client, &path, |lora| lora["status"] != "importing").await;
    assert_eq!(ended["status"], "ready", "{ended}");
    begun.elapsed()
}

async fn until(client: &Client, path: &str, is_over: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let seen = client.get(path).await.expect(200);
        if is_over(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "{seen}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What the copy of a file and the check of its bytes take without us.
fn copy_and_hash(file: &Path) -> Duration {
    let copy = file.with_extension("copied");
    let begun = Instant::now();
    for (program, arguments) in [
        ("cp", vec![file, &copy]),
        ("sha256sum", vec![copy.as_path()]),
    ] {
        let done = Command::new(program)
            .args(arguments)
            .output()
            .expect("the program is there");
        assert!(done.status.success(), "{program}");
    }
    let taken = begun.elapsed();
    std::fs::remove_file(copy).expect("it was made");
    taken
}

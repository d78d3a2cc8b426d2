//! The rate of installing a LoRA into a mounted folder, next to `cp` and then
//! `sha256sum` of the same file.
//!
//! `ATELIER_BENCH_DIR` names the folder on whose disk it is measured;
//! `ATELIER_BENCH_MIB` the file's size, 1024 by default.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what this stumbles over is a failed measurement"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use atelier_comfyui::{LoraFolderOptions, MountedLoraFolder};
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{InstallStart, LoraFile, LoraFolder};
use atelier_testkit::build::sha256_of;
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// As much as the blob store's reader hands over at a time.
const CHUNK: usize = 1024 * 1024;

fn number(name: &str, default: usize) -> usize {
    let set = std::env::var_os(name);
    set.map_or(default, |value| value.to_str().unwrap().parse().unwrap())
}

fn run(command: &mut Command) {
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
}

/// Writes bytes that do not repeat within a page.
fn make(source: &Path, mib: usize) {
    let mut file = File::create(source).unwrap();
    for chunk in 0..mib as u64 {
        let words = (0..CHUNK as u64 / 8)
            .map(|word| (chunk << 32 | word).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        file.write_all(&bytes).unwrap();
    }
    file.sync_all().unwrap();
}

async fn install(folder: &MountedLoraFolder, file: &LoraFile, source: &Path) {
    let InstallStart::Begun(mut install) = folder.install(file.clone()).await.unwrap() else {
        panic!("it is there already");
    };
    let mut source = File::open(source).unwrap();
    loop {
        let (read, bytes) = tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let length = source.read(&mut chunk).unwrap();
            chunk.truncate(length);
            (source, Bytes::from(chunk))
        })
        .await
        .unwrap();
        source = read;
        if bytes.is_empty() {
            break;
        }
        install.write(bytes).await.unwrap();
    }
    install.finish().await.unwrap();
}

fn installing(criterion: &mut Criterion) {
    let base = std::env::var_os("ATELIER_BENCH_DIR").unwrap_or_else(|| std::env::temp_dir().into());
    let directory = tempfile::tempdir_in(base).unwrap();
    let source = directory.path().join("source");
    let mib = number("ATELIER_BENCH_MIB", 1024);
    make(&source, mib);
    let file = LoraFile {
        path: LoraPath::parse("user-11111111-2222-4333-8444-55555555abcd/a.safetensors").unwrap(),
        size_bytes: (mib * CHUNK) as u64,
        sha256: sha256_of(&std::fs::read(&source).unwrap()),
    };
    let loras = directory.path().join("loras");
    std::fs::create_dir(&loras).unwrap();
    let folder = MountedLoraFolder::new(LoraFolderOptions {
        folder: loras,
        quota_bytes: None,
        keep_free_bytes: 0,
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut group = criterion.benchmark_group("install");
    group
        .sample_size(10)
        .measurement_time(Duration::from_mins(1))
        .throughput(Throughput::Bytes(file.size_bytes));
    group.bench_function("folder", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut taken = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                runtime.block_on(install(&folder, &file, &source));
                taken += start.elapsed();
                runtime.block_on(folder.remove(&file.path)).unwrap();
            }
            taken
        });
    });
    let copy = directory.path().join("copy");
    group.bench_function("cp_and_sha256sum", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut taken = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                run(Command::new("cp")
                    .args(["--reflink=never"])
                    .args([&source, &copy]));
                run(Command::new("sha256sum").arg(&copy));
                taken += start.elapsed();
                std::fs::remove_file(&copy).unwrap();
            }
            taken
        });
    });
    group.finish();
}

criterion_group!(benches, installing);
criterion_main!(benches);

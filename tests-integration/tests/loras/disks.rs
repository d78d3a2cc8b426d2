//! Real disks that are full or may not be written. They are small file systems in memory, which
//! only root may mount: elsewhere these tests say so and try nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::scratch;
use atelier_tests_integration::site::Site;

use crate::ATELIER;
use crate::contents::{names_in, parts_in, weights};
use crate::workshop::{PATIENCE, Workshop};

const MIB: usize = 1024 * 1024;

/// A small disk, unmounted when dropped.
#[derive(Debug)]
struct Disk(PathBuf);

impl Disk {
    /// Mounts one of four MiB; `None` where we may not.
    #[expect(clippy::print_stdout, reason = "whoever reads the output is to know")]
    fn mount() -> Option<Self> {
        let folder = scratch::folder("disk");
        let is_mounted = run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "atelier-tests"])
            .arg(&folder));
        if !is_mounted {
            println!("SKIPPED: only root may mount a small disk");
            return None;
        }
        Some(Self(folder))
    }

    /// Lets nobody write any more, or everybody again.
    fn set_read_only(&self, is_read_only: bool) {
        let how = if is_read_only {
            "remount,ro"
        } else {
            "remount,rw"
        };
        assert!(run(Command::new("mount").args(["-o", how]).arg(&self.0)));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Also while somebody has a file open there.
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

async fn workshop(loras: &Path) -> Workshop {
    let backend = Backend::start_with(|options| options.loras_dir = Some(loras.to_owned())).await;
    Workshop::at(Site::with_backend(ATELIER, backend).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_room_of_our_files_and_fails_what_never_fits() {
    let Some(disk) = Disk::mount() else { return };
    let workshop = workshop(&disk.0).await;
    let files = [1, 2, 3].map(|seed| weights(3 * MIB / 2, seed));
    for (number, file) in files.iter().enumerate() {
        workshop
            .upload(&format!("{number}.safetensors"), file)
            .await;
    }
    workshop
        .upload("large.safetensors", &weights(5 * MIB, 4))
        .await;
    let setup = workshop.worker_setup();
    let _worker = setup.with("ATELIER_LORA_KEEP_FREE_BYTES", "0").spawn();

    for number in 0..3 {
        workshop.run_well(&format!("{number}.safetensors"), 1).await;
    }
    for number in [1, 2] {
        workshop.assert_installed(&format!("{number}.safetensors"), &files[number]);
    }
    assert_eq!(names_in(&disk.0).len(), 2);

    // What others keep there is not ours to give up.
    std::fs::write(disk.0.join("system.safetensors"), vec![0; MIB / 2]).expect("there is room");
    let message = workshop
        .run_badly("large.safetensors", "lora_sync_failed")
        .await;
    let numbers = message.split(|character: char| !character.is_ascii_digit());
    let numbers: Vec<usize> = numbers.filter_map(|digits| digits.parse().ok()).collect();
    assert!(
        numbers.iter().any(|number| *number > 5 * MIB)
            && numbers.iter().any(|number| *number < 4 * MIB),
        "{message}"
    );
    assert!(parts_in(&disk.0).is_empty());
    assert!(disk.0.join("system.safetensors").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_somebody_else_fills_fails_the_run_with_the_numbers() {
    let Some(disk) = Disk::mount() else { return };
    let workshop = workshop(&disk.0).await;
    let file = weights(2 * MIB, 1);
    workshop.upload("style.safetensors", &file).await;
    let theirs = disk.0.join("somebodys.bin");
    std::fs::write(&theirs, vec![0; 3 * MIB]).expect("there is room");
    let setup = workshop.worker_setup();
    let _worker = setup.with("ATELIER_LORA_KEEP_FREE_BYTES", "0").spawn();

    let message = workshop
        .run_badly("style.safetensors", "lora_sync_failed")
        .await;

    assert!(message.contains(&file.bytes.len().to_string()), "{message}");
    assert_eq!(names_in(&disk.0), ["somebodys.bin"]);
    std::fs::remove_file(&theirs).expect("it is there");
    workshop.run_well("style.safetensors", 2).await;
    workshop.assert_installed("style.safetensors", &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_stay_free_stays_free() {
    let Some(disk) = Disk::mount() else { return };
    let workshop = workshop(&disk.0).await;
    let (small, large) = (weights(MIB, 1), weights(2 * MIB, 2));
    workshop.upload("small.safetensors", &small).await;
    workshop.upload("large.safetensors", &large).await;
    let setup = workshop.worker_setup();
    let keep = (5 * MIB / 2).to_string();
    let _worker = setup.with("ATELIER_LORA_KEEP_FREE_BYTES", keep).spawn();

    workshop.run_well("small.safetensors", 1).await;
    workshop
        .run_badly("large.safetensors", "lora_sync_failed")
        .await;

    assert!(!workshop.folder().join("large.safetensors").exists());
    assert!(parts_in(&disk.0).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_fails_the_run_and_says_so() {
    let Some(disk) = Disk::mount() else { return };
    let workshop = workshop(&disk.0).await;
    let (there, new) = (weights(MIB, 1), weights(MIB, 2));
    workshop.upload("there.safetensors", &there).await;
    workshop.upload("new.safetensors", &new).await;
    let setup = workshop.worker_setup();
    let setup = setup.with("ATELIER_LORA_KEEP_FREE_BYTES", "0");
    let mut worker = setup.spawn();
    workshop.run_well("there.safetensors", 1).await;
    worker.kill();
    wait_until("nobody to write there", PATIENCE, async || {
        parts_in(&disk.0).is_empty()
    })
    .await;
    disk.set_read_only(true);
    let _worker = setup.spawn();

    let message = workshop
        .run_badly("new.safetensors", "lora_sync_failed")
        .await;

    assert!(message.contains("operates this server"), "{message}");
    workshop.assert_installed("there.safetensors", &there);
    assert_eq!(names_in(&disk.0).len(), 1);
    disk.set_read_only(false);
    workshop.run_well("new.safetensors", 2).await;
    workshop.assert_installed("new.safetensors", &new);
}

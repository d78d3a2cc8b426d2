//! Several processes in one folder, and what is left of those that died.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use atelier_domain::ports::{InstallStart, LoraFolder as _, LoraPresence};
use atelier_testkit::{PATIENCE, wait_until};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{Mounted, begun, bytes, options};

/// Tells a test process that it is the one to be killed, and where it works.
const DOOMED_IN: &str = "ATELIER_DOOMED_IN";
const FILE: &str = "user-11111111-2222-4333-8444-55555555abcd/style.safetensors";

fn content() -> Bytes {
    bytes(7, 1_000_000)
}

/// Installs half of the file and then waits to be killed.
async fn install_half(directory: &Path) -> ! {
    let folder = atelier_comfyui::MountedLoraFolder::new(options(directory));
    let mut world = Mounted::new();
    world.path = FILE.parse().unwrap();
    let start = folder.install(world.file(&content())).await.unwrap();
    let mut install = begun(start);
    install.write(content().slice(..500_000)).await.unwrap();
    fs::write(directory.join("half"), "").unwrap();
    std::future::pending().await
}

/// This test once more, as a process of its own.
fn doomed_process(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::a_killed_installer_is_in_nobodys_way"])
        .env(DOOMED_IN, directory)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_installer_is_in_nobodys_way() {
    if let Some(directory) = std::env::var_os(DOOMED_IN) {
        install_half(Path::new(&directory)).await;
    }
    let mut folder = Mounted::with(|options| options.quota_bytes = Some(1_500_000));
    folder.path = FILE.parse().unwrap();
    let mut doomed = doomed_process(folder.directory.path());
    let half = folder.directory.path().join("half");
    wait_until("half a file", PATIENCE, async || half.exists()).await;
    assert_eq!(folder.names(), ["style.safetensors.atelier.part"]);
    assert_eq!(folder.folder.usage().await.unwrap().ours_bytes, 1_000_000);
    folder.folder.check().await.unwrap();
    assert!(folder.part().exists(), "whoever lives keeps its file");
    let (next, file) = (folder.folder.clone(), folder.file(&content()));
    let waiting = tokio::spawn(async move { next.install(file).await });

    doomed.kill().unwrap();
    assert_eq!(doomed.wait().unwrap().signal(), Some(9));

    let start = timeout(PATIENCE, waiting).await.expect("it waits for ever");
    let mut install = begun(start.unwrap().unwrap());
    install.write(content()).await.unwrap();
    install.finish().await.unwrap();
    assert!(folder.is_verified(&content()).await);
    assert_eq!(folder.names(), ["style.safetensors"]);
}

#[tokio::test]
async fn leftovers_of_the_dead_are_swept_and_nothing_else() {
    let folder = Mounted::new();
    folder.install(&bytes(1, 100)).await.unwrap();
    let user = folder.directory.path().join(folder.path.folder());
    let records = folder.record().parent().unwrap().to_owned();
    for left in [folder.part(), records.join("style.safetensors.json.part")] {
        fs::write(left, "half").unwrap();
    }
    for name in ["style.safetensors.part", "x.part", "y.foreign-1"] {
        fs::write(user.join(name), "of somebody else").unwrap();
    }
    let gone = "user-99999999-2222-4333-8444-55555555abcd";
    let record_of_nothing = records.with_file_name(gone).join("a.safetensors.json");
    fs::create_dir_all(record_of_nothing.parent().unwrap()).unwrap();
    fs::copy(folder.record(), &record_of_nothing).unwrap();

    folder.folder.check().await.unwrap();

    assert_eq!(
        folder.names(),
        [
            "style.safetensors",
            "style.safetensors.part",
            "x.part",
            "y.foreign-1"
        ]
    );
    assert!(!record_of_nothing.parent().unwrap().exists());
    assert_eq!(fs::read_dir(records).unwrap().count(), 1);
    assert!(folder.is_verified(&bytes(1, 100)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_that_want_one_file_make_one_copy() {
    let folder = Mounted::new();
    let content = bytes(1, 300_000);
    let installing: Vec<_> = (0..50)
        .map(|_| {
            let process = folder.other_instance();
            let (file, content) = (folder.file(&content), content.clone());
            tokio::spawn(async move {
                match process.install(file).await.unwrap() {
                    InstallStart::Begun(mut install) => {
                        install.write(content).await.unwrap();
                        install.finish().await.unwrap();
                        1
                    }
                    InstallStart::AlreadyThere => 0,
                }
            })
        })
        .collect();
    let mut copies = 0;
    for task in installing {
        copies += timeout(PATIENCE, task).await.unwrap().unwrap();
    }

    assert_eq!(copies, 1);
    assert!(folder.is_verified(&content).await);
    assert_eq!(folder.names(), ["style.safetensors"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_reported_present_is_not_evicted_by_who_saw_it_before() {
    let folder = Mounted::new();
    let content = bytes(1, 1_000);
    for round in 0..100 {
        if !folder.is_verified(&content).await {
            folder.install(&content).await.unwrap();
        }
        let seen = folder.folder.installed().await.unwrap().remove(0);
        let (asking, evicting) = (folder.other_instance(), folder.other_instance());
        let file = folder.file(&content);
        let asked = tokio::spawn(async move { asking.presence(&file).await.unwrap() });
        let evicted = tokio::spawn(async move { evicting.evict(&seen).await.unwrap() });
        let (asked, evicted) = (asked.await.unwrap(), evicted.await.unwrap());

        let is_present = asked == LoraPresence::Verified;
        assert_ne!(is_present, evicted, "round {round}");
        assert_eq!(folder.on_disk().exists(), is_present, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_asks_how_full_the_folder_is_disturbs_nobody_who_installs() {
    let folder = Mounted::new();
    let content = bytes(1, 10);
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let process = folder.other_instance();
        asking.spawn(async move {
            loop {
                process.usage().await.unwrap();
            }
        });
    }

    for round in 0..2_000 {
        let install = folder.folder.install(folder.file(&content)).await;

        let install = begun(install.unwrap_or_else(|error| panic!("round {round}: {error:?}")));
        assert!(folder.part().exists(), "round {round}");
        drop(install);
    }
    asking.shutdown().await;
}

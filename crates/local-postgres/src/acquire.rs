//! Fetching the server programs with the system's own means.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::account;
use crate::binaries::BinarySearch;
use crate::error::telling_line;
use crate::step::{Progress, Step};

/// Where Debian's packages look whether to make a cluster of their own.
const CLUSTER_CONFIGURATION: &str = "/etc/postgresql-common/createcluster.conf";

const NO_CLUSTER: &str = "create_main_cluster = false";

/// Installs the server with Debian's package tool.
///
/// # Errors
/// A sentence: we are not root, this is not Debian, or the tool failed.
pub(crate) fn with_apt(
    search: &BinarySearch,
    major: Option<u32>,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    if !account::is_root() {
        return Err("not root, so no package can be installed".to_owned());
    }
    install(search, major, Path::new(CLUSTER_CONFIGURATION), progress)
}

fn install(
    search: &BinarySearch,
    major: Option<u32>,
    configuration: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    let Some(apt) = search.program("apt-get") else {
        return Err("there is no `apt-get`".to_owned());
    };
    let server = major.map_or_else(
        || "postgresql".to_owned(),
        |major| format!("postgresql-{major}"),
    );
    let run = |arguments: &[&str], progress: &mut Progress<'_>| {
        let mut command = Command::new(&apt);
        command
            .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        run_told("apt-get", &mut command, progress)
    };
    run(&["update"], progress)?;
    // This package brings the file that says whether the next one makes and starts a cluster.
    run(
        &[
            "install",
            "--yes",
            "--no-install-recommends",
            "postgresql-common",
        ],
        progress,
    )?;
    forbid_cluster(configuration, progress)?;
    run(
        &["install", "--yes", "--no-install-recommends", &server],
        progress,
    )
}

/// Has Debian's packages make no cluster, unless the administrator has said something about it.
fn forbid_cluster(configuration: &Path, progress: &mut Progress<'_>) -> Result<(), String> {
    let says = |line: &str| line.trim_start().starts_with("create_main_cluster");
    if fs::read_to_string(configuration).is_ok_and(|text| text.lines().any(says)) {
        progress(&Step::KeptPackageConfiguration {
            path: configuration.to_path_buf(),
        });
        return Ok(());
    }
    let appended = OpenOptions::new()
        .create(true)
        .append(true)
        .open(configuration)
        .and_then(|mut file| writeln!(file, "\n# atelier runs a cluster of its own\n{NO_CLUSTER}"));
    appended.map_err(|error| format!("could not write {}: {error}", configuration.display()))
}

/// Waits until no other process fetches into `cache`, and keeps others waiting until dropped.
pub(crate) fn lock(cache: &Path) -> Result<File, String> {
    let path = cache.join("fetch.lock");
    let locked = fs::create_dir_all(cache)
        .and_then(|()| File::create(&path))
        .and_then(|file| {
            file.lock()?;
            Ok(file)
        });
    locked.map_err(|error| format!("could not lock {}: {error}", path.display()))
}

/// Runs a command the user is told of, with our environment: it may hold the way to the network.
///
/// # Errors
/// A sentence about `name`, with the line of its output that tells most.
pub(crate) fn run_told(
    name: &str,
    command: &mut Command,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ");
    progress(&Step::Running { command: line });
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("could not run `{name}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = if output.stderr.is_empty() {
        output.stdout
    } else {
        output.stderr
    };
    Err(format!(
        "`{name}` failed: {}",
        telling_line(&String::from_utf8_lossy(&said))
    ))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A package tool which notes how it was called, and fails when asked for `fails`.
    fn fake_apt(folder: &Path, fails: &str) -> BinarySearch {
        let log = folder.join("calls");
        let script = format!(
            "#!/bin/sh\necho \"$DEBIAN_FRONTEND $*\" >> {}\n\
             case \"$*\" in *{fails}) echo 'E: broken' >&2; exit 100;; esac\n",
            log.display()
        );
        let path = folder.join("apt-get");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        BinarySearch::nowhere().search_path(folder)
    }

    #[test]
    fn the_package_is_told_to_make_no_cluster_before_it_is_installed() {
        let folder = tempfile::tempdir().unwrap();
        let configuration = folder.path().join("createcluster.conf");
        fs::write(&configuration, "#create_main_cluster = true\n").unwrap();
        let mut steps = Vec::new();

        let search = fake_apt(folder.path(), "nothing");
        install(&search, Some(16), &configuration, &mut |step| {
            steps.push(step.to_string());
        })
        .unwrap();

        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        let last_words: Vec<_> = calls
            .lines()
            .filter_map(|line| line.split(' ').next_back())
            .collect();
        assert_eq!(last_words, ["update", "postgresql-common", "postgresql-16"]);
        assert!(
            calls
                .lines()
                .all(|line| line.starts_with("noninteractive ")),
            "{calls}"
        );
        assert!(
            fs::read_to_string(&configuration)
                .unwrap()
                .lines()
                .any(|line| line == NO_CLUSTER)
        );
        assert_eq!(steps.len(), 3, "{steps:?}");
    }

    #[test]
    fn the_administrators_choice_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let configuration = folder.path().join("createcluster.conf");
        fs::write(&configuration, "create_main_cluster = true\n").unwrap();

        forbid_cluster(&configuration, &mut |_| {}).unwrap();

        assert_eq!(
            fs::read_to_string(&configuration).unwrap(),
            "create_main_cluster = true\n"
        );
    }

    #[test]
    fn only_one_process_fetches_at_a_time() {
        let cache = tempfile::tempdir().unwrap();

        let lock = lock(&cache.path().join("new")).unwrap();

        let other = File::open(cache.path().join("new/fetch.lock")).unwrap();
        assert!(other.try_lock().is_err());
        drop(lock);
        other.try_lock().unwrap();
    }

    #[test]
    fn a_failing_package_tool_is_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let configuration = folder.path().join("createcluster.conf");

        let search = fake_apt(folder.path(), "update");
        let error = install(&search, None, &configuration, &mut |_| {}).unwrap_err();

        assert!(error.contains("E: broken"), "{error}");
        assert!(!configuration.exists());
    }
}

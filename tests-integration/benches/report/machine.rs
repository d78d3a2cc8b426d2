//! On what was measured.

use std::fs;
use std::time::SystemTime;

use atelier_local_postgres::Cluster;
use chrono::{DateTime, Utc};

/// The machine, in lines of a list.
pub(crate) fn describe() -> Vec<String> {
    let now: DateTime<Utc> = SystemTime::now().into();
    vec![
        format!("- date: {}", now.format("%Y-%m-%d")),
        format!(
            "- processor: {}, {} of them",
            value("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            std::thread::available_parallelism().map_or(0, usize::from),
        ),
        format!(
            "- memory: {}",
            value("/proc/meminfo", "MemTotal").map_or_else(unknown, |text| mebibytes(&text))
        ),
        format!(
            "- kernel: {} {}",
            word("/proc/sys/kernel/ostype"),
            word("/proc/sys/kernel/osrelease")
        ),
        format!("- Postgres: {}", postgres()),
        format!(
            "- load when the last bench ended (1, 5, 15 minutes): {}",
            load()
        ),
        format!(
            "- packages of the Python peer: {}",
            include_str!("../peer/requirements.txt")
                .trim()
                .replace('\n', ", ")
        ),
    ]
}

/// The first value of a name in one of the kernel's tables.
fn value(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (_, value) = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(other, _)| other.trim() == name)?;
    Some(value.trim().to_owned())
}

fn word(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_absent| unknown(), |text| text.trim().to_owned())
}

fn load() -> String {
    let text = word("/proc/loadavg");
    let averages: Vec<&str> = text.split(' ').take(3).collect();
    averages.join(", ")
}

fn mebibytes(kibibytes: &str) -> String {
    let number = kibibytes.trim_end_matches(" kB").parse::<u64>();
    number.map_or_else(
        |_other| kibibytes.to_owned(),
        |number| format!("{} MiB", number / 1024),
    )
}

/// The version that the benches bring up too.
fn postgres() -> String {
    Cluster::throw_away().map_or_else(
        |fault| fault.to_string(),
        |cluster| cluster.binaries().version().to_owned(),
    )
}

fn unknown() -> String {
    "unknown".to_owned()
}

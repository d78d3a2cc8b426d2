//! What a benchmark found, kept for the table of all of them.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a benchmark reads its environment and stops at the first surprise"
)]

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::{Value, json};

/// Keeps one measured row, called as in the table of `benches/report`, in the file that `ATELIER_BENCH_ROWS` names.
///
/// `measured` is what the aim speaks of; `figures` are the absolute numbers behind it, in words.
pub(crate) fn record(row: &str, measured: f64, figures: &str) {
    let line = format!("{row:<20} {measured:8.3}   {figures}\n");
    std::io::stdout()
        .write_all(line.as_bytes())
        .expect("somebody reads");
    keep(&json!({"row": row, "measured": measured, "figures": figures}));
}

fn keep(line: &Value) {
    let Ok(path) = std::env::var("ATELIER_BENCH_ROWS") else {
        return;
    };
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("the file of the rows can be written");
    writeln!(file, "{line}").expect("the file of the rows can be written");
}

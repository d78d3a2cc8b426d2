//! Gathers what all benches found into one table, prints it, and writes `BENCHMARKS.md`.
//!
//! `just bench` runs the benches one after another with `ATELIER_BENCH_ROWS` naming one file, and this at the end.
//! What is to be said of a row stands in `benches/report/notes.md` below a heading with the row's name.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark reads its environment, prints, and stops at the first surprise"
)]

mod machine;
mod table;

use std::collections::HashMap;
use std::fs;

use serde_json::Value;

use table::Row;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../BENCHMARKS.md");
const NOTES: &str = include_str!("notes.md");

/// What a bench kept of a row.
struct Measured {
    value: f64,
    figures: String,
}

fn main() {
    let Ok(path) = std::env::var("ATELIER_BENCH_ROWS") else {
        println!("ATELIER_BENCH_ROWS names no file with rows: `just bench` makes one");
        return;
    };
    let kept = fs::read_to_string(&path).expect("the benches have kept their rows there");
    let found = kept.lines().map(read).collect();
    let page = page(&found);
    fs::write(PAGE, &page).expect("the repository can be written");
    println!("{page}");
}

/// One line of the file; the last one of a row wins.
fn read(line: &str) -> (String, Measured) {
    let kept: Value = serde_json::from_str(line).expect("a line is JSON");
    let text = |name: &str| kept.get(name)?.as_str().map(str::to_owned);
    let measured = Measured {
        value: kept
            .get("measured")
            .and_then(Value::as_f64)
            .expect("a row has a number"),
        figures: text("figures").expect("a row has figures"),
    };
    (text("row").expect("a row has a name"), measured)
}

fn page(found: &HashMap<String, Measured>) -> String {
    let mut page = vec![
        "# Benchmarks".to_owned(),
        String::new(),
        "Written by `just bench`; do not edit. Ratios come from one run on one machine, on which client, server, database \
         and peers share the processors. Rates against peers are medians of rounds taken in turns. Rows without an aim are \
         for information."
            .to_owned(),
        String::new(),
        "| what | against | aim | measured | met | figures |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    page.extend(table::ROWS.iter().map(|row| line(row, found.get(row.name))));
    page.extend(["", "## Machine", ""].map(str::to_owned));
    page.extend(machine::describe());
    let notes: Vec<_> = table::ROWS.iter().filter_map(note).collect();
    if !notes.is_empty() {
        page.extend(["", "## Notes", ""].map(str::to_owned));
        page.extend(notes);
    }
    page.push(String::new());
    page.join("\n")
}

fn line(row: &Row, measured: Option<&Measured>) -> String {
    let Row {
        what, against, aim, ..
    } = row;
    let Some(Measured { value, figures }) = measured else {
        return format!(
            "| {what} | {against} | {} | not measured | | |",
            aim.words()
        );
    };
    let met = match aim.is_met(*value) {
        None => "",
        Some(true) => "yes",
        Some(false) => "**no**",
    };
    format!(
        "| {what} | {against} | {} | {} | {met} | {figures} |",
        aim.words(),
        aim.with_unit(*value),
    )
}

/// What `notes.md` says of a row.
fn note(row: &Row) -> Option<String> {
    let (_, rest) = NOTES.split_once(&format!("\n## {}\n", row.name))?;
    let text = rest.split("\n## ").next().unwrap_or_default().trim();
    let text = text.replace('\n', " ");
    Some(format!(
        "- **{}**, against {}: {text}",
        row.what, row.against
    ))
}

//! What a server leaves behind: objects, and everything that its database holds.

use std::path::{Path, PathBuf};

use crate::database::Database;
use crate::people::Person;
use crate::site::Site;

/// The keys of somebody's objects, without `user-{id}/`, in order.
pub fn objects_of(site: &Site, person: &Person) -> Vec<String> {
    let root = match &site.s3 {
        None => site.objects.clone(),
        Some(s3) => s3.folder().join(s3.bucket()),
    };
    let root = root.join(format!("user-{}", person.id));
    let mut keys: Vec<String> = files_below(&root)
        .iter()
        .map(|file| {
            let key = file.strip_prefix(&root).expect("it is below the folder");
            key.display().to_string()
        })
        .collect();
    keys.sort();
    keys
}

/// Every file below a folder; none if there is no such folder, or no more.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    // What is removed while we look is not there.
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path()),
            Ok(_) => vec![entry.path()],
            Err(_gone) => Vec::new(),
        })
        .collect()
}

/// Every row of every table of a database, as text.
pub async fn rows_of(database: &Database) -> String {
    let tables = "select string_agg(quote_ident(schemaname) || '.' || quote_ident(tablename), ' ') \
                  from pg_tables where schemaname not in ('pg_catalog', 'information_schema')";
    let tables = database.text(tables).await;
    let mut all = String::new();
    for table in tables.split(' ') {
        let rows = format!("select coalesce(string_agg(t::text, E'\\n'), '') from {table} as t");
        all.push_str(&database.text(&rows).await);
        all.push('\n');
    }
    all
}

//! Which objects there are.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use atelier_domain::ports::{BlobEntry, BlobKey};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::{ObjectMeta, ObjectStore};

use crate::keys::{KeyMapping, key_prefix};

/// How many objects S3 lists at once.
const PAGE: usize = 1_000;

/// What is to be listed.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) prefix: String,
    pub(crate) after: Option<BlobKey>,
    pub(crate) limit: usize,
}

impl Wanted {
    fn takes(&self, key: &BlobKey) -> bool {
        key.as_str().starts_with(&self.prefix)
            && self.after.as_ref().is_none_or(|after| key > after)
    }

    /// Whether a key that begins like this can be wanted.
    fn may_begin(&self, beginning: &str) -> bool {
        let fits = beginning.starts_with(&self.prefix) || self.prefix.starts_with(beginning);
        let is_beyond = self.after.as_ref().is_none_or(|after| {
            after.as_str().starts_with(beginning) || after.as_str() < beginning
        });
        fits && is_beyond
    }
}

/// The first of the wanted objects, in order.
#[derive(Debug)]
struct First {
    wanted: Wanted,
    found: BTreeMap<BlobKey, (u64, DateTime<Utc>)>,
}

impl First {
    fn of(wanted: Wanted) -> Self {
        Self {
            wanted,
            found: BTreeMap::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.found.len() >= self.wanted.limit
    }

    fn may_begin(&self, beginning: &str) -> bool {
        let is_too_late = self.is_full()
            && self
                .found
                .last_key_value()
                .is_none_or(|(last, _)| last.as_str() < beginning);
        !is_too_late && self.wanted.may_begin(beginning)
    }

    fn add(&mut self, key: BlobKey, size_bytes: u64, modified_at: DateTime<Utc>) {
        if self.wanted.takes(&key) {
            self.found.insert(key, (size_bytes, modified_at));
            if self.found.len() > self.wanted.limit {
                self.found.pop_last();
            }
        }
    }

    fn add_object(&mut self, keys: &KeyMapping, object: &ObjectMeta) {
        if let Some(key) = keys.key(object.location.as_ref()) {
            self.add(key, object.size, object.last_modified);
        }
    }

    fn entries(self) -> Vec<BlobEntry> {
        self.found
            .into_iter()
            .map(|(key, (size_bytes, modified_at))| BlobEntry {
                key,
                size_bytes,
                modified_at,
            })
            .collect()
    }
}

/// Lists a bucket, whose keys come in order, page by page.
pub(crate) async fn in_bucket(
    store: &AmazonS3,
    keys: &KeyMapping,
    wanted: Wanted,
) -> object_store::Result<Vec<BlobEntry>> {
    let prefix = keys.name(&wanted.prefix);
    let mut offset = wanted.after.as_ref().map(|after| keys.name(after.as_str()));
    let mut first = First::of(wanted);
    let (mut token, mut page) = (None::<String>, PAGE);
    loop {
        let options = PaginatedListOptions {
            offset: offset.clone().filter(|_| token.is_none()),
            max_keys: Some(page.min(first.wanted.limit)),
            page_token: token.clone(),
            ..PaginatedListOptions::default()
        };
        match store.list_paginated(Some(&prefix), options).await {
            Ok(listed) => {
                for object in &listed.result.objects {
                    first.add_object(keys, object);
                    offset = Some(object.location.to_string());
                }
                if first.is_full() || listed.page_token.is_none() {
                    return Ok(first.entries());
                }
                (token, page) = (listed.page_token, PAGE);
            }
            // One name that `object_store` cannot take spoils its page: the
            // pages become smaller until it is alone, and can be left out.
            Err(error) => {
                let Some(spoiler) = unusable_name(&error) else {
                    return Err(error);
                };
                token = None;
                if page.min(first.wanted.limit) > 1 {
                    page = page.min(first.wanted.limit) / 2;
                } else if offset.as_ref().is_none_or(|offset| *offset < spoiler) {
                    (offset, page) = (Some(spoiler), PAGE);
                } else {
                    return Err(error);
                }
            }
        }
    }
}

/// The name in a bucket that made a listing fail: one with empty segments.
fn unusable_name(error: &object_store::Error) -> Option<String> {
    use object_store::path::Error;

    match error {
        object_store::Error::InvalidPath {
            source: Error::EmptySegment { path } | Error::BadSegment { path, .. },
        } => Some(path.clone()),
        _ => None,
    }
}

/// Lists what is in memory.
pub(crate) async fn in_memory(
    store: &dyn ObjectStore,
    keys: &KeyMapping,
    wanted: Wanted,
) -> object_store::Result<Vec<BlobEntry>> {
    let mut first = First::of(wanted);
    let mut objects = store.list(None).boxed();
    while let Some(object) = objects.try_next().await? {
        first.add_object(keys, &object);
    }
    Ok(first.entries())
}

/// Lists a folder. Its names are in another order than the keys, so all that
/// may be wanted are looked at; no more than are wanted are held.
pub(crate) fn in_folder(
    root: &Path,
    keys: &KeyMapping,
    wanted: Wanted,
) -> io::Result<Vec<BlobEntry>> {
    let mut first = First::of(wanted);
    walk(root, "", keys, &mut first)?;
    Ok(first.entries())
}

/// Follows no links; what vanishes meanwhile was never there.
fn walk(root: &Path, folder: &str, keys: &KeyMapping, first: &mut First) -> io::Result<()> {
    let Some(entries) = found(fs::read_dir(root.join(folder)))? else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let name = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        let Some(kind) = found(entry.file_type())? else {
            continue;
        };
        if kind.is_dir() && first.may_begin(&key_prefix(&name)) {
            walk(root, &name, keys, first)?;
        } else if kind.is_file()
            && let Some(key) = keys.key(&name)
            && first.may_begin(key.as_str())
            && let Some(metadata) = found(entry.metadata())?
        {
            first.add(key, metadata.len(), metadata.modified()?.into());
        }
    }
    Ok(())
}

fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

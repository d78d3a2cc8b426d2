//! Lists of objects.

use atelier_domain::ports::{BlobEntry, BlobKey, Clock as _};
use bytes::Bytes;
use chrono::TimeDelta;

use super::{Harness, key, pattern};
use crate::{WallClock, random_id};

/// How far the store's clock may be from ours, and how coarse it may be.
const CLOCKS_DIFFER_BY: TimeDelta = TimeDelta::seconds(30);

impl Harness {
    async fn listed(&self, prefix: &str, after: Option<&BlobKey>, limit: u16) -> Vec<BlobEntry> {
        let listed = self.blobs.list(prefix, after.cloned(), limit).await;
        listed.unwrap()
    }

    /// The keys below a folder, without it, read in pages of `limit`.
    async fn names(&self, folder: &str, limit: u16) -> Vec<String> {
        let prefix = format!("{folder}/");
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = self.listed(&prefix, after.as_ref(), limit).await;
            assert!(page.len() <= usize::from(limit), "{} entries", page.len());
            let Some(last) = page.last() else {
                return names;
            };
            after = Some(last.key.clone());
            let page = page.iter().map(|entry| entry.key.as_str());
            names.extend(page.map(|key| key.strip_prefix(&prefix).unwrap().to_owned()));
            assert!(names.len() < 1_000, "the list never ends");
        }
    }

    async fn stored_below(&self, folder: &str, names: &[&str]) {
        for (number, name) in names.iter().enumerate() {
            let key = key(&format!("{folder}/{name}"));
            self.stored(&key, &pattern(number)).await;
        }
    }
}

fn a_folder() -> String {
    format!("user-{}", random_id())
}

/// Objects are listed by the bytes of their keys, whatever their depth, each
/// with its size and the time when it was written.
pub async fn objects_are_listed_by_prefix_in_order(h: &Harness) {
    let folder = a_folder();
    let names = [
        "loras/b",
        "z",
        "loras/a/deep/er",
        "loras.txt",
        "a",
        "loras/B",
        "lora",
        "loras-2/x",
    ];
    let before = WallClock.now() - CLOCKS_DIFFER_BY;
    h.stored_below(&folder, &names).await;
    let after = WallClock.now() + CLOCKS_DIFFER_BY;

    let listed = h.listed(&format!("{folder}/"), None, 100).await;

    let mut expected: Vec<_> = (0_u64..)
        .zip(names)
        .map(|(size_bytes, name)| (format!("{folder}/{name}"), size_bytes))
        .collect();
    expected.sort();
    let found: Vec<_> = listed
        .iter()
        .map(|entry| (entry.key.to_string(), entry.size_bytes))
        .collect();
    assert_eq!(found, expected);
    for entry in listed {
        let written = entry.modified_at;
        assert!(before < written && written < after, "{written}");
    }
}

/// A list goes on after any key, of an object or not, and has as many entries
/// as are asked for.
pub async fn a_list_goes_on_after_a_key(h: &Harness) {
    let folder = a_folder();
    let names = [
        "a/b", "a/c", "a-1", "a0", "b/1", "b/10", "b/2", "c", "d/e/f", "d/e/g", "d0",
    ];
    h.stored_below(&folder, &names).await;
    let mut sorted = names.map(str::to_owned);
    sorted.sort();

    for limit in [1, 2, 3, 7, 200] {
        assert_eq!(h.names(&folder, limit).await, sorted, "{limit}");
    }
    let beyond = key(&format!("{folder}/b/11"));
    let rest = h.listed(&format!("{folder}/"), Some(&beyond), 2).await;
    let rest: Vec<_> = rest.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(rest, [format!("{folder}/b/2"), format!("{folder}/c")]);
    let end = key(&format!("{folder}/d0"));
    assert_eq!(h.listed(&format!("{folder}/"), Some(&end), 5).await, []);
    assert_eq!(h.listed(&format!("{folder}/"), None, 0).await, []);
}

/// A prefix is a beginning of a key, not a folder.
pub async fn a_prefix_may_end_anywhere(h: &Harness) {
    let folder = a_folder();
    h.stored_below(&folder, &["lora", "loras/a", "loras/b", "other"])
        .await;
    for (prefix, expected) in [
        (format!("{folder}/lora"), 3),
        (format!("{folder}/loras/"), 2),
        (format!("{folder}/loras/a"), 1),
        (folder.clone(), 4),
        (format!("{folder}/none"), 0),
        (format!("{folder}/lora/"), 0),
    ] {
        let listed = h.listed(&prefix, None, 100).await;
        assert_eq!(listed.len(), expected, "{prefix}");
    }
    let lora = key(&format!("{folder}/lora"));
    let rest = h.listed(&format!("{folder}/lora"), Some(&lora), 100).await;
    assert_eq!(rest.len(), 2);
}

/// What is being written, was given up or deleted is on no list.
pub async fn only_finished_objects_are_listed(h: &Harness) {
    let folder = a_folder();
    let [begun, dropped, deleted] =
        ["begun", "dropped", "deleted"].map(|name| key(&format!("{folder}/{name}")));
    let writer = h.begun(&begun, &pattern(18 << 20)).await;
    drop(h.begun(&dropped, &pattern(10)).await);
    h.stored(&deleted, &pattern(10)).await;
    h.blobs.delete(&deleted).await.unwrap();
    assert_eq!(h.names(&folder, 10).await, Vec::<String>::new());

    writer.finish().await.unwrap();

    assert_eq!(h.names(&folder, 10).await, ["begun"]);
    h.stored(&begun, &Bytes::from_static(b"new")).await;
    let listed = h.listed(&folder, None, 10).await;
    let sizes: Vec<_> = listed.iter().map(|entry| entry.size_bytes).collect();
    assert_eq!(sizes, [3]);
}

/// Keys come back as they were given, however a store writes them.
pub async fn odd_keys_are_listed_as_they_are(h: &Harness) {
    let folder = a_folder();
    let names = [
        "with blank",
        "with%20blank",
        "with+blank",
        "ünï",
        "u\u{308}n\u{131}",
        "日本語 🙂/x",
        "a?b=c&d#e",
        "a#1",
        "a%231",
        "a*b~c|d<e>f\"g'h`i",
        "a:b;c,d=e@f$g!h^i",
        ".hidden",
        "trailing.",
        "UPPER",
        "upper",
    ];
    h.stored_below(&folder, &names).await;
    let mut sorted = names.map(str::to_owned);
    sorted.sort();

    for limit in [3, 100] {
        assert_eq!(h.names(&folder, limit).await, sorted);
    }
}

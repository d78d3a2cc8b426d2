//! What a LoRA file says of itself.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::SafetensorsHeader;
use super::family::base_model;
use super::network::{network_type, rank};
use crate::lora::LoraFacts;

/// Characters kept of a text that the file says of itself.
const MAX_TEXT_CHARS: usize = 200;
/// Characters of a trigger word.
const MAX_WORD_CHARS: usize = 100;
const MAX_TRIGGER_WORDS: usize = 10;
/// Different tags counted; training sets have thousands, hostile files as many as fit.
const MAX_TAGS: usize = 20_000;

const TITLE: [&str; 2] = ["modelspec.title", "ss_output_name"];

/// Texts and numbers worth showing: what they are called here, and where trainers write them
/// (`reference/platform/PROTOCOLS.md` section 6.2), best first.
const SHOWN: [(&str, &[&str]); 7] = [
    ("author", &["modelspec.author"]),
    ("license", &["modelspec.license"]),
    ("description", &["modelspec.description"]),
    ("usage_hint", &["modelspec.usage_hint"]),
    ("resolution", &["modelspec.resolution", "ss_resolution"]),
    ("network_module", &["ss_network_module"]),
    ("trained_on", &["ss_sd_model_name"]),
];

/// Reads what the file's tensors and metadata say; the latter are hints, unproven, and come out bounded in size and
/// without control characters.
///
/// `trigger_words` are at most 10: the file's trigger phrase, then its most frequent training tags. `metadata` holds
/// texts such as `author`, and `alpha` as a number where it is one. Time and memory are linear in the header's size.
pub fn lora_facts(header: &SafetensorsHeader) -> LoraFacts {
    let metadata = header.metadata();
    LoraFacts {
        base_model: base_model(header),
        title: first_text(metadata, &TITLE),
        rank: rank(header),
        network_type: network_type(header),
        trigger_words: trigger_words(metadata),
        metadata: shown(metadata),
    }
}

fn shown(metadata: &BTreeMap<String, String>) -> Map<String, Value> {
    let mut shown = Map::new();
    for (name, keys) in SHOWN {
        if let Some(text) = first_text(metadata, keys) {
            shown.insert(name.to_owned(), Value::String(text));
        }
    }
    let alpha = metadata
        .get("ss_network_alpha")
        .and_then(|alpha| alpha.trim().parse::<f64>().ok())
        .and_then(serde_json::Number::from_f64);
    if let Some(alpha) = alpha {
        shown.insert("alpha".to_owned(), Value::Number(alpha));
    }
    shown
}

fn first_text(metadata: &BTreeMap<String, String>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| {
        metadata
            .get(*key)
            .and_then(|text| cleaned(text, MAX_TEXT_CHARS))
    })
}

/// Drops control characters, keeps at most `max_chars`; `None` for nothing, and for Python's `None`.
fn cleaned(text: &str, max_chars: usize) -> Option<String> {
    let cleaned: String = text
        .chars()
        .filter(|character| !character.is_control())
        .take(max_chars)
        .collect();
    let cleaned = cleaned.trim();
    (!cleaned.is_empty() && cleaned != "None").then(|| cleaned.to_owned())
}

fn trigger_words(metadata: &BTreeMap<String, String>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut add = |word: &str| {
        let Some(word) = cleaned(word, MAX_WORD_CHARS) else {
            return;
        };
        let is_new = !words.iter().any(|known| known.eq_ignore_ascii_case(&word));
        if is_new && words.len() < MAX_TRIGGER_WORDS {
            words.push(word);
        }
    };
    if let Some(phrase) = metadata.get("modelspec.trigger_phrase") {
        phrase.split(',').take(MAX_TRIGGER_WORDS).for_each(&mut add);
    }
    if let Some(frequency) = metadata.get("ss_tag_frequency") {
        let mut tags: Vec<(String, u64)> = tag_counts(frequency).into_iter().collect();
        tags.sort_by(|(one, one_count), (other, other_count)| {
            other_count.cmp(one_count).then_with(|| one.cmp(other))
        });
        tags.iter()
            .take(MAX_TRIGGER_WORDS)
            .for_each(|(tag, _)| add(tag));
    }
    words
}

/// Sums the counts of `{dataset: {tag: count}}`; keeps what it could read of anything else.
///
/// Streams, because the text can be many megabytes and as a value would be many times that.
fn tag_counts(text: &str) -> HashMap<String, u64> {
    let mut counts = HashMap::new();
    let outcome = Counts {
        counts: &mut counts,
        datasets_around: true,
    }
    .deserialize(&mut serde_json::Deserializer::from_str(text));
    // Garbage after some good tags does not make them worse hints.
    drop(outcome);
    counts
}

struct Counts<'a> {
    counts: &'a mut HashMap<String, u64>,
    datasets_around: bool,
}

impl<'de> DeserializeSeed<'de> for Counts<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Counts<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("tags and how often they occur")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.datasets_around {
            while map.next_key::<IgnoredAny>()?.is_some() {
                map.next_value_seed(Counts {
                    counts: self.counts,
                    datasets_around: false,
                })?;
            }
            return Ok(());
        }
        while let Some((tag, count)) = map.next_entry::<String, f64>()? {
            let Some(tag) = cleaned(&tag, MAX_WORD_CHARS) else {
                continue;
            };
            if self.counts.len() >= MAX_TAGS && !self.counts.contains_key(&tag) {
                return Err(A::Error::custom("too many tags"));
            }
            let total = self.counts.entry(tag).or_default();
            *total = total.saturating_add(whole(count));
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, which is what a count of a hostile file should do"
)]
const fn whole(count: f64) -> u64 {
    count as u64
}

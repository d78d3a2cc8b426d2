use std::collections::BTreeSet;

use atelier_domain::actor::Actor;
use atelier_domain::digest::{Blake3Digest, Sha256Digest};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{
    BaseModel, BaseModelFamily, BaseModelFilter, Confidence, LoraFacts, LoraFilter, LoraHash,
    LoraHashes, LoraStatus, NewLora, ReceivedLora,
};
use atelier_domain::ports::{LoraName, WriteOutcome};
use atelier_domain::text::Description;

use super::{Harness, latest};
use crate::build::{a_new_lora, an_actor, name, next_time, received, tags};
use crate::conformance::{LIMITS, all_pages, page};

impl Harness {
    async fn listed(&self, actor: &Actor, filter: &LoraFilter, limit: u16) -> Vec<LoraId> {
        let loras = all_pages(limit, async |request| {
            let listed = self.loras.list(actor, filter.clone(), request).await;
            listed.unwrap()
        })
        .await;
        loras.iter().map(|lora| lora.id).collect()
    }
}

/// The pages of the LoRAs are the LoRAs, newest first, for every limit.
pub async fn pages_of_loras_join_to_the_whole_list(h: &Harness) {
    let alice = an_actor();
    let moment = next_time();
    let mut loras = Vec::new();
    for count in 0..10 {
        let mut new = a_new_lora(&format!("{count}.safetensors"));
        if count % 2 == 0 {
            new.created_at = moment;
        }
        loras.push(h.loras.reserve(&alice, new).await.unwrap());
    }
    loras.sort_by_key(|lora| std::cmp::Reverse((lora.created_at, lora.id.as_uuid())));
    let expected: Vec<_> = loras.iter().map(|lora| lora.id).collect();
    for limit in [1, 2, 3, 9, 10, 11] {
        let listed = h.listed(&alice, &LoraFilter::default(), limit).await;
        assert_eq!(listed, expected, "limit {limit}");
    }
    let whole = h.loras.list(&alice, LoraFilter::default(), page(10)).await;
    let whole = whole.unwrap();
    assert_eq!(whole.items, loras);
    assert_eq!(whole.next, None);
}

/// Status, tag and text narrow the list, alone and together.
pub async fn lora_filters_narrow_the_list(h: &Harness) {
    let alice = an_actor();
    let ready = h.ready(&alice, "Grüner Stil.safetensors", b"1").await.id;
    let failed = h.failed(&alice, "b.safetensors").await.id;
    let new = NewLora {
        name: name("Der GRÜNE Name"),
        tags: tags(&["one", "two"]),
        ..a_new_lora("c.safetensors")
    };
    let tagged = h.loras.reserve(&alice, new).await.unwrap().id;
    let new = NewLora {
        description: Some(Description::parse("beschreibt Grünes").unwrap()),
        tags: tags(&["twofold"]),
        ..a_new_lora("d.safetensors")
    };
    let described = h.loras.reserve(&alice, new).await.unwrap().id;
    let uploading = Some(LoraStatus::Uploading);
    for (status, tag, text, expected) in [
        (None, None, None, vec![described, tagged, failed, ready]),
        (uploading, None, None, vec![described, tagged]),
        (Some(LoraStatus::Ready), None, None, vec![ready]),
        (Some(LoraStatus::Failed), None, None, vec![failed]),
        (Some(LoraStatus::Importing), None, None, vec![]),
        (None, Some("two"), None, vec![tagged]),
        (None, Some("TWO"), None, vec![]),
        (None, None, Some("grün"), vec![described, tagged, ready]),
        (uploading, Some("two"), Some("GRÜN"), vec![tagged]),
        (uploading, Some("two"), Some("rot"), vec![]),
    ] {
        let filter = LoraFilter {
            status,
            tag: tag.map(str::to_owned),
            text: text.map(str::to_owned),
            ..LoraFilter::default()
        };
        for limit in LIMITS {
            let listed = h.listed(&alice, &filter, limit).await;
            assert_eq!(listed, expected, "{filter:?}, limit {limit}");
        }
    }
}

/// `%`, `_` and `\` stand for themselves.
pub async fn a_lora_text_filter_takes_wildcards_for_what_they_are(h: &Harness) {
    let alice = an_actor();
    let percent = h.reserved(&alice, "100%.safetensors").await.id;
    let underscore = h.reserved(&alice, "snake_case.safetensors").await.id;
    h.reserved(&alice, "plain.safetensors").await;
    for (text, expected) in [
        ("%", vec![percent]),
        ("_", vec![underscore]),
        ("1%s", vec![]),
        ("\\", vec![]),
        ("\\_", vec![]),
    ] {
        let filter = LoraFilter {
            text: Some(text.to_owned()),
            ..LoraFilter::default()
        };
        assert_eq!(h.listed(&alice, &filter, 50).await, expected, "{text:?}");
    }
}

/// Only the actor's own, ready ones of exactly these names are found.
pub async fn ready_loras_are_found_by_filename(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    let second = h.ready(&alice, "b.safetensors", b"2").await;
    h.reserved(&alice, "c.safetensors").await;
    h.failed(&alice, "d.safetensors").await;
    let gone = h.ready(&alice, "e.safetensors", b"3").await;
    h.deleted(&alice, gone.id).await;
    h.ready(&bob, "f.safetensors", b"4").await;
    let names = |letters: &str| -> Vec<LoraName> {
        let name = |letter| latest(&format!("{letter}.safetensors"));
        letters.chars().map(name).collect()
    };
    let find = async |letters: &str| {
        let found = h.loras.find_ready(&alice, names(letters)).await.unwrap();
        let ids: BTreeSet<_> = found.iter().map(|lora| lora.id).collect();
        assert_eq!(ids.len(), found.len(), "one came twice");
        ids
    };

    assert_eq!(find("abcdefg").await, BTreeSet::from([first.id, second.id]));
    assert_eq!(find("bb").await, BTreeSet::from([second.id]));
    assert_eq!(find("A").await, BTreeSet::new());
    assert_eq!(find("").await, BTreeSet::new());
    let found = h.loras.find_ready(&alice, names("a")).await.unwrap();
    assert_eq!(found, [first]);
}

/// Nothing of its owner's finds a deleted LoRA, and its name is free.
pub async fn a_deleted_lora_is_gone_at_once(h: &Harness) {
    let alice = an_actor();
    let lora = h.ready(&alice, "a.safetensors", b"1").await;

    h.deleted(&alice, lora.id).await;

    assert_eq!(h.get(&alice, lora.id).await, None);
    let named = vec![LoraName::Latest(lora.filename.clone())];
    let found = h.loras.find_ready(&alice, named).await;
    assert_eq!(found.unwrap(), []);
    assert_eq!(h.listed(&alice, &LoraFilter::default(), 50).await, []);
    let again = h.loras.delete(&alice, lora.id).await;
    assert_eq!(again.unwrap(), WriteOutcome::NotFound);
    h.reserved(&alice, "a.safetensors").await;
}

/// Families are filtered by, and so is that none is known.
pub async fn loras_are_listed_by_base_model(h: &Harness) {
    let alice = an_actor();
    let of_family = async |filename: &str, family| {
        let facts = LoraFacts {
            base_model: Some(BaseModel {
                family,
                confidence: Confidence::High,
                evidence: "its tensors".to_owned(),
            }),
            ..LoraFacts::default()
        };
        let received = ReceivedLora {
            facts,
            ..received(filename.as_bytes())
        };
        h.ready_from(&alice, a_new_lora(filename), received)
            .await
            .id
    };
    let flux = of_family("a.safetensors", BaseModelFamily::Flux1).await;
    let large = of_family("b.safetensors", BaseModelFamily::StableDiffusionXl).await;
    let unknown = h.ready(&alice, "c.safetensors", b"3").await.id;
    for (wanted, expected) in [
        (BaseModelFilter::Family(BaseModelFamily::Flux1), vec![flux]),
        (
            BaseModelFilter::Family(BaseModelFamily::StableDiffusionXl),
            vec![large],
        ),
        (BaseModelFilter::Family(BaseModelFamily::Wan), vec![]),
        (BaseModelFilter::Unknown, vec![unknown]),
    ] {
        let filter = LoraFilter {
            base_model: Some(wanted),
            ..LoraFilter::default()
        };
        assert_eq!(h.listed(&alice, &filter, 50).await, expected, "{wanted:?}");
    }
}

/// Each hash that a file is known by finds it, for its owner alone.
pub async fn loras_are_listed_by_hash(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let hashes = LoraHashes {
        sha256: Sha256Digest::new([0xab; 32]),
        blake3: Some(Blake3Digest::new([0xcd; 32])),
        tensors_sha256: Some(Sha256Digest::new([0xef; 32])),
    };
    let full = ReceivedLora {
        hashes,
        ..received(b"1")
    };
    let lora = h
        .ready_from(&alice, a_new_lora("a.safetensors"), full)
        .await
        .id;
    h.ready(&alice, "b.safetensors", b"2").await;
    h.reserved(&alice, "c.safetensors").await;
    for (hash, is_known) in [
        ("ab".repeat(32), true),
        ("CD".repeat(32), true),
        ("ef".repeat(32), true),
        ("ab".repeat(5), true),
        ("ef".repeat(6), true),
        ("ef".repeat(5), false),
        ("ab".repeat(6), false),
        ("cd".repeat(5), false),
        ("00".repeat(32), false),
    ] {
        let filter = LoraFilter {
            hash: Some(LoraHash::parse(&hash).unwrap()),
            ..LoraFilter::default()
        };
        let expected: &[LoraId] = if is_known { &[lora] } else { &[] };
        assert_eq!(h.listed(&alice, &filter, 50).await, expected, "{hash}");
        assert_eq!(h.listed(&bob, &filter, 50).await, [], "{hash}");
    }
}

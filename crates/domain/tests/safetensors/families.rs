//! Families of base models, by headers as trainers write them.

use std::collections::BTreeMap;

use atelier_domain::lora::{BaseModel, BaseModelFamily, Confidence, LoraFacts};
use atelier_domain::safetensors::{family_of_architecture, lora_facts};
use serde_json::{Map, Value, json};

use crate::family_cases::{flow_cases, kohya, transformer_cases, unet_cases};
use crate::unknown_cases::unknown_cases;
use crate::{file, read};

fn facts(tensors: &[(String, Vec<usize>)], metadata: &Value) -> LoraFacts {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<usize>();
        header.insert(
            name.clone(),
            json!({"dtype": "U8", "shape": shape, "data_offsets": [begin, end]}),
        );
    }
    if !metadata.is_null() {
        header.insert("__metadata__".to_owned(), metadata.clone());
    }
    lora_facts(&read(&file(&Value::Object(header).to_string(), end)).unwrap())
}

fn base_model(tensors: &[(String, Vec<usize>)]) -> Option<BaseModel> {
    facts(tensors, &Value::Null).base_model
}

#[test]
fn families_are_told_by_their_tensors() {
    let cases = [unet_cases(), flow_cases(), transformer_cases()].concat();
    for (case, tensors, family, confidence) in cases {
        let found = base_model(&tensors).unwrap_or_else(|| panic!("{case}: nothing found"));

        assert_eq!(
            (found.family, found.confidence),
            (family, confidence),
            "{case}: {found:?}"
        );
        assert!(found.evidence.chars().count() <= 200, "{case}");
        assert!(
            tensors
                .iter()
                .any(|(name, _)| found.evidence.contains(name.as_str())),
            "{case}: {}",
            found.evidence
        );
    }
}

#[test]
fn what_others_look_like_stays_unknown() {
    for (case, tensors) in unknown_cases() {
        assert_eq!(base_model(&tensors), None, "{case}");
    }
}

#[test]
fn metadata_alone_give_little_confidence() {
    let unnamed = kohya(&[("something.else", 768, 768)]);
    for (metadata, family) in [
        (
            json!({"modelspec.architecture": "flux-1-dev/lora"}),
            BaseModelFamily::Flux1,
        ),
        (
            json!({"ss_base_model_version": "wan2.1"}),
            BaseModelFamily::Wan,
        ),
        (json!({"ss_v2": "True"}), BaseModelFamily::StableDiffusion2),
    ] {
        let found = facts(&unnamed, &metadata).base_model.unwrap();

        assert_eq!(
            (found.family, found.confidence),
            (family, Confidence::Low),
            "{metadata}"
        );
    }
    let ambiguous = kohya(&[("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216)]);
    let claimed = facts(&ambiguous, &json!({"ss_base_model_version": "flux1"}))
        .base_model
        .unwrap();
    assert_eq!(
        (claimed.family, claimed.confidence),
        (BaseModelFamily::Flux1, Confidence::Low)
    );
}

#[test]
fn metadata_that_contradict_the_tensors_leave_the_family_unknown() {
    let flux = kohya(&[
        ("lora_unet_double_blocks_18_img_attn_qkv", 3072, 9216),
        ("lora_unet_single_blocks_30_linear1", 3072, 21_504),
    ]);
    let unet = kohya(&[(
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2",
        1280,
        320,
    )]);
    for (tensors, metadata) in [
        (&flux, json!({"ss_base_model_version": "chroma"})),
        (
            &flux,
            json!({"modelspec.architecture": "stable-diffusion-v1/lora"}),
        ),
        (
            &flux,
            json!({"modelspec.architecture": "flux-1-dev", "ss_base_model_version": "sd3"}),
        ),
        (&unet, json!({"ss_base_model_version": "flux1"})),
    ] {
        assert_eq!(facts(tensors, &metadata).base_model, None, "{metadata}");
    }
    assert_eq!(
        facts(&flux, &json!({"ss_base_model_version": "my own model"}))
            .base_model
            .map(|found| found.family),
        Some(BaseModelFamily::Flux1),
        "words that mean nothing do not contradict"
    );
    let agreed = facts(&flux, &json!({"ss_base_model_version": "flux1"}))
        .base_model
        .unwrap();
    assert!(
        agreed.evidence.ends_with("; its metadata agree"),
        "{agreed:?}"
    );
}

#[test]
fn the_most_frequent_rank_counts() {
    let mut tensors = kohya(&[("a", 8, 8), ("b", 8, 8)]);
    tensors.push(("c.lora_down.weight".to_owned(), vec![64, 8]));
    tensors.push(("d.alpha".to_owned(), vec![]));

    assert_eq!(facts(&tensors, &Value::Null).rank, Some(4));
    assert_eq!(facts(&[], &json!({"ss_network_dim": "16"})).rank, Some(16));
    assert_eq!(facts(&[], &json!({"ss_network_dim": "Dynamic"})).rank, None);
    assert_eq!(facts(&[], &json!({"ss_network_dim": "0"})).rank, None);
    let empty = [("a.lora_down.weight".to_owned(), vec![0, 8])];
    assert_eq!(facts(&empty, &Value::Null).rank, None);
}

#[test]
fn network_types_are_told_by_their_parts() {
    for (parts, expected) in [
        (
            &["lora_down.weight", "lora_up.weight", "alpha"][..],
            Some("LoRA"),
        ),
        (&["lora_A.weight", "lora_B.weight"], Some("LoRA")),
        (
            &[
                "lora_A.default.weight",
                "lora_B.default.weight",
                "lora_magnitude_vector",
            ],
            Some("DoRA"),
        ),
        (
            &["lora_down.weight", "lora_up.weight", "dora_scale"],
            Some("DoRA"),
        ),
        (
            &["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"],
            Some("LoHa"),
        ),
        (
            &["lokr_w1", "lokr_w2_a", "lokr_w2_b", "alpha"],
            Some("LoKr"),
        ),
        (&["oft_blocks", "alpha"], Some("OFT")),
        (&["diff", "diff_b"], Some("full difference")),
        (&["a1.weight", "b1.weight"], Some("GLoRA")),
        (&["weight", "bias"], None),
    ] {
        let tensors: Vec<_> = parts
            .iter()
            .map(|part| (format!("lora_unet_x.{part}"), vec![2, 2]))
            .collect();
        assert_eq!(
            facts(&tensors, &Value::Null).network_type.as_deref(),
            expected,
            "{parts:?}"
        );
    }
}

#[test]
fn hostile_names_make_short_evidence() {
    let name = format!(
        "lora_unet_down_blocks_0_\u{1b}[2J{}_transformer_blocks_0_attn2_to_k",
        "x".repeat(300)
    );
    let found = base_model(&kohya(&[(&name, 768, 320)])).unwrap();

    assert_eq!(found.family, BaseModelFamily::StableDiffusion1);
    assert!(found.evidence.chars().count() <= 200);
    assert!(
        !found.evidence.chars().any(char::is_control),
        "{}",
        found.evidence
    );
    let numbers = kohya(&[
        (
            "lora_unet_double_blocks_99999999999999999999_img_mod_lin",
            3072,
            1,
        ),
        ("lora_unet_double_blocks__img_mod_lin", 3072, 1),
        ("lora_unet_lora_unet_transformer.", 3072, 1),
        ("", 1, 1),
    ]);
    assert_eq!(base_model(&numbers), None);
}

#[test]
fn a_checkpoints_family_is_read_from_its_metadata() {
    let metadata: BTreeMap<String, String> = [(
        "modelspec.architecture".to_owned(),
        "stable-diffusion-xl-v1-base".to_owned(),
    )]
    .into();

    assert_eq!(
        family_of_architecture(&metadata),
        Some(BaseModelFamily::StableDiffusionXl)
    );
    assert_eq!(family_of_architecture(&BTreeMap::new()), None);
}

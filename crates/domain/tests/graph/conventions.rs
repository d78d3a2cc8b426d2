//! Every custom convention of the recorded table: found, or refused with a pointer.

use atelier_domain::graph::LoraValue;
use serde_json::{Value, json};

use crate::loras::{found_in, name, values};
use crate::recorded;

const A: &str = "a.safetensors";
const B: &str = "folder/b.safetensors";
const TAGGED: &str = "a cat <lora:style:0.8>";

/// What becomes of a convention's inputs: each LoRA by the pointer below `/1/inputs/`.
struct Convention {
    /// The row of the table, or the rule for what is in none.
    recorded: &'static str,
    class: &'static str,
    inputs: Value,
    found: Vec<(&'static str, LoraValue)>,
}

fn convention(
    recorded: &'static str,
    class: &'static str,
    inputs: Value,
    found: Vec<(&'static str, LoraValue)>,
) -> Convention {
    Convention {
        recorded,
        class,
        inputs,
        found,
    }
}

/// One whose class and row have the same name.
fn of(class: &'static str, inputs: Value, found: Vec<(&'static str, LoraValue)>) -> Convention {
    convention(class, class, inputs, found)
}

fn tag() -> LoraValue {
    LoraValue::Tag(TAGGED.to_owned())
}

fn stackers() -> Vec<Convention> {
    let mut slots = json!({"input_mode": "simple", "lora_count": 1, "lora_stack": ["2", 0]});
    for slot in 1..=49 {
        slots[format!("lora_name_{slot}")] = json!("None");
        slots[format!("lora_wt_{slot}")] = json!(1.0);
    }
    slots["lora_name_1"] = json!(A);
    // Beyond the count, and validated all the same.
    slots["lora_name_49"] = json!(B);
    vec![
        of(
            "Lora Loader Stack (rgthree)",
            json!({"lora_01": A, "strength_01": 1.0, "lora_02": "None", "strength_02": 1.0,
                "lora_03": B, "strength_03": 0.0, "lora_04": "None", "strength_04": 1.0, "model": ["2", 0]}),
            vec![("lora_01", name(A)), ("lora_03", name(B))],
        ),
        of(
            "LoRA Stacker",
            slots,
            vec![("lora_name_1", name(A)), ("lora_name_49", name(B))],
        ),
        convention(
            "LoRA Stacker",
            "LoRA Stacker",
            json!({"lora_name_1": "None", "lora_name_2": B, "lora_name_3": "None", "lora_wt_2": 1.0}),
            vec![("lora_name_2", name(B))],
        ),
        of(
            "Efficient Loader",
            json!({"ckpt_name": "x.safetensors", "vae_name": "Baked VAE", "lora_name": A,
                "lora_model_strength": 1.0, "lora_clip_strength": 1.0}),
            vec![("lora_name", name(A))],
        ),
        convention(
            "Efficient Loader",
            "Efficient Loader",
            json!({"lora_name": "None"}),
            vec![],
        ),
        of(
            "CR LoRA Stack",
            json!({"switch_1": "Off", "lora_name_1": A, "model_weight_1": 1.0, "clip_weight_1": 1.0,
                "switch_2": "On", "lora_name_2": "None", "switch_3": "On", "lora_name_3": B}),
            vec![("lora_name_1", name(A)), ("lora_name_3", name(B))],
        ),
        of(
            "CR Load LoRA",
            json!({"switch": "Off", "lora_name": A, "strength_model": 1.0, "strength_clip": 1.0}),
            vec![("lora_name", name(A))],
        ),
        of(
            "easy loraStack",
            json!({"toggle": true, "mode": "advanced", "num_loras": 1, "lora_1_name": A, "lora_1_strength": 1.0,
                "lora_1_model_strength": 1.0, "lora_1_clip_strength": 1.0, "lora_2_name": "None",
                "lora_10_name": B}),
            vec![("lora_10_name", name(B)), ("lora_1_name", name(A))],
        ),
        of(
            "ttN pipeLoraStack",
            json!({"toggle": false, "mode": "simple", "num_loras": 2, "lora_1_name": A, "lora_2_name": "None"}),
            vec![("lora_1_name", name(A))],
        ),
    ]
}

fn texts() -> Vec<Convention> {
    let power = "Power Prompt (rgthree) / SDXL Power Prompt";
    vec![
        convention(
            power,
            "Power Prompt (rgthree)",
            json!({"prompt": "<lora:a.safetensors:0.5> x <lora:folder/b.safetensors>", "insert_lora": "CHOOSE"}),
            vec![("prompt", name(A)), ("prompt", name(B))],
        ),
        convention(
            power,
            "Power Prompt - Simple (rgthree)",
            json!({"prompt": TAGGED}),
            vec![("prompt", name("style"))],
        ),
        convention(
            power,
            "SDXL Power Prompt - Positive (rgthree)",
            json!({"prompt_g": TAGGED, "prompt_l": "<lora:a.safetensors:-1>"}),
            vec![("prompt_g", name("style")), ("prompt_l", name(A))],
        ),
        convention(
            power,
            "SDXL Power Prompt - Simple / Negative (rgthree)",
            json!({"prompt_g": "", "prompt_l": TAGGED}),
            vec![("prompt_l", name("style"))],
        ),
        of(
            "PromptExtraNetworks",
            json!({"prompt": "<lora:folder/b.safetensors:1:0.5>, <lora:a.safetensors>"}),
            vec![("prompt", name(B)), ("prompt", name(A))],
        ),
        of(
            "LoraTagLoader",
            json!({"text": TAGGED}),
            vec![("text", tag())],
        ),
        of(
            "LoRA Text Loader (LoraManager)",
            json!({"lora_syntax": TAGGED}),
            vec![("lora_syntax", tag())],
        ),
        of(
            "LoRA Loader Prompt Tags",
            json!({"prompt": TAGGED}),
            vec![("prompt", tag())],
        ),
        of(
            "Lora Loader (LoraManager)",
            json!({"text": TAGGED, "loras": {"__value__": [{"name": "style", "strength": 1.0, "active": false}]}}),
            vec![("loras", LoraValue::List), ("text", tag())],
        ),
        convention(
            "(generic rule)",
            "ImpactWildcardEncode",
            json!({"wildcard_text": TAGGED, "populated_text": "a cat"}),
            vec![("wildcard_text", tag())],
        ),
        convention(
            "(generic rule)",
            "Never Heard Of It",
            json!({"anything": {"__value__": [TAGGED]}}),
            vec![("anything", tag())],
        ),
    ]
}

fn others() -> Vec<Convention> {
    let generic = "(generic rule)";
    vec![
        of(
            "Power Lora Loader (rgthree)",
            json!({"lora_1": {"on": false, "lora": A, "strength": 1.0, "strengthTwo": null},
                "lora_2": {"on": true, "lora": "None", "strength": 1.0}, "➕ Add Lora": "",
                "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"}}),
            vec![("lora_1/lora", name(A)), ("lora_2/lora", name("None"))],
        ),
        convention(
            generic,
            "Never Heard Of It",
            json!({"LoRA_Name": A, "lora_count": 3}),
            vec![("LoRA_Name", name(A))],
        ),
        convention(
            generic,
            "Never Heard Of It",
            json!({"my_lora_weights": A}),
            vec![("my_lora_weights", name(A))],
        ),
        convention(
            generic,
            "Never Heard Of It",
            json!({"lora": {"name": "x"}}),
            vec![("lora", LoraValue::Malformed)],
        ),
        convention(
            generic,
            "Never Heard Of It",
            json!({"lora_1": {"__value__": "x"}}),
            vec![("lora_1", LoraValue::Malformed)],
        ),
        convention(
            generic,
            "Never Heard Of It",
            json!({"stack.lora_2": A}),
            vec![("stack.lora_2", name(A))],
        ),
        convention(
            generic,
            "Never Heard Of It",
            json!({"lora_name": ["2", 0]}),
            vec![("lora_name", LoraValue::Linked)],
        ),
        convention(
            generic,
            "TrainLoraNode",
            json!({"existing_lora": "[None]"}),
            vec![],
        ),
        convention(
            generic,
            "TrainLoraNode",
            json!({"existing_lora": A}),
            vec![("existing_lora", name(A))],
        ),
    ]
}

#[test]
fn every_convention_is_found_or_refused_with_a_pointer() {
    for case in stackers().into_iter().chain(texts()).chain(others()) {
        let found = found_in(case.class, case.inputs.clone());

        let expected: Vec<_> = case
            .found
            .iter()
            .map(|(input, value)| (format!("/1/inputs/{input}"), value))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(pointer, value)| (pointer.as_str(), *value))
            .collect();
        assert_eq!(values(&found), expected, "{} {}", case.class, case.inputs);
    }
}

#[test]
fn no_recorded_convention_is_left_out() {
    let covered: Vec<_> = stackers()
        .into_iter()
        .chain(texts())
        .chain(others())
        .map(|case| case.recorded)
        .collect();
    let rows = recorded("custom_nodes");
    assert_eq!(rows.len(), 14);
    for row in rows {
        let class = row["class"].as_str().unwrap();
        assert!(covered.contains(&class), "{class} has no case");
    }
}

#[test]
fn no_tag_in_a_loader_goes_unseen() {
    for (class, input) in [
        ("LoraTagLoader", "text"),
        ("LoRA Text Loader (LoraManager)", "lora_syntax"),
        ("LoRA Loader Prompt Tags", "text"),
        ("ImpactWildcardProcessor", "populated_text"),
        ("Power Prompt (rgthree)", "prompt"),
        ("PromptExtraNetworks", "text"),
    ] {
        for text in [
            "<lora:style:0.8:0.5:1>",
            "< lora:style:1>",
            "<LORA:style:1>",
            "<lora:style",
            "<lora:sty<le:1>",
            "<lora:fine:1> <lora:style:x>",
        ] {
            let found = found_in(class, json!({input: text}));
            assert_eq!(found.len(), 1, "{class} {text}");
            assert_eq!(found[0].value, LoraValue::Tag(text.to_owned()), "{class}");
            assert!(found[0].value.name().is_err());
        }
        for link in [json!(["2", 0]), json!({"__value__": ["2", 0]})] {
            let found = found_in(class, json!({input: link}));
            assert_eq!(found[0].value, LoraValue::Linked, "{class}");
        }
    }
}

#[test]
fn tags_that_a_class_would_put_together_itself_are_refused() {
    for (class, text, is_refused) in [
        ("ImpactWildcardEncode", "<{lora|lora}:victim:1>", true),
        ("ImpactWildcardProcessor", "{<lora|<lora}:victim:1>", true),
        ("easy wildcards", "<__x__:victim:1>", true),
        ("ImpactWildcardEncode", "a {red|blue} cat", false),
        ("ImpactWildcardEncode", "I <3 cats", false),
        ("CLIPTextEncode", "<{lora|lora}:victim:1>", false),
    ] {
        let found = found_in(class, json!({"wildcard_text": text}));
        let refused = found
            .iter()
            .any(|input| matches!(input.value, LoraValue::Tag(_)));
        assert_eq!(refused, is_refused, "{class} {text}");
    }
}

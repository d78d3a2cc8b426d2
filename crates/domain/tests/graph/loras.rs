use atelier_domain::graph::{LoraInput, LoraInputTable, LoraValue, PromptGraph};
use serde_json::{Value, json};

use crate::{SD15_LORA, graph, input, recorded};

#[expect(clippy::needless_pass_by_value, reason = "cases read as literals")]
pub(crate) fn found_in(class_type: &str, inputs: Value) -> Vec<LoraInput> {
    let document = json!({"1": {"class_type": class_type, "inputs": inputs}, "2": {"class_type": "B", "inputs": {}}});
    graph(&document).lora_inputs(&LoraInputTable::core())
}

pub(crate) fn values(found: &[LoraInput]) -> Vec<(&str, &LoraValue)> {
    found
        .iter()
        .map(|input| (input.pointer.as_str(), &input.value))
        .collect()
}

pub(crate) fn name(text: &str) -> LoraValue {
    LoraValue::Name(text.to_owned())
}

#[test]
fn every_recorded_core_lora_input_is_found() {
    let rows: Vec<Value> = recorded("core")
        .into_iter()
        .filter(|row| row["folders"] == json!(["loras"]))
        .collect();
    assert_eq!(rows.len(), 7);

    for row in rows {
        let input = row["input"].as_str().unwrap();
        let found = found_in(
            row["class"].as_str().unwrap(),
            json!({input: "x.safetensors"}),
        );

        let pointer = format!("/1/inputs/{input}");
        assert_eq!(
            values(&found),
            [(pointer.as_str(), &name("x.safetensors"))],
            "{row}"
        );
    }
}

#[test]
fn other_model_inputs_are_not_loras() {
    for row in recorded("core")
        .iter()
        .filter(|row| row["folders"] != json!(["loras"]))
    {
        let inputs = json!({row["input"].as_str().unwrap(): "x.safetensors"});
        assert_eq!(
            found_in(row["class"].as_str().unwrap(), inputs),
            [],
            "{row}"
        );
    }
}

#[test]
fn none_is_a_file_name_where_the_class_has_no_such_option() {
    assert_eq!(
        found_in("LoraLoader", json!({"lora_name": "None"}))[0].value,
        name("None")
    );
    assert_eq!(
        found_in("LoraLoader", json!({"lora_name": ""}))[0].value,
        name("")
    );
    assert_eq!(
        found_in("TrainLoraNode", json!({"existing_lora": "[None]"})),
        []
    );
    assert_eq!(found_in("CR Load LoRA", json!({"lora_name": "None"})), []);
}

#[test]
fn power_lora_rows_are_found_switched_on_or_off() {
    let found = found_in(
        "Power Lora Loader (rgthree)",
        json!({
            "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"},
            "➕ Add Lora": "",
            "lora_1": {"on": true, "lora": "a.safetensors", "strength": 1.0},
            "LORA_2": {"on": false, "lora": "b", "strength": 1.0},
            "lora_3": {"on": true, "lora": null, "strength": 1.0},
            "lora_4": {"on": true, "lora": "", "strength": 1.0},
            "lora_5": {"__value__": {"on": true, "lora": "c", "strength": 1.0}},
            "lora_6": ["2", 0],
            "lora_7": {"on": true, "lora": ["2", 0], "strength": 1.0},
        }),
    );

    assert_eq!(
        values(&found),
        [
            ("/1/inputs/LORA_2/lora", &name("b")),
            ("/1/inputs/lora_1/lora", &name("a.safetensors")),
            ("/1/inputs/lora_4/lora", &name("")),
            ("/1/inputs/lora_5", &LoraValue::Malformed),
            ("/1/inputs/lora_6", &LoraValue::Linked),
            ("/1/inputs/lora_7", &LoraValue::Malformed),
        ]
    );
}

#[test]
fn what_cannot_be_checked_is_told_as_such() {
    let cases = [
        (json!(["2", 0]), LoraValue::Linked),
        (json!(5), LoraValue::Malformed),
        (json!(null), LoraValue::Malformed),
        (json!({"__value__": "x.safetensors"}), LoraValue::Malformed),
        (json!(["x.safetensors"]), LoraValue::Malformed),
    ];

    for (value, expected) in cases {
        let found = found_in("LoraLoader", json!({"lora_name": value}));
        assert_eq!(found[0].value, expected);
        assert!(found[0].value.name().is_err());
    }
}

#[test]
fn a_text_that_comes_over_a_link_to_a_tag_loader_is_caught() {
    let found = found_in(
        "LoraTagLoader",
        json!({"text": ["2", 0], "model": ["2", 0]}),
    );

    assert_eq!(values(&found), [("/1/inputs/text", &LoraValue::Linked)]);
}

#[test]
fn tags_are_just_words_to_a_plain_encoder() {
    assert_eq!(
        found_in("CLIPTextEncode", json!({"text": "a cat <lora:style:0.8>"})),
        []
    );
    assert_eq!(found_in("Anything", json!({"text": "a cat"})), []);
    assert_eq!(
        found_in("PrimitiveString", json!({"value": "<lora:x:1>"})).len(),
        1
    );
}

#[test]
fn lora_managers_lists_are_caught_unless_they_are_empty() {
    let class = "Lora Loader (LoraManager)";
    let list = json!([{"name": "style", "strength": 1.0, "active": true}]);

    for loras in [list.clone(), json!({"__value__": list})] {
        let found = found_in(class, json!({"text": "", "loras": loras}));
        assert_eq!(values(&found), [("/1/inputs/loras", &LoraValue::List)]);
    }
    assert_eq!(
        found_in(class, json!({"text": "", "loras": {"__value__": []}})),
        []
    );
}

#[test]
fn a_lora_that_the_graph_trains_may_come_over_a_link() {
    assert_eq!(
        found_in("SaveLoRA", json!({"lora": ["2", 0], "prefix": "x"})),
        []
    );
    assert_eq!(found_in("Any", json!({"lora": "x"}))[0].value, name("x"));
}

#[test]
fn nested_inputs_of_newer_classes_are_found() {
    let found = found_in("Any", json!({"mode.lora_name": "x.safetensors"}));

    assert_eq!(
        values(&found),
        [("/1/inputs/mode.lora_name", &name("x.safetensors"))]
    );
}

#[test]
fn inputs_that_a_backend_showed_are_found() {
    let table: LoraInputTable = [("MyLoader", "weights")].into_iter().collect();
    let document = json!({"1": {"class_type": "MyLoader", "inputs": {"weights": "x.safetensors"}},
                          "2": {"class_type": "MyLoader", "inputs": {"weights": "None"}}});

    let found = graph(&document).lora_inputs(&table);

    assert_eq!(
        values(&found),
        [("/1/inputs/weights", &name("x.safetensors"))]
    );
}

#[test]
fn rows_that_would_take_another_file_are_told() {
    let loose = |class: &str, inputs: Value| found_in(class, inputs)[0].matches_loosely();

    assert!(loose(
        "Power Lora Loader (rgthree)",
        json!({"lora_1": {"on": true, "lora": "a", "strength": 1.0}})
    ));
    assert!(loose(
        "Power Prompt (rgthree)",
        json!({"prompt": "<lora:a:1>"})
    ));
    assert!(!loose("LoraLoader", json!({"lora_name": "a"})));
}

#[test]
fn loras_are_rewritten_where_they_were_found_and_nowhere_else() {
    let document = json!({
        "1": {"class_type": "LoraLoader", "inputs": {"lora_name": "a.safetensors", "strength_model": 1.0}},
        "2": {"class_type": "Power Lora Loader (rgthree)", "inputs":
            {"lora_1": {"on": true, "lora": "a", "strength": 0.5}}},
    });
    let stored = graph(&document);
    let paths: Vec<_> = stored
        .lora_inputs(&LoraInputTable::core())
        .into_iter()
        .map(|found| (found.location, format!("user-x/{}", found.node_id)))
        .collect();

    let rewritten = stored.with_loras(&paths).unwrap();

    assert_eq!(
        serde_json::from_str::<Value>(rewritten.to_json().as_str()).unwrap(),
        json!({
            "1": {"class_type": "LoraLoader", "inputs": {"lora_name": "user-x/1", "strength_model": 1.0}},
            "2": {"class_type": "Power Lora Loader (rgthree)", "inputs":
                {"lora_1": {"on": true, "lora": "user-x/2", "strength": 0.5}}},
        })
    );
    assert_eq!(
        stored,
        graph(&document),
        "the stored graph is never changed"
    );
}

#[test]
fn a_location_of_another_graph_is_refused() {
    let other = PromptGraph::parse(SD15_LORA).unwrap();
    let location = other.lora_inputs(&LoraInputTable::core())[0]
        .location
        .clone();
    let stored = graph(&json!({"1": {"class_type": "A", "inputs": {}}}));

    let violations = stored
        .with_loras(&[(location, "x".to_owned())])
        .unwrap_err();

    assert_eq!(violations[0].pointer, "/10/inputs/lora_name");
    assert_eq!(input(&other, "10", "strength_model"), 1.0);
}

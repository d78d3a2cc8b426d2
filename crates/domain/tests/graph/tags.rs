//! `<lora:name:weight>` in texts: found one by one, and rewritten.

use atelier_domain::graph::{LoraInputTable, PromptGraph};
use serde_json::{Value, json};

use crate::{OTHER, OWNER, graph, input, pointers};

const CLASS: &str = "Power Prompt (rgthree)";

fn with_prompt(text: &str) -> PromptGraph {
    graph(
        &json!({"1": {"class_type": CLASS, "inputs": {"prompt": text, "model": ["2", 0]}},
                  "2": {"class_type": "B", "inputs": {}}}),
    )
}

/// Writes the paths in the order of the LoRAs found; `None` leaves one as it is.
fn rewritten(stored: &PromptGraph, paths: &[Option<&str>]) -> PromptGraph {
    let found = stored.lora_inputs(&LoraInputTable::core());
    assert_eq!(found.len(), paths.len());
    let paths: Vec<_> = found
        .into_iter()
        .zip(paths)
        .filter_map(|(found, path)| Some((found.location, (*path)?.to_owned())))
        .collect();
    stored.with_loras(&paths).unwrap()
}

fn names(graph: &PromptGraph) -> Vec<String> {
    graph
        .lora_inputs(&LoraInputTable::core())
        .iter()
        .map(|found| found.value.name().unwrap().to_owned())
        .collect()
}

#[test]
fn every_tag_of_a_text_is_rewritten_and_the_rest_stays() {
    let stored = with_prompt(
        "é <lora:a:0.80>, <b>  <lora:system.safetensors>\n<lora:a:> {x|y} <lora:c:-1>…",
    );

    let bound = rewritten(
        &stored,
        &[
            Some("user-x/a.safetensors"),
            None,
            Some("user-x/long/a 2.safetensors"),
            Some("c"),
        ],
    );

    assert_eq!(
        input(&bound, "1", "prompt"),
        "é <lora:user-x/a.safetensors:0.80>, <b>  <lora:system.safetensors>\n\
         <lora:user-x/long/a 2.safetensors:> {x|y} <lora:c:-1>…"
    );
    assert_eq!(input(&bound, "1", "model"), json!(["2", 0]));
    assert_eq!(
        names(&bound),
        [
            "user-x/a.safetensors",
            "system.safetensors",
            "user-x/long/a 2.safetensors",
            "c"
        ],
        "what is looked at before a run sees the paths"
    );
}

#[test]
fn tags_are_told_at_the_pointer_of_their_text() {
    let found = with_prompt("<lora:a:1> <lora:b:1>").lora_inputs(&LoraInputTable::core());

    assert_eq!(found.len(), 2);
    for one in &found {
        assert_eq!(one.pointer, "/1/inputs/prompt");
        assert!(one.location.is_tag());
    }
    assert_ne!(found[0].location, found[1].location);
}

#[test]
fn a_path_that_would_end_its_tag_is_refused() {
    let stored = with_prompt("<lora:a:1> <lora:b:1>");
    let found = stored.lora_inputs(&LoraInputTable::core());

    for path in ["user-x/a:b.safetensors", "a>b", "a<lora", "", "a\nb"] {
        let violations = stored
            .with_loras(&[(found[1].location.clone(), path.to_owned())])
            .unwrap_err();
        assert_eq!(pointers(&violations), ["/1/inputs/prompt"], "{path}");
    }
}

#[test]
fn a_tag_that_is_not_there_is_refused() {
    let location = with_prompt("<lora:a:1> <lora:b:1>").lora_inputs(&LoraInputTable::core())[1]
        .location
        .clone();

    for text in ["<lora:a:1>", "no tags", "<lora:a:1> <lora:b:bad>"] {
        let outcome = with_prompt(text).with_loras(&[(location.clone(), "x".to_owned())]);
        assert_eq!(
            pointers(&outcome.unwrap_err()),
            ["/1/inputs/prompt"],
            "{text}"
        );
    }
}

#[test]
fn the_text_around_a_tag_may_not_name_another_users_folder() {
    let violations = with_prompt(&format!("<lora:mine:1> user-{OTHER}/theirs.safetensors"))
        .file_name_violations(OWNER);
    assert_eq!(pointers(&violations), ["/1/inputs/prompt"]);

    let own = with_prompt(&format!("<lora:user-{OWNER}/mine.safetensors:1>"));
    assert_eq!(own.file_name_violations(OWNER), []);
}

#[test]
fn what_the_power_prompts_offer_besides_files_is_no_lora() {
    let table: LoraInputTable = [(CLASS, "insert_lora")].into_iter().collect();
    for (value, is_lora) in [
        ("CHOOSE", false),
        ("DISABLE LORAS", false),
        ("a.safetensors", true),
    ] {
        let stored = graph(
            &json!({"1": {"class_type": CLASS, "inputs": {"insert_lora": Value::from(value)}}}),
        );
        assert_eq!(
            stored.lora_inputs(&table).len(),
            usize::from(is_lora),
            "{value}"
        );
    }
}

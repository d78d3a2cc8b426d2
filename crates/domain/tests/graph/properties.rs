use std::path::{Component, Path};

use atelier_domain::graph::{LoraInputTable, PromptGraph};
use atelier_domain::lora::{LoraFilename, LoraPath, LoraReference, resolve_reference};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::{OWNER, SD15_LORA};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[^\0]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            // Three items, so that no array is a link.
            vec(inner.clone(), 3).prop_map(Value::from),
            btree_map("[^\0]{0,8}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn graph_json() -> impl Strategy<Value = Value> {
    let inputs = btree_map("[^\0]{0,8}", json_value(), 0..5);
    let node = ("[^\0]{1,12}", inputs, proptest::option::of("[^\0]{0,8}")).prop_map(
        |(class, inputs, title)| {
            let mut node = json!({"class_type": class, "inputs": inputs});
            if let Some(title) = title {
                node["_meta"] = json!({"title": title});
            }
            node
        },
    );
    // A digit first, so that no node is called "nodes" or "prompt".
    btree_map("[0-9][^\0]{0,6}", node, 1..6)
        .prop_map(|nodes| Value::Object(nodes.into_iter().collect()))
}

/// A name that stays in the folder it is joined to.
fn stays_inside(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!(
        (components.next(), components.next()),
        (Some(Component::Normal(_)), None)
    ) && !name.contains(['/', '\\', '\0'])
}

proptest! {
    #[test]
    fn a_graph_survives_the_round_trip(document in graph_json()) {
        let graph = PromptGraph::parse(&document.to_string()).unwrap();

        let text = graph.to_json();

        let again = text.parse().unwrap();
        prop_assert_eq!(&again.to_json(), &text);
        prop_assert_eq!(again, graph);
        prop_assert_eq!(serde_json::from_str::<Value>(text.as_str()).unwrap(), document);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        if let Err(violations) = PromptGraph::parse(&text) {
            prop_assert!(!violations.is_empty());
        }
    }

    #[test]
    fn any_json_is_parsed_or_refused(value in json_value()) {
        if let Ok(graph) = PromptGraph::parse(&value.to_string()) {
            drop(graph.lora_inputs(&LoraInputTable::core()));
            drop(graph.file_name_violations(OWNER));
        }
    }

    #[test]
    fn binding_changes_only_what_is_named(seed in any::<u64>(), text in "[^\0]{0,40}") {
        let stored = PromptGraph::parse(SD15_LORA).unwrap();
        let params: Map<String, Value> =
            [("seed".to_owned(), json!(seed)), ("6.text".to_owned(), json!(text))].into_iter().collect();

        let bound = stored.bind(&params).unwrap();

        let mut expected: Value = serde_json::from_str(SD15_LORA).unwrap();
        expected["3"]["inputs"]["seed"] = json!(seed);
        expected["6"]["inputs"]["text"] = json!(text);
        prop_assert_eq!(serde_json::from_str::<Value>(bound.to_json().as_str()).unwrap(), expected);
    }

    #[test]
    fn accepted_filenames_stay_in_their_folder(name in "\\PC{0,20}(\\.safetensors)?|[./\\\\a:\0 ]{0,8}\\.safetensors") {
        if let Ok(filename) = LoraFilename::parse(&name) {
            prop_assert!(stays_inside(filename.as_str()));
            prop_assert_eq!(LoraFilename::parse(filename.as_str()), Ok(filename.clone()));
            let path = LoraPath::first(OWNER, &filename);
            prop_assert_eq!(LoraPath::parse(&path.to_string()), Ok(path));
        }
    }

    #[test]
    fn no_reference_leads_into_another_folder(
        value in "(user-|USER-|\\.\\./|/|\\\\|[a-f0-9-]{36}/|11111111-2222-4333-8444-55555555abcd/|a|\\.safetensors){0,8}"
    ) {
        match resolve_reference(&value, OWNER) {
            LoraReference::Own(filename) => prop_assert!(stays_inside(filename.as_str())),
            LoraReference::OwnPath(path) => {
                prop_assert_eq!(path.owner(), OWNER);
                prop_assert!(stays_inside(path.file()));
            }
            LoraReference::Other(other) => {
                prop_assert!(!other.starts_with('/') && !other.contains('\\'));
                prop_assert!(other.split('/').all(|segment| segment != ".." && !segment.is_empty()));
                let folders = other.rsplit_once('/').map_or("", |(folders, _)| folders);
                prop_assert!(!folders.to_ascii_lowercase().split('/').any(|folder| folder.starts_with("user-")));
            }
            LoraReference::Foreign { reason } => prop_assert!(!reason.is_empty()),
        }
    }

    #[test]
    fn any_reference_is_understood_or_refused(value in any::<String>()) {
        drop(resolve_reference(&value, OWNER));
    }
}

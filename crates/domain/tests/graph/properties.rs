use std::path::{Component, Path};

use atelier_domain::graph::{LoraInputTable, LoraValue, PromptGraph};
use atelier_domain::lora::{LoraFilename, LoraPath, LoraReference, resolve_reference};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
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

/// A text with tags of every spelling, or another value that an input of a LoRA may have.
fn lora_like() -> impl Strategy<Value = Value> {
    let piece = prop_oneof![
        3 => select(vec![
            "<lora:", "<LORA:", "< lora:", ">", ":", ":1>", ":0.5>", ":x>", "a", "b.safetensors", "é", " ", "\n", "<",
            "{", "__", "user-", "/", "<lora:a:1>", "<lora:b/c.safetensors>",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,3}",
    ];
    let text = vec(piece, 0..8).prop_map(|pieces| Value::from(pieces.concat()));
    let name = select(vec![
        "a.safetensors",
        "None",
        "[None]",
        "",
        "user-x/y.safetensors",
        "CHOOSE",
    ])
    .prop_map(Value::from);
    let leaf = prop_oneof![
        4 => text,
        4 => name,
        1 => Just(json!(["2", 0])),
        1 => Just(json!(["2", true])),
        1 => Just(json!(5)),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let member = select(vec!["lora", "name", "__value__", "on", "strength", "x"]);
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(member, inner, 0..4).prop_map(|members| {
                members
                    .into_iter()
                    .map(|(member, value)| (member.to_owned(), value))
                    .collect::<Map<_, _>>()
                    .into()
            }),
        ]
    })
}

/// A graph of loaders known and unknown.
fn lora_graph() -> impl Strategy<Value = Value> {
    let class = select(vec![
        "LoraLoader",
        "TrainLoraNode",
        "LoRA Stacker",
        "Power Lora Loader (rgthree)",
        "Power Prompt (rgthree)",
        "SDXL Power Prompt - Positive (rgthree)",
        "PromptExtraNetworks",
        "LoraTagLoader",
        "Lora Loader (LoraManager)",
        "ImpactWildcardEncode",
        "CLIPTextEncode",
        "Never Heard Of It",
    ]);
    let name = select(vec![
        "lora_name",
        "existing_lora",
        "lora_1",
        "lora_2",
        "lora_name_3",
        "prompt",
        "prompt_g",
        "text",
        "wildcard_text",
        "loras",
        "lora",
        "my_lora",
        "insert_lora",
        "seed",
    ]);
    let node = (class, btree_map(name, lora_like(), 0..5))
        .prop_map(|(class, inputs)| json!({"class_type": class, "inputs": inputs}));
    vec(node, 1..4).prop_map(|nodes| {
        nodes
            .into_iter()
            .enumerate()
            .map(|(number, node)| ((number + 1).to_string(), node))
            .collect::<Map<_, _>>()
            .into()
    })
}

/// What is left of the graph once every LoRA that it names has the same name.
fn without_names(graph: &PromptGraph) -> PromptGraph {
    let paths: Vec<_> = graph
        .lora_inputs(&LoraInputTable::core())
        .into_iter()
        .filter(|found| found.value.name().is_ok())
        .map(|found| (found.location, "X".to_owned()))
        .collect();
    graph.with_loras(&paths).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn rewriting_changes_the_names_of_loras_and_nothing_else(document in lora_graph()) {
        let Ok(stored) = PromptGraph::parse(&document.to_string()) else {
            return Ok(());
        };
        let table = LoraInputTable::core();
        let found = stored.lora_inputs(&table);
        let paths: Vec<_> = found
            .iter()
            .filter(|found| found.value.name().is_ok())
            .enumerate()
            .map(|(number, found)| (found.location.clone(), format!("user-x/{number} é.safetensors")))
            .collect();

        let rewritten = stored.with_loras(&paths).unwrap();

        let mut expected = paths.iter();
        let again = rewritten.lora_inputs(&table);
        prop_assert_eq!(again.len(), found.len());
        for (before, after) in found.iter().zip(&again) {
            prop_assert_eq!(&before.location, &after.location);
            if before.value.name().is_ok() {
                let (_, path) = expected.next().unwrap();
                prop_assert_eq!(&after.value, &LoraValue::Name(path.clone()));
            } else {
                prop_assert_eq!(&before.value, &after.value);
            }
        }
        prop_assert_eq!(without_names(&rewritten), without_names(&stored));
        drop(rewritten.file_name_violations(OWNER));
    }

    #[test]
    fn every_tag_is_found_or_the_text_is_refused(pieces in vec("<lora:|<[lL]ora ?:|>|:[0-9.-]{0,3}>|:|[a-z <]{0,3}|é", 0..8)) {
        let text = pieces.concat();
        let document = json!({"1": {"class_type": "Power Prompt (rgthree)", "inputs": {"prompt": text}}});
        let stored = PromptGraph::parse(&document.to_string()).unwrap();

        let found = stored.lora_inputs(&LoraInputTable::core());

        // What the pack's own pattern finds can only begin here.
        let starts = text.matches("<lora:").count();
        let refused = found.iter().any(|found| found.value.name().is_err());
        prop_assert!(refused || found.len() == starts, "{text:?} {found:?}");
    }

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
            LoraReference::OwnVersion(filename, _) => prop_assert!(stays_inside(filename.as_str())),
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

use atelier_domain::graph::{
    GraphJson, Link, MAX_GRAPH_BYTES, MAX_GRAPH_DEPTH, MAX_GRAPH_NODES, PromptGraph,
};
use serde_json::{Value, json};

use crate::{GRAPH_FORMAT, SD15_LORA, graph, pointers};

fn only_violation(text: &str) -> (String, String) {
    let violations = PromptGraph::parse(text).unwrap_err();
    assert_eq!(violations.len(), 1, "{violations:?}");
    (violations[0].pointer.clone(), violations[0].detail.clone())
}

#[test]
fn a_recorded_workflow_is_read_whole_and_in_order() {
    let graph = PromptGraph::parse(SD15_LORA).unwrap();

    let ids: Vec<&str> = graph.nodes().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["3", "4", "5", "6", "7", "8", "9", "10"]);
    let sampler = graph.node("3").unwrap();
    assert_eq!(sampler.class_type(), "KSampler");
    assert_eq!(
        Link::read(&sampler.inputs()["latent_image"]),
        Some(Link {
            node_id: "5",
            slot: 0
        })
    );
}

#[test]
fn text_made_of_a_graph_says_the_same() {
    let graph = PromptGraph::parse(SD15_LORA).unwrap();

    let text = graph.to_json();

    let original: Value = serde_json::from_str(SD15_LORA).unwrap();
    let written: Value = serde_json::from_str(text.as_str()).unwrap();
    assert_eq!(written, original);
    assert_eq!(GraphJson::from_trusted(text.as_str()).parse(), Ok(graph));
}

#[test]
fn members_that_comfyui_ignores_are_kept() {
    let document = json!({
        "1": {"class_type": "EmptyImage", "inputs": {}, "_meta": {"title": "Empty"}, "is_changed": [1.5], "x": null},
    });

    let graph = graph(&document);

    assert_eq!(graph.node("1").unwrap().title(), Some("Empty"));
    assert_eq!(
        serde_json::from_str::<Value>(graph.to_json().as_str()).unwrap(),
        document
    );
}

#[test]
fn large_seeds_and_fractions_survive() {
    let text = r#"{"1":{"class_type":"A","inputs":{"cfg":0.1,"denoise":1.0,"seed":18446744073709551615}}}"#;

    assert_eq!(PromptGraph::parse(text).unwrap().to_json().as_str(), text);
}

#[test]
fn the_editors_format_is_refused_with_the_way_out() {
    let (pointer, detail) = only_violation(GRAPH_FORMAT);

    assert_eq!(pointer, "");
    assert!(detail.contains("Export (API)"), "{detail}");
}

#[test]
fn a_request_body_is_refused_with_the_way_out() {
    let (pointer, detail) =
        only_violation(&format!(r#"{{"prompt": {SD15_LORA}, "client_id": "x"}}"#));

    assert_eq!(pointer, "");
    assert!(detail.contains("\"prompt\""), "{detail}");
}

#[test]
fn a_node_may_be_called_prompt() {
    graph(&json!({"prompt": {"class_type": "EmptyImage", "inputs": {}}}));
}

#[test]
fn documents_that_are_no_graph_are_refused_whole() {
    for text in [
        "",
        "nonsense",
        "[]",
        "null",
        "5",
        "\"x\"",
        "{}",
        "{\"1\":",
        "{} {}",
        "{\"a\":\"\\ud800\"}",
    ] {
        assert_eq!(only_violation(text).0, "", "{text}");
    }
}

#[test]
fn text_over_the_limit_is_refused_unread() {
    let (pointer, detail) = only_violation(&" ".repeat(MAX_GRAPH_BYTES + 1));

    assert_eq!(pointer, "");
    assert!(detail.contains("4194305"), "{detail}");
}

#[test]
fn depth_is_refused_in_our_words_whatever_it_is() {
    for depth in [MAX_GRAPH_DEPTH + 1, 200, 10_000, 800_000] {
        for open in ["[", "{\"a\":"] {
            let (pointer, detail) = only_violation(&open.repeat(depth));
            assert_eq!(
                (pointer.as_str(), detail.as_str()),
                ("", "is nested more than 64 levels deep")
            );
        }
    }
}

#[test]
fn depth_at_the_limit_is_accepted_and_brackets_in_strings_do_not_count() {
    let nested = |depth: usize| {
        format!(
            r#"{{"1":{{"class_type":"A","inputs":{{"x":{}{}}}}}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };

    assert!(PromptGraph::parse(&nested(MAX_GRAPH_DEPTH - 3)).is_ok());
    assert!(PromptGraph::parse(&nested(MAX_GRAPH_DEPTH - 2)).is_err());
    graph(
        &json!({"1": {"class_type": "A", "inputs": {"text": format!("\\\"{}", "[{".repeat(500))}}}),
    );
}

#[test]
fn too_many_nodes_are_one_violation() {
    let nodes: serde_json::Map<String, Value> = (0..=MAX_GRAPH_NODES)
        .map(|id| (id.to_string(), json!({"class_type": "A", "inputs": {}})))
        .collect();

    assert!(
        only_violation(&Value::Object(nodes).to_string())
            .1
            .contains("2001")
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let document = json!({
        "1": {"class_type": "A", "inputs": {"ok": ["2", 0], "gone": ["77", 0], "number": [2, 0], "slot": ["2", -1]}},
        "2": {"inputs": {}},
        "3": {"class_type": 5, "inputs": {}},
        "4": {"class_type": "A"},
        "5": 7,
        "6": {"class_type": "", "inputs": []},
        "a/b~c": {"class_type": "x".repeat(201), "inputs": {}},
        "x".repeat(101): {"class_type": "A", "inputs": {}},
    });

    let violations = PromptGraph::parse(&document.to_string()).unwrap_err();

    let mut found = pointers(&violations);
    found.sort_unstable();
    let long_id = format!("/{}", "x".repeat(101));
    assert_eq!(
        found,
        [
            "/1/inputs/gone",
            "/1/inputs/number",
            "/1/inputs/slot",
            "/2/class_type",
            "/3/class_type",
            "/4/inputs",
            "/5",
            "/6/class_type",
            "/6/inputs",
            "/a~1b~0c/class_type",
            &long_id,
        ]
    );
}

#[test]
fn nul_is_refused_in_values_and_names() {
    let text = r#"{"1":{"class_type":"A","inputs":{"text":["x",{"y":"a\u0000b"}],"k\u0000":1}}}"#;

    let violations = PromptGraph::parse(text).unwrap_err();

    assert_eq!(
        pointers(&violations),
        ["/1/inputs/text/1/y", "/1/inputs/k\0"]
    );
}

#[test]
fn equal_keys_are_refused_at_every_level() {
    let text = r#"{"1":{"class_type":"A","inputs":{"lora_name":"mine","lora_name":"theirs"}},
                   "2":{"class_type":"A","class_type":"B","inputs":{}},"1":{"class_type":"A","inputs":{}}}"#;

    let violations = PromptGraph::parse(text).unwrap_err();

    assert_eq!(
        pointers(&violations),
        ["/1/inputs/lora_name", "/2/class_type", "/1"]
    );
}

#[test]
fn a_flood_of_mistakes_is_answered_briefly() {
    let inputs: serde_json::Map<String, Value> = (0..5_000)
        .map(|n| (n.to_string(), json!(["no", 0])))
        .collect();
    let document = json!({"1": {"class_type": "A", "inputs": inputs}});

    assert_eq!(
        PromptGraph::parse(&document.to_string()).unwrap_err().len(),
        100
    );

    let long = format!(r#"{{"{}\u0000":1}}"#, "x".repeat(1_000_000));
    assert!(
        PromptGraph::parse(&long)
            .unwrap_err()
            .iter()
            .all(|found| found.pointer.len() < 1_000)
    );
}

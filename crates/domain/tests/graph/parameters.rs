use atelier_domain::graph::PromptGraph;
use atelier_domain::validation::Violation;
use serde_json::{Value, json};

use crate::{SD15_LORA, graph, input, pointers};

fn bind(graph: &PromptGraph, params: Value) -> Result<PromptGraph, Vec<Violation>> {
    let Value::Object(params) = params else {
        return Err(vec![Violation::new("", "not an object")]);
    };
    graph.bind(&params)
}

fn only_detail(graph: &PromptGraph, params: Value) -> String {
    let violations = bind(graph, params).unwrap_err();
    assert_eq!(violations.len(), 1, "{violations:?}");
    violations[0].detail.clone()
}

fn sd15() -> PromptGraph {
    PromptGraph::parse(SD15_LORA).unwrap()
}

#[test]
fn a_bare_name_sets_the_one_input_of_that_name() {
    let stored = sd15();

    let bound = bind(&stored, json!({"seed": 7, "lora_name": "mine.safetensors"})).unwrap();

    assert_eq!(input(&bound, "3", "seed"), 7);
    assert_eq!(input(&bound, "10", "lora_name"), "mine.safetensors");
    assert_eq!(
        input(&stored, "3", "seed"),
        42,
        "the stored graph is never changed"
    );
}

#[test]
fn an_ambiguous_name_lists_its_addresses() {
    let detail = only_detail(&sd15(), json!({"text": "a dog"}));

    assert!(
        detail.contains("\"6.text\"") && detail.contains("\"7.text\""),
        "{detail}"
    );
}

#[test]
fn an_address_sets_one_of_several() {
    let bound = bind(&sd15(), json!({"6.text": "a dog"})).unwrap();

    assert_eq!(input(&bound, "6", "text"), "a dog");
    assert_eq!(input(&bound, "7", "text"), "bad");
}

#[test]
fn addresses_with_dots_and_colons_are_understood() {
    let document = json!({
        "57:8": {"class_type": "A", "inputs": {"seed": 1}},
        "a.b": {"class_type": "A", "inputs": {"x.y": 1, "z": 1}},
    });

    let bound = bind(
        &graph(&document),
        json!({"57:8.seed": 2, "a.b.x.y": 3, "a.b.z": 4}),
    )
    .unwrap();

    assert_eq!(input(&bound, "57:8", "seed"), 2);
    assert_eq!(input(&bound, "a.b", "x.y"), 3);
    assert_eq!(input(&bound, "a.b", "z"), 4);
}

#[test]
fn a_declared_parameter_goes_before_an_address_and_a_bare_name() {
    let document = json!({
        "1": {"class_type": "A", "inputs": {"seed": 1, "2.text": "d"},
              "_meta": {"parameters": {"text": "2.text", "2.text": "seed"}}},
        "2": {"class_type": "A", "inputs": {"text": "b"}},
    });

    let bound = bind(&graph(&document), json!({"text": "new", "2.text": 9})).unwrap();

    assert_eq!(input(&bound, "1", "2.text"), "new");
    assert_eq!(input(&bound, "1", "seed"), 9);
    assert_eq!(input(&bound, "2", "text"), "b");
}

#[test]
fn bad_declarations_are_found_when_the_graph_is_read() {
    let document = json!({
        "1": {"class_type": "A", "inputs": {"a": 1, "link": ["2", 0]}, "_meta": {"parameters":
            {"twice": "a", "gone": "nothing", "linked": "link", "number": 5, "": "a"}}},
        "2": {"class_type": "A", "inputs": {"a": 1}, "_meta": {"parameters": {"twice": "a"}}},
        "3": {"class_type": "A", "inputs": {}, "_meta": {"parameters": []}},
        "4": {"class_type": "A", "inputs": {}, "_meta": null},
    });

    let violations = PromptGraph::parse(&document.to_string()).unwrap_err();

    assert_eq!(
        pointers(&violations),
        [
            "/1/_meta/parameters/",
            "/1/_meta/parameters/gone",
            "/1/_meta/parameters/linked",
            "/1/_meta/parameters/number",
            "/2/_meta/parameters/twice",
            "/3/_meta/parameters",
        ]
    );
}

#[test]
fn links_are_never_replaced_and_never_made() {
    let wired = sd15();

    assert!(only_detail(&wired, json!({"3.model": "x"})).contains("linked"));
    assert!(only_detail(&wired, json!({"latent_image": "x"})).contains("linked"));
    assert!(only_detail(&wired, json!({"seed": ["4", 0]})).contains("link"));
    let open = graph(
        &json!({"1": {"class_type": "A", "inputs": {"list": [], "object": {}, "nothing": null}}}),
    );
    for value in [json!(["1", 0]), json!(["1", true]), json!([1, 0])] {
        assert!(bind(&open, json!({"list": value.clone()})).is_err());
        assert!(bind(&open, json!({"nothing": value.clone()})).is_err());
        assert!(bind(&open, json!({"object": {"__value__": value}})).is_err());
    }
}

#[test]
fn a_value_keeps_the_kind_of_the_one_before() {
    let document = json!({"1": {"class_type": "A", "inputs":
        {"number": 1, "string": "s", "switch": true, "nothing": null, "object": {"on": true}}}});
    let stored = graph(&document);

    for key in ["number", "string", "switch", "object"] {
        for value in [
            json!(1.5),
            json!("x"),
            json!(false),
            json!({}),
            json!(null),
            json!([]),
        ] {
            let same_kind =
                std::mem::discriminant(&value) == std::mem::discriminant(&input(&stored, "1", key));
            assert_eq!(
                bind(&stored, json!({key: value.clone()})).is_ok(),
                same_kind,
                "{key} {value}"
            );
        }
    }
    assert!(bind(&stored, json!({"nothing": "anything"})).is_ok());
}

#[test]
fn every_bad_key_is_told_at_its_place() {
    let params =
        json!({"nonsense": 1, "3.nothing": 1, "seed": 1, "3.seed": 2, "77.seed": 1, "a/b": 1});

    let violations = bind(&sd15(), params).unwrap_err();

    assert_eq!(
        pointers(&violations),
        [
            "/input_params/3.nothing",
            "/input_params/77.seed",
            "/input_params/a~1b",
            "/input_params/nonsense",
            "/input_params/seed",
        ]
    );
    assert!(
        violations[4].detail.contains("3.seed"),
        "{}",
        violations[4].detail
    );
}

#[test]
fn values_keep_the_bounds_of_a_graph() {
    let stored = graph(&json!({"1": {"class_type": "A", "inputs": {"text": "x", "any": null}}}));
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }

    assert!(only_detail(&stored, json!({"text": "a\0b"})).contains("U+0000"));
    assert!(only_detail(&stored, json!({"any": {"a\0": 1}})).contains("U+0000"));
    assert!(only_detail(&stored, json!({"any": deep})).contains("64 levels"));
    let long = bind(&stored, json!({"text": "x".repeat(5_000_000)})).unwrap_err();
    assert_eq!(pointers(&long), ["/input_params"]);
}

#[test]
fn a_flood_of_parameters_is_refused_unread() {
    let many: serde_json::Map<String, Value> =
        (0..501).map(|n| (n.to_string(), json!(1))).collect();

    assert_eq!(
        pointers(&bind(&sd15(), Value::Object(many)).unwrap_err()),
        ["/input_params"]
    );
    assert!(only_detail(&sd15(), json!({".".repeat(1_000_000): 1})).contains("1000 bytes"));
}

#[test]
fn no_parameters_change_nothing() {
    assert_eq!(bind(&sd15(), json!({})), Ok(sd15()));
}

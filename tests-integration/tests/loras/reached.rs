//! Nobody reaches another person's LoRA, nor learns that it is there, whatever a graph calls it
//! and whichever class loads it.

use std::collections::BTreeSet;

use atelier_tests_integration::client::Client;
use atelier_tests_integration::workflows::without_lora;
use serde_json::{Map, Value, json};

use crate::conventions::{Convention, Shape, all};
use crate::neighbours::{Aim, neighbours};
use crate::tricks;

/// The stranger's own file; its name begins as the other one's ends.
const OWN: &str = "style.safetensors";

/// Every trick as a value of the convention's input, by the node that is to hold it.
fn attempts(convention: &Convention, aim: &Aim, stranger: &Client) -> Vec<(String, Value)> {
    let own = format!("user-{}", stranger.person().id);
    tricks::names(aim, &own)
        .iter()
        .map(|name| convention.value(name))
        .chain(tricks::values(convention, aim))
        .enumerate()
        .map(|(number, value)| (format!("t{number}"), value))
        .collect()
}

fn graph_of(convention: &Convention, attempts: &[(String, Value)]) -> Value {
    let mut graph = without_lora();
    for (node, value) in attempts {
        graph[node] = convention.node(value.clone());
    }
    graph
}

/// Runs a workflow, which is refused; gives the answer without what differs from request to
/// request, and its pointers.
async fn refused(
    client: &Client,
    workflow: &str,
    params: &Map<String, Value>,
) -> (Value, Vec<String>) {
    let path = format!("/workflows/{workflow}/run");
    let body = json!({"input_params": params});
    let answer = client.post(&path, &body).await;
    let mut problem = answer.expect_problem(422, "validation");
    problem["instance"].take();
    let errors = problem["errors"].as_array().expect("a list of errors");
    let pointers = errors.iter().map(|error| error["pointer"].as_str());
    let pointers = pointers.map(|pointer| pointer.expect("a pointer").to_owned());
    let pointers = pointers.collect();
    (problem, pointers)
}

/// Each attempt is refused, at its own place, and nothing else is.
#[track_caller]
fn assert_all_refused(
    convention: &Convention,
    attempts: &[(String, Value)],
    pointers: &[String],
    problem: &Value,
) {
    let told: BTreeSet<&str> = pointers.iter().map(String::as_str).collect();
    assert_eq!(told.len(), pointers.len(), "told twice: {problem}");
    for (node, value) in attempts {
        let place = format!("/workflow_json/{node}/inputs/{}", convention.input);
        let is_told = told
            .iter()
            .any(|pointer| pointer.strip_prefix(&place).is_some_and(is_end));
        assert!(is_told, "{convention:?} lets {value} through");
    }
    assert_eq!(told.len(), attempts.len(), "{convention:?}: {problem}");
}

fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

#[tokio::test(flavor = "multi_thread")]
async fn no_graph_reaches_another_persons_lora_by_any_name() {
    let house = neighbours().await;
    let stranger = house.server.client();
    stranger.add_lora(OWN, 1).await;
    let before = house.site.backend.prompts().await;

    for convention in all() {
        let mut answers = Vec::new();
        for aim in [&house.secret, &house.absent] {
            let attempts = attempts(&convention, aim, &stranger);
            let graph = graph_of(&convention, &attempts);
            let workflow = stranger.create_workflow(&graph, false).await;
            let (problem, pointers) = refused(&stranger, &workflow, &Map::new()).await;
            assert_all_refused(&convention, &attempts, &pointers, &problem);
            answers.push(problem);
        }
        // What is there is answered as what never was.
        assert_eq!(answers[0], answers[1], "{convention:?}");
        house.secret.assert_untold(&answers[0].to_string());
    }

    assert_eq!(house.site.backend.prompts().await, before);
    let sql = format!(
        "select count(*) from comfyui_workflow_runs where user_id = '{}'",
        stranger.person().id
    );
    assert_eq!(house.site.database.count(&sql).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_parameter_reaches_another_persons_lora_by_any_name() {
    let house = neighbours().await;
    let stranger = house.server.client();
    stranger.add_lora(OWN, 1).await;

    for convention in all() {
        let mut answers = Vec::new();
        for aim in [&house.secret, &house.absent] {
            let mut attempts = attempts(&convention, aim, &stranger);
            // A link is no parameter.
            attempts.retain(|(_, value)| *value != json!(["4", 0]));
            let harmless: Vec<_> = attempts
                .iter()
                .map(|(node, _)| (node.clone(), convention.value(OWN)))
                .collect();
            let graph = graph_of(&convention, &harmless);
            let workflow = stranger.create_workflow(&graph, false).await;
            let params = attempts
                .iter()
                .map(|(node, value)| (format!("{node}.{}", convention.input), value.clone()))
                .collect();
            let (problem, pointers) = refused(&stranger, &workflow, &params).await;
            assert_parameters_refused(&convention, &attempts, &pointers, &problem);
            answers.push(problem);
        }
        assert_eq!(answers[0], answers[1], "{convention:?}");
        house.secret.assert_untold(&answers[0].to_string());
    }
}

/// As [`assert_all_refused`], at the graph or at the parameter itself.
#[track_caller]
fn assert_parameters_refused(
    convention: &Convention,
    attempts: &[(String, Value)],
    pointers: &[String],
    problem: &Value,
) {
    for (node, value) in attempts {
        let input = convention.input;
        let places = [
            format!("/workflow_json/{node}/inputs/{input}"),
            format!("/input_params/{node}.{input}"),
        ];
        let is_told = pointers.iter().any(|pointer| {
            let mut places = places.iter();
            places.any(|place| pointer.strip_prefix(place.as_str()).is_some_and(is_end))
        });
        assert!(is_told, "{convention:?} lets {value} through: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_tells_nothing_of_another_persons_lora() {
    let house = neighbours().await;
    let stranger = house.server.client();
    stranger.add_lora(OWN, 1).await;

    for convention in all() {
        let mut answers = Vec::new();
        for aim in [&house.secret, &house.absent] {
            let attempts = attempts(&convention, aim, &stranger);
            let graph = graph_of(&convention, &attempts);
            let workflow = stranger.create_workflow(&graph, false).await;
            let path = format!("/workflows/{workflow}/preflight");
            let preflight = stranger.get(&path).await.expect(200);

            let faults = pointers_of(&preflight);
            assert_all_refused(&convention, &attempts, &faults, &preflight);
            let text = preflight.to_string().replace(&workflow, "this");
            answers.push(house.absent.turned_into(&house.secret, &text));
        }
        assert_eq!(answers[0], answers[1], "{convention:?}");
    }
}

/// Where a preflight finds what would keep a run from being taken.
#[track_caller]
fn pointers_of(preflight: &Value) -> Vec<String> {
    let faults = preflight["faults"].as_array().expect("a list of faults");
    let pointers = faults.iter().map(|fault| fault["pointer"].as_str());
    pointers
        .map(|pointer| pointer.expect("a pointer").to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_from_elsewhere_names_nobodys_lora_either() {
    let house = neighbours().await;
    let stranger = house.server.client();
    let tag = format!("<lora:{}:1>", house.secret.stem);

    for convention in all().filter(|convention| convention.shape == Shape::Tag) {
        let mut graph = without_lora();
        graph["p"] = json!({"class_type": "PrimitiveString", "inputs": {"value": tag}});
        graph["t"] = convention.node(json!(["p", 0]));
        let workflow = stranger.create_workflow(&graph, false).await;

        let (problem, pointers) = refused(&stranger, &workflow, &Map::new()).await;

        let source = "/workflow_json/p/inputs/value".to_owned();
        assert!(pointers.contains(&source), "{convention:?}: {problem}");
        house.secret.assert_untold(&problem.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_workflow_lends_nobody_its_owners_lora() {
    let house = neighbours().await;
    let named = format!("{}.safetensors", house.secret.stem);
    let path = format!("user-{}/{named}", house.secret.owner);

    for convention in all().filter(|convention| convention.takes_paths) {
        for name in [&named, &path] {
            let attempt = ("t".to_owned(), convention.value(name));
            let graph = graph_of(&convention, std::slice::from_ref(&attempt));
            let workflow = house.owner.create_workflow(&graph, true).await;
            let stranger = house.server.client();

            let (_, pointers) = refused(&stranger, &workflow, &Map::new()).await;

            assert_eq!(pointers, [convention.pointer("t")], "{convention:?} {name}");
        }
    }
    // With a file of that name of their own, theirs is meant.
    let guest = house.server.client();
    guest.add_lora(&named, 7).await;
    let convention = crate::conventions::CORE[2];
    assert_eq!(convention.shape, Shape::Name);
    let graph = graph_of(&convention, &[("t".to_owned(), convention.value(&named))]);
    let workflow = house.owner.create_workflow(&graph, true).await;
    let run = guest.start_run(&workflow, &json!({})).await;
    let sql = format!("select graph::text from comfyui_workflow_runs where id = '{run}'");
    let stored: Value = serde_json::from_str(&house.site.database.text(&sql).await).expect("JSON");
    let own = format!("user-{}/{named}", guest.person().id);
    assert_eq!(convention.name_in(&stored["t"]), own);
}

//! Which prompts are queued, and what is said about the others (`reference/comfyui/PROTOCOL.md` section 3).

mod coercion;
mod cycle;
mod inputs;

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::graph::Prompt;
use crate::instance::Instance;
use crate::python;
use inputs::Inspector;

const NO_VALID_OUTPUT: &str = "prompt_outputs_failed_validation";
const NO_VALID_OUTPUT_MESSAGE: &str = "Prompt outputs failed validation";

/// The outcome of a validation.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The prompt runs, though perhaps without the outputs that the errors are about.
    Accepted {
        prompt: Prompt,
        outputs: Vec<String>,
        node_errors: Value,
    },
    /// 400: an error object and the errors of the nodes.
    Refused { error: Value, node_errors: Value },
    /// 500: the real server fails over this one.
    Crash,
}

/// What was found out about a node: nothing wrong, or a list of reasons, which is empty if only something upstream is wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finding {
    pub(crate) valid: bool,
    pub(crate) reasons: Vec<Value>,
}

/// Findings in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    order: Vec<String>,
    by_node: HashMap<String, Finding>,
}

impl Findings {
    pub(crate) fn get(&self, node_id: &str) -> Option<&Finding> {
        self.by_node.get(node_id)
    }

    pub(crate) fn put(&mut self, node_id: &str, finding: Finding) {
        if self.by_node.insert(node_id.to_owned(), finding).is_none() {
            self.order.push(node_id.to_owned());
        }
    }
}

/// Validates the value of `prompt` in a request body. `order` is the order of its keys, `targets` are the outputs that the client wants to
/// have executed, if it does not want all.
pub(crate) fn validate(
    instance: &Instance,
    prompt: Value,
    order: Vec<String>,
    targets: Option<&[String]>,
) -> Verdict {
    let nodes = match prompt {
        Value::Object(nodes) => nodes,
        Value::Array(items) if items.is_empty() && !instance.options.version.is_current() => {
            Map::new()
        }
        _ => return Verdict::Crash,
    };
    let prompt = Prompt { nodes, order };
    let outputs = match collect_outputs(instance, &prompt, targets) {
        Ok(outputs) => outputs,
        Err(verdict) => return verdict,
    };
    if outputs.is_empty() {
        return refused(
            "prompt_no_outputs",
            "Prompt has no outputs",
            "",
            &json!({}),
            json!({}),
        );
    }
    let cycle = cycle::find(&prompt, &outputs);
    if let Some(cycle) = cycle {
        return refuse_cycle(instance, &prompt, &cycle);
    }
    inspect_outputs(instance, prompt, outputs)
}

/// Looks at every output; the prompt is accepted if one of them can run.
fn inspect_outputs(instance: &Instance, mut prompt: Prompt, outputs: Vec<String>) -> Verdict {
    let mut findings = Findings::default();
    let (mut good, mut details, mut node_errors) = (Vec::new(), Vec::new(), Map::new());
    for output in outputs {
        let finding = Inspector::new(instance, &mut prompt, &mut findings).inspect_output(&output);
        if finding.valid {
            good.push(output);
            continue;
        }
        details.extend(finding.reasons.iter().map(|reason| {
            let text = |name: &str| reason.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("{}: {}", text("message"), text("details"))
        }));
        blame(&prompt, &findings, &output, &mut node_errors);
    }
    let node_errors = Value::Object(node_errors);
    if good.is_empty() {
        let details = details.join("\n");
        return refused(
            NO_VALID_OUTPUT,
            NO_VALID_OUTPUT_MESSAGE,
            &details,
            &json!({}),
            node_errors,
        );
    }
    Verdict::Accepted {
        prompt,
        outputs: good,
        node_errors,
    }
}

fn refused(
    kind: &str,
    message: &str,
    details: &str,
    extra_info: &Value,
    node_errors: Value,
) -> Verdict {
    Verdict::Refused {
        error: json!({"type": kind, "message": message, "details": details, "extra_info": extra_info}),
        node_errors,
    }
}

/// The output nodes of the prompt, or the verdict over the first node that has no usable class.
fn collect_outputs(
    instance: &Instance,
    prompt: &Prompt,
    targets: Option<&[String]>,
) -> Result<Vec<String>, Verdict> {
    let mut outputs = Vec::new();
    for node_id in &prompt.order {
        let Some(node) = prompt.nodes.get(node_id) else {
            continue;
        };
        let class_type = match node {
            Value::Object(members) => members.get("class_type"),
            // Looking for a key in a string or a list finds nothing; in a number or null it fails.
            Value::String(_) | Value::Array(_) if !instance.options.version.is_current() => None,
            _ => return Err(Verdict::Crash),
        };
        let known = class_type
            .and_then(Value::as_str)
            .and_then(|class_type| instance.catalogue.get(class_type));
        let Some(class) = known else {
            return Err(missing_class(instance, node_id, node, class_type));
        };
        let wanted = targets.is_none_or(|targets| targets.contains(node_id));
        if class.definition.output_node && wanted {
            outputs.push(node_id.clone());
        }
    }
    Ok(outputs)
}

fn missing_class(
    instance: &Instance,
    node_id: &str,
    node: &Value,
    class_type: Option<&Value>,
) -> Verdict {
    let details = format!("Node ID '#{node_id}'");
    if !instance.options.version.is_current() {
        let message = match class_type {
            None => "Cannot execute because a node is missing the class_type property.".to_owned(),
            Some(class_type) => format!(
                "Cannot execute because node {} does not exist.",
                python::text(class_type)
            ),
        };
        return refused("invalid_prompt", &message, &details, &json!({}), json!({}));
    }
    let title = node
        .pointer("/_meta/title")
        .filter(|title| !title.is_null());
    let named = |fallback: String| title.map_or(fallback, python::text);
    let message = match class_type {
        None => {
            let name = named(format!("ID #{node_id}"));
            format!(
                "Node '{name}' has no class_type. The workflow may be corrupted or a custom node is missing."
            )
        }
        Some(class_type) => {
            let name = named(python::text(class_type));
            format!("Node '{name}' not found. The custom node may not be installed.")
        }
    };
    let extra_info = json!({"node_id": node_id, "class_type": class_type, "node_title": title});
    refused(
        "missing_node_type",
        &message,
        &details,
        &extra_info,
        json!({}),
    )
}

/// Adds an output to the errors of every node that is wrong so far.
fn blame(prompt: &Prompt, findings: &Findings, output: &str, node_errors: &mut Map<String, Value>) {
    for node_id in &findings.order {
        let Some(finding) = findings
            .get(node_id)
            .filter(|finding| !finding.valid && !finding.reasons.is_empty())
        else {
            continue;
        };
        let entry = node_errors.entry(node_id.clone()).or_insert_with(|| {
            json!({"errors": finding.reasons, "dependent_outputs": [], "class_type": prompt.class_type(node_id)})
        });
        if let Some(Value::Array(dependent)) = entry.get_mut("dependent_outputs") {
            dependent.push(json!(output));
        }
    }
}

fn refuse_cycle(instance: &Instance, prompt: &Prompt, cycle: &cycle::Cycle) -> Verdict {
    let (kind, message) = (NO_VALID_OUTPUT, NO_VALID_OUTPUT_MESSAGE);
    if !instance.options.version.is_current() {
        return refused(kind, message, "", &json!({}), json!({}));
    }
    let named = |node_id: &String| format!("{node_id} ({})", prompt.class_type(node_id));
    let round: Vec<_> = cycle
        .nodes
        .iter()
        .chain(cycle.nodes.first())
        .map(named)
        .collect();
    let mut node_errors = Map::new();
    for node_id in &cycle.nodes {
        node_errors.insert(
            node_id.clone(),
            json!({
                "errors": [{
                    "type": "dependency_cycle",
                    "message": "Dependency cycle detected",
                    "details": round.join(" -> "),
                    "extra_info": {"node_id": node_id, "cycle_nodes": cycle.nodes},
                }],
                "dependent_outputs": [cycle.output],
                "class_type": prompt.class_type(node_id),
            }),
        );
    }
    refused(kind, message, "", &json!({}), Value::Object(node_errors))
}

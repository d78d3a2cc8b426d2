//! The inputs of a node, and of everything it depends on.

use serde_json::{Value, json};

use super::coercion::{coerce, is_below};
use super::{Finding, Findings};
use crate::graph::Prompt;
use crate::instance::Instance;
use crate::nodes::Input;
use crate::nodes::{Definition, Kind, validate_input_file};
use crate::python;

/// Longer chains than this are "maximum recursion depth exceeded", as they are in Python.
const MAX_DEPTH: usize = 200;

/// With more options than this an error does not list them.
const MAX_LISTED_OPTIONS: usize = 20;

/// An exception of the validation itself.
#[derive(Debug)]
struct Exception {
    kind: &'static str,
    message: String,
}

impl Exception {
    fn key(key: &Value) -> Self {
        Self {
            kind: "KeyError",
            message: python::repr(key),
        }
    }
}

/// Looks at one output and at everything it depends on.
#[derive(Debug)]
pub(super) struct Inspector<'run> {
    instance: &'run Instance,
    prompt: &'run mut Prompt,
    findings: &'run mut Findings,
}

impl<'run> Inspector<'run> {
    pub(super) fn new(
        instance: &'run Instance,
        prompt: &'run mut Prompt,
        findings: &'run mut Findings,
    ) -> Self {
        Self {
            instance,
            prompt,
            findings,
        }
    }

    /// The finding about an output node; the findings about the others are kept too.
    pub(super) fn inspect_output(&mut self, output: &str) -> Finding {
        match self.inspect(output, 0) {
            Ok(finding) => finding,
            Err(exception) => {
                let reason = json!({
                    "type": "exception_during_validation",
                    "message": "Exception when validating node",
                    "details": exception.message,
                    "extra_info": {"exception_type": exception.kind, "traceback": traceback()},
                });
                let finding = Finding {
                    valid: false,
                    reasons: vec![reason],
                };
                self.findings.put(output, finding.clone());
                finding
            }
        }
    }

    fn inspect(&mut self, node_id: &str, depth: usize) -> Result<Finding, Exception> {
        if let Some(finding) = self.findings.get(node_id) {
            return Ok(finding.clone());
        }
        if depth > MAX_DEPTH {
            return Err(Exception {
                kind: "RecursionError",
                message: "maximum recursion depth exceeded".to_owned(),
            });
        }
        let node = self
            .prompt
            .nodes
            .get(node_id)
            .ok_or_else(|| Exception::key(&json!(node_id)))?;
        if node.get("inputs").is_none() {
            return Err(Exception::key(&json!("inputs")));
        }
        let instance = self.instance;
        let class_type = self.prompt.class_type(node_id).to_owned();
        let class = instance
            .catalogue
            .get(&class_type)
            .ok_or_else(|| Exception::key(&json!(class_type)))?;
        let mut finding = Finding {
            valid: true,
            reasons: Vec::new(),
        };
        for input in &class.definition.inputs {
            let Some(value) = self.prompt.input(node_id, input.name).cloned() else {
                if input.required {
                    finding.reasons.push(missing(input));
                }
                continue;
            };
            match value {
                Value::Array(link) => {
                    let upstream = self.inspect_link(
                        &class.definition,
                        input,
                        &link,
                        depth,
                        &mut finding.reasons,
                    )?;
                    finding.valid &= upstream;
                }
                literal => match self.check_literal(&class.definition, input, literal) {
                    Ok(value) => self.store(node_id, input.name, value),
                    Err(reason) => finding.reasons.push(*reason),
                },
            }
        }
        finding.valid &= finding.reasons.is_empty();
        self.findings.put(node_id, finding.clone());
        Ok(finding)
    }

    /// Whether everything upstream of a link is valid; what is wrong with the link itself becomes a reason.
    fn inspect_link(
        &mut self,
        definition: &Definition,
        input: &Input,
        link: &[Value],
        depth: usize,
        reasons: &mut Vec<Value>,
    ) -> Result<bool, Exception> {
        let config = || definition.input_config(input, self.options_of(input).as_deref());
        let [from, slot] = link else {
            reasons.push(error(
                "bad_linked_input",
                "Bad linked input, must be a length-2 list of [node_id, slot_index]",
                input.name,
                &json!({"input_name": input.name, "input_config": config(), "received_value": link}),
            ));
            return Ok(true);
        };
        let from_id = from.as_str().ok_or_else(|| Exception::key(from))?;
        let received = self.type_of(from_id, slot)?;
        if !accepts(input, received) {
            let expected = match input.kind {
                Kind::Typed(name) => name.to_owned(),
                Kind::Choice(_) => python::repr(&json!(self.options_of(input))),
            };
            reasons.push(error(
                "return_type_mismatch",
                "Return type mismatch between linked nodes",
                &format!("{}, received_type({received}) mismatch input_type({expected})", input.name),
                &json!({"input_name": input.name, "input_config": config(), "received_type": received, "linked_node": link}),
            ));
            return Ok(true);
        }
        match self.inspect(from_id, depth + 1) {
            Ok(finding) => Ok(finding.valid),
            Err(exception) => {
                let config = definition.input_config(input, self.options_of(input).as_deref());
                let reason = error(
                    "exception_during_inner_validation",
                    "Exception when validating inner node",
                    &exception.message,
                    &json!({
                        "input_name": input.name,
                        "input_config": config,
                        "exception_message": exception.message,
                        "exception_type": exception.kind,
                        "traceback": traceback(),
                        "linked_node": link,
                    }),
                );
                self.findings.put(
                    from_id,
                    Finding {
                        valid: false,
                        reasons: vec![reason],
                    },
                );
                Ok(false)
            }
        }
    }

    /// The type of another node's output.
    fn type_of(&self, node_id: &str, slot: &Value) -> Result<&'static str, Exception> {
        let node = self
            .prompt
            .nodes
            .get(node_id)
            .ok_or_else(|| Exception::key(&json!(node_id)))?;
        let class_type = node
            .get("class_type")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let class = self
            .instance
            .catalogue
            .get(class_type)
            .ok_or_else(|| Exception::key(&json!(class_type)))?;
        let Some(slot) = slot.as_i64() else {
            let message = format!(
                "tuple indices must be integers or slices, not {}",
                python::type_name(slot)
            );
            return Err(Exception {
                kind: "TypeError",
                message,
            });
        };
        let outputs = &class.definition.outputs;
        let output = usize::try_from(slot)
            .ok()
            .and_then(|slot| outputs.get(slot));
        let out_of_range = || Exception {
            kind: "IndexError",
            message: "tuple index out of range".to_owned(),
        };
        output.map(|(kind, _)| *kind).ok_or_else(out_of_range)
    }

    /// The converted value, or the reason why it cannot be used.
    fn check_literal(
        &self,
        definition: &Definition,
        input: &Input,
        value: Value,
    ) -> Result<Value, Box<Value>> {
        let value = match value {
            Value::Object(mut members) if members.contains_key("__value__") => {
                members.remove("__value__").unwrap_or_default()
            }
            value => value,
        };
        match input.kind {
            Kind::Typed(kind) => check_typed(definition, input, kind, &value).map_err(Box::new),
            Kind::Choice(_) if definition.class_type == "LoadImage" => {
                match validate_input_file(self.instance, &python::text(&value)) {
                    Ok(()) => Ok(value),
                    Err(complaint) => Err(Box::new(error(
                        "custom_validation_failed",
                        "Custom validation failed for node",
                        &format!("{} - {complaint}", input.name),
                        &json!({"input_name": input.name}),
                    ))),
                }
            }
            Kind::Choice(_) => {
                let options = self.options_of(input).unwrap_or_default();
                let chosen = value
                    .as_str()
                    .is_some_and(|value| options.iter().any(|option| option == value));
                if chosen {
                    Ok(value)
                } else {
                    Err(Box::new(not_in_list(definition, input, &value, &options)))
                }
            }
        }
    }

    fn options_of(&self, input: &Input) -> Option<Vec<String>> {
        match input.kind {
            Kind::Choice(source) => Some(self.instance.choices(source)),
            Kind::Typed(_) => None,
        }
    }

    /// Puts the converted value into the prompt: queue, history and picture files show it.
    fn store(&mut self, node_id: &str, name: &str, value: Value) {
        if let Some(Value::Object(inputs)) = self
            .prompt
            .nodes
            .get_mut(node_id)
            .and_then(|node| node.get_mut("inputs"))
        {
            inputs.insert(name.to_owned(), value);
        }
    }
}

fn check_typed(
    definition: &Definition,
    input: &Input,
    kind: &str,
    value: &Value,
) -> Result<Value, Value> {
    let config = || definition.input_config(input, None);
    let converted = coerce(kind, value).map_err(|complaint| {
        error(
            "invalid_input_type",
            &format!("Failed to convert an input value to a {kind} value"),
            &format!("{}, {}, {complaint}", input.name, python::text(value)),
            &json!({
                "input_name": input.name,
                "input_config": config(),
                "received_value": value,
                "exception_message": complaint,
            }),
        )
    })?;
    let limit = |kind: &str, message: String| {
        let extra_info = json!({"input_name": input.name, "input_config": config(), "received_value": converted});
        Err(error(kind, &message, input.name, &extra_info))
    };
    let shown = python::repr(&converted);
    if let Some(minimum) = input.minimum()
        && is_below(&converted, minimum)
    {
        return limit(
            "value_smaller_than_min",
            format!(
                "Value {shown} smaller than min of {}",
                python::repr(minimum)
            ),
        );
    }
    if let Some(maximum) = input.maximum()
        && is_below(maximum, &converted)
    {
        return limit(
            "value_bigger_than_max",
            format!("Value {shown} bigger than max of {}", python::repr(maximum)),
        );
    }
    Ok(converted)
}

fn not_in_list(definition: &Definition, input: &Input, value: &Value, options: &[String]) -> Value {
    let (list, config) = if options.len() > MAX_LISTED_OPTIONS {
        (format!("(list of length {})", options.len()), Value::Null)
    } else {
        (
            python::repr(&json!(options)),
            definition.input_config(input, Some(options)),
        )
    };
    error(
        "value_not_in_list",
        "Value not in list",
        &format!("{}: '{}' not in {list}", input.name, python::text(value)),
        &json!({"input_name": input.name, "input_config": config, "received_value": value}),
    )
}

fn missing(input: &Input) -> Value {
    error(
        "required_input_missing",
        "Required input is missing",
        input.name,
        &json!({"input_name": input.name}),
    )
}

fn error(kind: &str, message: &str, details: &str, extra_info: &Value) -> Value {
    json!({"type": kind, "message": message, "details": details, "extra_info": extra_info})
}

/// Whether a link of this type may end in this input.
fn accepts(input: &Input, received: &str) -> bool {
    match input.kind {
        Kind::Typed(expected) => expected == "*" || received == "*" || expected == received,
        Kind::Choice(_) => received == "*",
    }
}

/// The real server shows where in its source the exception came from, paths included. This stands for it.
fn traceback() -> Value {
    json!(["  File \"/opt/ComfyUI/execution.py\", line 1, in simulated\n"])
}

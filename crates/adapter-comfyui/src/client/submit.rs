use atelier_domain::ports::{
    ComfyError, NodeRejection, PromptRejection, PromptSubmission, SubmittedPrompt,
};
use reqwest::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::backend::{Backend, checked_id};
use crate::transport::Answer;

/// What we say where a backend's word is no word.
const UNKNOWN_KIND: &str = "unknown";

/// Our word for a prompt that ComfyUI is configured to find too large.
const TOO_LARGE: &str = "payload_too_large";

const MAX_NODES: usize = 1_000;
const MAX_NAME_CHARS: usize = 200;

#[derive(Serialize)]
struct Body<'a> {
    prompt: &'a RawValue,
    prompt_id: String,
    client_id: &'a str,
    extra_data: Map<String, Value>,
}

impl Backend {
    pub(crate) async fn submit(
        &self,
        submission: PromptSubmission,
    ) -> Result<SubmittedPrompt, ComfyError> {
        let answer = self
            .transport
            .post("the answer to a prompt", &["prompt"], body_of(submission)?)
            .await?;
        match answer.status {
            StatusCode::OK => accepted(&answer),
            StatusCode::BAD_REQUEST => Err(rejected(&answer)),
            StatusCode::PAYLOAD_TOO_LARGE => Err(ComfyError::Rejected(PromptRejection {
                kind: TOO_LARGE.to_owned(),
                nodes: Vec::new(),
            })),
            _ => Err(answer.unexpected()),
        }
    }
}

fn body_of(submission: PromptSubmission) -> Result<Vec<u8>, ComfyError> {
    let broken = |_detail| ComfyError::Protocol("the prompt to be sent is no JSON".to_owned());
    let mut extra_data = match submission.extra_data {
        Value::Object(extra_data) => extra_data,
        // Anything else is answered with 500.
        _ => Map::new(),
    };
    // Accepted, and then GET /api/jobs fails for everybody.
    if extra_data
        .get("extra_pnginfo")
        .is_some_and(|info| !info.is_object())
    {
        extra_data.remove("extra_pnginfo");
    }
    let body = Body {
        prompt: serde_json::from_str(submission.graph.as_str()).map_err(broken)?,
        prompt_id: submission.run_id.to_string(),
        client_id: &submission.client_id,
        extra_data,
    };
    serde_json::to_vec(&body).map_err(broken)
}

fn accepted(answer: &Answer) -> Result<SubmittedPrompt, ComfyError> {
    let value: Value = answer.json()?;
    let prompt_id = value
        .get("prompt_id")
        .and_then(Value::as_str)
        .ok_or_else(|| answer.unexpected())?;
    Ok(SubmittedPrompt {
        prompt_id: checked_id(prompt_id)?.to_owned(),
        dropped: node_rejections(value.get("node_errors")),
    })
}

fn rejected(answer: &Answer) -> ComfyError {
    let Ok(value) = serde_json::from_slice::<Value>(&answer.body) else {
        return answer.unexpected();
    };
    let error = value.get("error");
    let kind = kind_of(error);
    let mut nodes = node_rejections(value.get("node_errors"));
    // "missing_node_type" names its node beside the error.
    if nodes.is_empty()
        && let Some(info) = error.and_then(|error| error.get("extra_info"))
        && let Some(node_id) = info.get("node_id").and_then(name_of)
    {
        let class_type = info.get("class_type").and_then(name_of).unwrap_or_default();
        nodes.push(NodeRejection {
            node_id,
            class_type,
            kind: kind.clone(),
            input_name: None,
        });
    }
    ComfyError::Rejected(PromptRejection { kind, nodes })
}

/// One for each thing that is wrong, in the order of nodes.
fn node_rejections(node_errors: Option<&Value>) -> Vec<NodeRejection> {
    let Some(node_errors) = node_errors.and_then(Value::as_object) else {
        return Vec::new();
    };
    let mut nodes: Vec<_> = node_errors
        .iter()
        .flat_map(|(node_id, node)| {
            let class_type = node.get("class_type").and_then(name_of).unwrap_or_default();
            let errors = node
                .get("errors")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let rejections: Vec<_> = errors
                .map(|error| rejection(node_id, &class_type, Some(error)))
                .collect();
            if rejections.is_empty() {
                vec![rejection(node_id, &class_type, None)]
            } else {
                rejections
            }
        })
        .take(MAX_NODES)
        .collect();
    nodes.sort_by_key(|node| {
        (
            node.node_id.parse::<u64>().unwrap_or(u64::MAX),
            node.node_id.clone(),
        )
    });
    nodes
}

fn rejection(node_id: &str, class_type: &str, error: Option<&Value>) -> NodeRejection {
    NodeRejection {
        node_id: node_id.chars().take(MAX_NAME_CHARS).collect(),
        class_type: class_type.to_owned(),
        kind: kind_of(error),
        input_name: error
            .and_then(|error| error.get("extra_info"))
            .and_then(|info| info.get("input_name"))
            .and_then(name_of),
    }
}

/// An error's type, if it is one of ComfyUI's words and not a sentence.
fn kind_of(error: Option<&Value>) -> String {
    let kind = error
        .and_then(|error| error.get("type"))
        .and_then(Value::as_str)
        .filter(|kind| {
            (1..=64).contains(&kind.len())
                && kind
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        });
    kind.unwrap_or(UNKNOWN_KIND).to_owned()
}

/// A name out of the graph that we sent, so the user's own.
fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.chars().take(MAX_NAME_CHARS).collect()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rejection_names_nodes_and_inputs_but_repeats_no_text() {
        let node_errors = json!({
            "10": {"class_type": "LoraLoader", "dependent_outputs": ["9"], "errors": [{
                "type": "value_not_in_list",
                "message": "Value not in list",
                "details": "lora_name: 'x' not in ['user-2/secret.safetensors']",
                "extra_info": {"input_name": "lora_name", "input_config": [["user-2/secret.safetensors"]]}
            }]},
            "9": {"class_type": "SaveImage", "errors": [{"type": "A Sentence: /srv/comfy", "extra_info": {}}]}
        });

        let nodes = node_rejections(Some(&node_errors));

        assert_eq!(nodes.len(), 2);
        assert_eq!(
            nodes[0],
            NodeRejection {
                node_id: "9".into(),
                class_type: "SaveImage".into(),
                kind: "unknown".into(),
                input_name: None,
            }
        );
        assert_eq!(nodes[1].kind, "value_not_in_list");
        assert_eq!(nodes[1].input_name.as_deref(), Some("lora_name"));
        assert!(!format!("{nodes:?}").contains("secret"));
    }

    #[test]
    fn odd_node_errors_are_none() {
        for node_errors in [json!(null), json!([]), json!("text"), json!(3)] {
            assert_eq!(node_rejections(Some(&node_errors)), []);
        }
    }
}

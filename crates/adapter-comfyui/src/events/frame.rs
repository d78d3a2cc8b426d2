use atelier_domain::ports::{ComfyEvent, PreviewFormat, PreviewImage};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// What the data of the events have that concern one prompt.
#[derive(Deserialize)]
struct PromptData {
    prompt_id: Option<String>,
    #[serde(default)]
    node: Value,
    #[serde(default)]
    nodes: Value,
    value: Option<f64>,
    max: Option<f64>,
}

/// Reads a text frame (`reference/comfyui/PROTOCOL.md` section 6); `None` for
/// what does not concern us, and for garbage.
///
/// `executing` without a node ends a prompt, well or badly: after
/// `execution_success` its history may not be readable yet. Without a prompt id
/// it only tells a new socket what runs.
pub(crate) fn event_of(text: &str) -> Option<ComfyEvent> {
    let Frame { kind, data } = serde_json::from_str(text).ok()?;
    if kind == "status" {
        let data: Value = serde_json::from_str(data.get()).ok()?;
        return data
            .pointer("/status/exec_info/queue_remaining")?
            .as_u64()
            .map(ComfyEvent::QueueRemaining);
    }
    if !matches!(
        kind,
        "execution_start" | "execution_cached" | "executing" | "progress" | "executed"
    ) {
        return None;
    }
    let data: PromptData = serde_json::from_str(data.get()).ok()?;
    let prompt_id = data.prompt_id?;
    Some(match kind {
        "execution_start" => ComfyEvent::Started { prompt_id },
        "execution_cached" => {
            let nodes = data
                .nodes
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(node_of)
                .collect();
            ComfyEvent::Cached { prompt_id, nodes }
        }
        "executing" if data.node.is_null() => ComfyEvent::Ended { prompt_id },
        "executing" => ComfyEvent::Executing {
            prompt_id,
            node_id: node_of(&data.node)?,
        },
        "progress" => ComfyEvent::Progress {
            prompt_id,
            node_id: node_of(&data.node)?,
            value: steps(data.value?),
            max: steps(data.max?),
        },
        _ => ComfyEvent::Executed {
            prompt_id,
            node_id: node_of(&data.node)?,
        },
    })
}

/// The kind of binary frame that says which prompt its picture is of.
const PREVIEW_WITH_METADATA: u32 = 4;

#[derive(Deserialize)]
struct PreviewData {
    prompt_id: String,
    node_id: String,
    image_type: String,
}

/// Reads a binary frame: a preview of a prompt's picture, or `None`. Previews
/// that do not say whose they are, are nobody's
/// (`reference/comfyui/PROTOCOL.md` section 6).
pub(crate) fn preview_of(frame: &Bytes) -> Option<ComfyEvent> {
    let number = |at: usize| {
        let bytes = frame.get(at..at.checked_add(4)?)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    };
    if number(0)? != PREVIEW_WITH_METADATA {
        return None;
    }
    let picture_at = 8_usize.checked_add(usize::try_from(number(4)?).ok()?)?;
    let data: PreviewData = serde_json::from_slice(frame.get(8..picture_at)?).ok()?;
    let content_type = PreviewFormat::ALL
        .into_iter()
        .find(|format| format.content_type() == data.image_type)?;
    let picture = frame.get(picture_at..)?;
    (1..=PreviewImage::MAX_BYTES)
        .contains(&picture.len())
        .then(|| ComfyEvent::Preview {
            prompt_id: data.prompt_id,
            node_id: data.node_id,
            image: PreviewImage {
                content_type,
                // The frame's buffer is larger, and shared.
                bytes: Bytes::copy_from_slice(picture),
            },
        })
}

fn node_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Custom nodes report fractions, and sometimes nonsense.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the conversion saturates, as is wanted"
)]
fn steps(number: f64) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_a_prompt_are_read() {
        let prompt_id = || "p".to_owned();
        let node_id = || "3".to_owned();
        for (text, event) in [
            (
                r#"{"type":"status","data":{"status":{"exec_info":{"queue_remaining":2}},"sid":"x"}}"#,
                ComfyEvent::QueueRemaining(2),
            ),
            (
                r#"{"type":"execution_start","data":{"prompt_id":"p","timestamp":1}}"#,
                ComfyEvent::Started {
                    prompt_id: prompt_id(),
                },
            ),
            (
                r#"{"type":"execution_cached","data":{"nodes":["3"],"prompt_id":"p","timestamp":1}}"#,
                ComfyEvent::Cached {
                    prompt_id: prompt_id(),
                    nodes: vec![node_id()],
                },
            ),
            (
                r#"{"type":"executing","data":{"node":"3","display_node":"3","prompt_id":"p"}}"#,
                ComfyEvent::Executing {
                    prompt_id: prompt_id(),
                    node_id: node_id(),
                },
            ),
            (
                r#"{"type":"progress","data":{"value":1,"max":20.0,"prompt_id":"p","node":"3"}}"#,
                ComfyEvent::Progress {
                    prompt_id: prompt_id(),
                    node_id: node_id(),
                    value: 1,
                    max: 20,
                },
            ),
            (
                r#"{"type":"executed","data":{"node":"3","display_node":"3","output":{"images":[]},"prompt_id":"p"}}"#,
                ComfyEvent::Executed {
                    prompt_id: prompt_id(),
                    node_id: node_id(),
                },
            ),
            (
                r#"{"type":"executing","data":{"node":null,"prompt_id":"p"}}"#,
                ComfyEvent::Ended {
                    prompt_id: prompt_id(),
                },
            ),
        ] {
            assert_eq!(event_of(text), Some(event), "{text}");
        }
    }

    #[test]
    fn what_is_not_for_us_is_passed_over() {
        for text in [
            r#"{"type":"executing","data":{"node":"3"}}"#,
            r#"{"type":"executing","data":{"node":null}}"#,
            r#"{"type":"execution_success","data":{"prompt_id":"p","timestamp":1}}"#,
            r#"{"type":"execution_error","data":{"prompt_id":"p"}}"#,
            r#"{"type":"feature_flags","data":{}}"#,
            r#"{"type":"progress","data":{"prompt_id":"p","node":"3"}}"#,
            r#"{"type":"crystools.monitor","data":{"cpu":1}}"#,
            r#"{"type":3,"data":{}}"#,
            r#"{"type":"status"}"#,
            "[]",
            "garbage",
            "",
        ] {
            assert_eq!(event_of(text), None, "{text}");
        }
    }

    #[test]
    fn senseless_steps_are_cut_to_size() {
        let text =
            r#"{"type":"progress","data":{"value":-3.5,"max":1e300,"prompt_id":"p","node":"3"}}"#;

        assert!(matches!(
            event_of(text),
            Some(ComfyEvent::Progress {
                value: 0,
                max: u32::MAX,
                ..
            })
        ));
    }

    fn preview_frame(kind: u32, data: &str, picture: &[u8]) -> Bytes {
        let mut frame = kind.to_be_bytes().to_vec();
        frame.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        frame.extend(data.as_bytes());
        frame.extend(picture);
        frame.into()
    }

    const PREVIEW: &str = r#"{"node_id":"3","prompt_id":"p","display_node_id":"3","parent_node_id":null,"real_node_id":"3","image_type":"image/jpeg"}"#;

    #[test]
    fn a_preview_says_whose_it_is() {
        let event = preview_of(&preview_frame(4, PREVIEW, b"\xff\xd8picture"));

        assert_eq!(
            event,
            Some(ComfyEvent::Preview {
                prompt_id: "p".to_owned(),
                node_id: "3".to_owned(),
                image: PreviewImage {
                    content_type: PreviewFormat::Jpeg,
                    bytes: Bytes::from_static(b"\xff\xd8picture"),
                },
            })
        );
    }

    #[test]
    fn what_is_no_preview_of_a_prompt_is_none() {
        let huge = vec![0; PreviewImage::MAX_BYTES + 1];
        for frame in [
            Bytes::new(),
            Bytes::from_static(b"\0\0\0\x04\xff\xff\xff\xff{}"),
            preview_frame(1, PREVIEW, b"x"),
            preview_frame(4, "{}", b"x"),
            preview_frame(4, PREVIEW, b""),
            preview_frame(4, PREVIEW, &huge),
            preview_frame(4, &PREVIEW.replace("jpeg", "svg+xml"), b"x"),
        ] {
            assert_eq!(preview_of(&frame), None);
        }
    }
}

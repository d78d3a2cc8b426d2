//! Links between nodes.

use serde_json::Value;

/// A link: the input takes what output `slot` of node `node_id` gives.
///
/// On the wire it is the array `["node id", slot]` (`reference/comfyui/PROTOCOL.md` section 3, "Formats").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// The node that gives the value.
    pub node_id: &'a str,
    /// Which of its outputs, counted from 0.
    pub slot: u64,
}

/// What an array of an input is, if it is anything like a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkShape<'a> {
    /// A proper link.
    Link(Link<'a>),
    /// ComfyUI takes it for a link too, but its slot is no whole number from 0 on.
    BadSlot,
    /// A node id that is a number: ComfyUI fails on it while validating.
    NumberAsId,
}

impl<'a> Link<'a> {
    /// Reads an input value as a link, or answers `None` where it is a literal.
    pub fn read(value: &'a Value) -> Option<Self> {
        match LinkShape::of(value) {
            Some(LinkShape::Link(link)) => Some(link),
            Some(LinkShape::BadSlot | LinkShape::NumberAsId) | None => None,
        }
    }
}

impl<'a> LinkShape<'a> {
    /// ComfyUI's own test, widened by what it fails on: two items, the first a string, the second a number. Python
    /// counts booleans as numbers.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        let [node, slot] = value.as_array()?.as_slice() else {
            return None;
        };
        match (node, slot) {
            (Value::String(node_id), Value::Number(_) | Value::Bool(_)) => {
                Some(match slot.as_u64() {
                    Some(slot) => Self::Link(Link { node_id, slot }),
                    None => Self::BadSlot,
                })
            }
            (Value::Number(node), Value::Number(slot)) if node.is_u64() && slot.is_u64() => {
                Some(Self::NumberAsId)
            }
            _ => None,
        }
    }
}

/// Whether ComfyUI may come to take `value` for a link, now or after it unwrapped `{"__value__": …}`
/// (`reference/comfyui/model_inputs.json`, LoRA Manager's note).
pub(super) fn may_become_link(value: &Value) -> bool {
    match value {
        Value::Array(_) => LinkShape::of(value).is_some(),
        Value::Object(members) => members.get(WRAPPER).is_some_and(may_become_link),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The member in which ComfyUI's front end wraps list values; ComfyUI unwraps it before it uses the value.
pub(super) const WRAPPER: &str = "__value__";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_string_and_a_slot_are_a_link() {
        assert_eq!(
            Link::read(&json!(["10", 1])),
            Some(Link {
                node_id: "10",
                slot: 1
            })
        );
    }

    #[test]
    fn other_arrays_are_literals() {
        for value in [
            json!([]),
            json!(["a"]),
            json!(["a", "b"]),
            json!([1.5, 2]),
            json!(["a", 1, 2]),
        ] {
            assert_eq!(LinkShape::of(&value), None, "{value}");
        }
    }

    #[test]
    fn a_wrapped_link_is_recognised() {
        assert!(may_become_link(&json!({"__value__": ["5", 0]})));
        assert!(may_become_link(&json!(["5", true])));
        assert!(!may_become_link(&json!({"value": ["5", 0]})));
    }
}

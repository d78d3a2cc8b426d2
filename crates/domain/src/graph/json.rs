//! Reads JSON text into a value and says where it breaks our bounds.
//!
//! A reader of our own, because what is checked must be what ComfyUI runs: `serde_json` keeps the last of two equal
//! keys without a word, gives one reserved key a meaning of its own, and answers deep nesting with a text about itself.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::findings::{Findings, Place};

/// What the database cannot store, in the words of a violation.
pub(super) const NUL_DETAIL: &str = "holds the character U+0000, which cannot be stored";

/// Parses `text`; whatever is wrong with it is added to `findings`.
///
/// Answers `None` where the text is no JSON at all or is nested deeper than `max_depth` containers.
pub(super) fn read(text: &str, max_depth: usize, findings: &mut Findings) -> Option<Value> {
    if is_deeper_than(text, max_depth) {
        findings.add(
            String::new,
            format!("is nested more than {max_depth} levels deep"),
        );
        return None;
    }
    let found = RefCell::new(std::mem::take(findings));
    let seed = ValueSeed {
        place: &Place::Root,
        findings: &found,
    };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    *findings = found.into_inner();
    match value {
        Ok(value) => Some(value),
        Err(error) => {
            findings.add(String::new, format!("is not valid JSON: {error}"));
            None
        }
    }
}

/// Counts brackets outside of strings, without recursion, so that no depth can exhaust a stack.
fn is_deeper_than(text: &str, max_depth: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > max_depth {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Reads one value at a place.
#[derive(Clone, Copy)]
struct ValueSeed<'a> {
    place: &'a Place<'a>,
    findings: &'a RefCell<Findings>,
}

impl ValueSeed<'_> {
    fn check_text(&self, text: &str) {
        if text.contains('\0') {
            self.findings
                .borrow_mut()
                .add(|| self.place.pointer(), NUL_DETAIL);
        }
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.check_text(&value);
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        loop {
            let place = Place::Index(self.place, items.len());
            let seed = ValueSeed {
                place: &place,
                ..self
            };
            match sequence.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let place = Place::Key(self.place, &key);
            let seed = ValueSeed {
                place: &place,
                ..self
            };
            seed.check_text(&key);
            let value = map.next_value_seed(seed)?;
            if members.contains_key(&key) {
                self.findings.borrow_mut().add(
                    || place.pointer(),
                    "is there more than once: two members of one object have the same name",
                );
            }
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

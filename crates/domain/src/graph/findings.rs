//! Collects violations without letting a hostile input make the answer huge.

use crate::validation::{Violation, pointer_token};

/// Violations told at most; the sender mends these and sees the rest at the next try.
const MAX_FINDINGS: usize = 100;

/// Characters of one pointer token told at most: an object key may be megabytes long.
const MAX_TOKEN_CHARS: usize = 256;

/// The violations found so far, bounded in number.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Violation>);

impl Findings {
    /// Adds a violation; the pointer is made only if there is room for it.
    pub(super) fn add(&mut self, pointer: impl FnOnce() -> String, detail: impl Into<String>) {
        if self.0.len() < MAX_FINDINGS {
            self.0.push(Violation::new(pointer(), detail));
        }
    }

    /// Adds every violation of `others` that there is room for.
    pub(super) fn extend(&mut self, others: Vec<Violation>) {
        let room = MAX_FINDINGS.saturating_sub(self.0.len());
        self.0.extend(others.into_iter().take(room));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_violations(self) -> Vec<Violation> {
        self.0
    }

    /// Answers `value` if nothing was found.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<Violation>> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self.0)
        }
    }
}

/// Where a value stands in a document, as a chain of borrowed steps: costs nothing until it is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'p> {
    Root,
    Key(&'p Self, &'p str),
    Index(&'p Self, usize),
}

impl Place<'_> {
    /// The JSON pointer (RFC 6901) of this place.
    pub(super) fn pointer(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Key(parent, key) => format!("{}/{}", parent.pointer(), token(key)),
            Self::Index(parent, index) => format!("{}/{index}", parent.pointer()),
        }
    }
}

/// The JSON pointer of an input of a node, relative to the graph.
pub(super) fn input_pointer(node_id: &str, input: &str) -> String {
    format!("/{}/inputs/{}", token(node_id), token(input))
}

/// The JSON pointer of a node's class, relative to the graph.
pub(super) fn class_pointer(node_id: &str) -> String {
    format!("/{}/class_type", token(node_id))
}

/// One escaped pointer token, cut short where it is absurdly long.
pub(super) fn token(text: &str) -> String {
    match text.char_indices().nth(MAX_TOKEN_CHARS) {
        None => pointer_token(text),
        Some((end, _)) => format!("{}…", pointer_token(text.get(..end).unwrap_or_default())),
    }
}

/// Quotes a name of the sender's in a detail, cut short and without control characters.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_TOKEN_CHARS)
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(MAX_TOKEN_CHARS).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

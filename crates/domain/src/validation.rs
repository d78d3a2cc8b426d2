//! What was wrong with an input, and where.

use std::fmt;

/// One thing wrong with an input, told so that the sender can mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// A JSON pointer (RFC 6901) into the document that was sent, such as
    /// `/workflow_json/10/inputs/lora_name`; empty for the whole document.
    pub pointer: String,
    /// What is wrong, and what would be right, in one sentence.
    pub detail: String,
}

impl Violation {
    /// Names what is wrong at a JSON pointer.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    /// Moves the violation below `prefix`, a JSON pointer.
    #[must_use]
    pub fn under(mut self, prefix: &str) -> Self {
        self.pointer.insert_str(0, prefix);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.pointer, self.detail)
    }
}

/// Escapes one reference token of a JSON pointer (RFC 6901 section 3).
pub fn pointer_token(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointer_tokens_escape_tilde_before_slash() {
        assert_eq!(pointer_token("a/b~c"), "a~1b~0c");
    }

    #[test]
    fn a_violation_moves_below_the_member_it_came_from() {
        let violation = Violation::new("/3/inputs/seed", "is not a number").under("/workflow_json");

        assert_eq!(violation.pointer, "/workflow_json/3/inputs/seed");
    }
}

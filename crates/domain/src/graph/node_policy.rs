//! Which classes of nodes a graph may use.

use std::fmt;

use super::PromptGraph;
use super::findings::{Findings, class_pointer, quoted};
use super::refused_classes::REFUSED_CLASSES;
use crate::validation::Violation;

/// Bytes that a pattern may have.
const MAX_PATTERN_BYTES: usize = 200;

/// Why a text is no [`ClassPattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the name of a class in 1 to {MAX_PATTERN_BYTES} bytes, with * for any characters")]
pub struct InvalidClassPattern;

/// Names classes of nodes: one by its name, or many with `*` for any characters, none included. Case counts, as for
/// ComfyUI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassPattern(String);

impl ClassPattern {
    /// Takes a pattern.
    ///
    /// # Errors
    /// [`InvalidClassPattern`].
    pub fn parse(text: &str) -> Result<Self, InvalidClassPattern> {
        let fits = (1..=MAX_PATTERN_BYTES).contains(&text.len())
            && text.trim() == text
            && !text.contains(char::is_control);
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidClassPattern)
        }
    }

    /// Whether it names this class.
    pub fn matches(&self, class_type: &str) -> bool {
        matches(&self.0, class_type)
    }
}

impl fmt::Display for ClassPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Takes the shortest text for each `*`, which is enough: a later `*` takes what is left. Linear in the text for each
/// piece between two of them.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(start) else {
        return false;
    };
    let (between, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for piece in between.split('*') {
        let Some((_, after)) = left.split_once(piece) else {
            return false;
        };
        left = after;
    }
    left.ends_with(end)
}

/// Which classes graphs may use here.
///
/// A ComfyUI is shared by everybody, and its classes run with all its rights: one that runs code or reads any path
/// reaches what is other people's, whatever else is checked. The default refuses those that are known to
/// ([`NodePolicy::refused_by_default`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePolicy {
    deny: Vec<ClassPattern>,
    allow: Option<Vec<ClassPattern>>,
}

/// Why a class is not to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassRefusal {
    /// It is one of the classes that are refused unless the operator says otherwise; what it does.
    Known(&'static str),
    /// The operator refuses it.
    Denied,
    /// The operator allows others only.
    NotAllowed,
}

impl ClassRefusal {
    /// The words of a violation, without the class.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Known(reason) => reason,
            Self::Denied => "the operator of this server refuses it",
            Self::NotAllowed => "it is none of the classes that the operator of this server allows",
        }
    }
}

impl Default for NodePolicy {
    fn default() -> Self {
        Self::new(Self::refused_by_default().collect(), None)
    }
}

impl NodePolicy {
    /// Refuses what `deny` names, and, with `allow`, all that it does not name. `deny` wins.
    pub const fn new(deny: Vec<ClassPattern>, allow: Option<Vec<ClassPattern>>) -> Self {
        Self { deny, allow }
    }

    /// Refuses nothing.
    pub const fn open() -> Self {
        Self::new(Vec::new(), None)
    }

    /// The classes that are known to run code, to read or write any path, to reach into the network, or to keep what
    /// the next prompt reads, whosever that is.
    pub fn refused_by_default() -> impl Iterator<Item = ClassPattern> {
        REFUSED_CLASSES
            .iter()
            .flat_map(|group| group.classes)
            .map(|class| ClassPattern((*class).to_owned()))
    }

    /// Why a class may not be used; `None` if it may.
    pub fn refusal(&self, class_type: &str) -> Option<ClassRefusal> {
        if self.deny.iter().any(|pattern| pattern.matches(class_type)) {
            let known = REFUSED_CLASSES.iter().find(|group| {
                let mut classes = group.classes.iter();
                classes.any(|class| matches(class, class_type))
            });
            return Some(known.map_or(ClassRefusal::Denied, |group| {
                ClassRefusal::Known(group.reason)
            }));
        }
        let allowed = self
            .allow
            .as_ref()
            .is_none_or(|allow| allow.iter().any(|pattern| pattern.matches(class_type)));
        (!allowed).then_some(ClassRefusal::NotAllowed)
    }
}

impl PromptGraph {
    /// Says which nodes are of a class that may not be used; pointers `/{node}/class_type`.
    pub fn policy_violations(&self, policy: &NodePolicy) -> Vec<Violation> {
        let mut findings = Findings::default();
        for (id, node) in &self.nodes {
            if let Some(refusal) = policy.refusal(node.class_type()) {
                let detail = format!(
                    "is {}, which may not be used here: {}",
                    quoted(node.class_type()),
                    refusal.reason()
                );
                findings.add(|| class_pointer(id.as_str()), detail);
            }
        }
        findings.into_violations()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str, class: &str) -> bool {
        ClassPattern::parse(pattern).unwrap().matches(class)
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, class) in [
            ("LoadImage", "LoadImage"),
            ("Load*", "LoadImage"),
            ("Load*", "Load"),
            ("*Image", "LoadImage"),
            ("*", "anything"),
            ("*a*", "banana"),
            ("b*na", "banana"),
            ("b*an*na", "banana"),
            ("*é*", "café au lait"),
            ("a**b", "ab"),
        ] {
            assert!(names(pattern, class), "{pattern} {class}");
        }
        for (pattern, class) in [
            ("LoadImage", "LoadImageMask"),
            ("loadimage", "LoadImage"),
            ("Load*", "VHS_Load"),
            ("*Image", "Images"),
            ("b*nan*na", "banana"),
            ("ab*ba", "aba"),
            ("a*b*c", "acb"),
        ] {
            assert!(!names(pattern, class), "{pattern} {class}");
        }
    }

    #[test]
    fn what_is_no_name_is_no_pattern() {
        for text in ["", " a", "a ", "a\nb", &"x".repeat(201)] {
            assert_eq!(
                ClassPattern::parse(text),
                Err(InvalidClassPattern),
                "{text:?}"
            );
        }
    }

    #[test]
    fn refusing_wins_over_allowing() {
        let pattern = |text| ClassPattern::parse(text).unwrap();
        let policy = NodePolicy::new(
            vec![pattern("Save*")],
            Some(vec![pattern("*Image"), pattern("KSampler")]),
        );

        assert_eq!(policy.refusal("LoadImage"), None);
        assert_eq!(policy.refusal("KSampler"), None);
        assert_eq!(policy.refusal("SaveImage"), Some(ClassRefusal::Denied));
        assert_eq!(policy.refusal("VAEDecode"), Some(ClassRefusal::NotAllowed));
        assert_eq!(NodePolicy::open().refusal("SaveImage"), None);
    }

    #[test]
    fn the_default_refuses_every_group_and_says_why() {
        let policy = NodePolicy::default();
        for group in REFUSED_CLASSES {
            for class in group.classes {
                let class = class.replace('*', "x");
                assert!(
                    matches!(policy.refusal(&class), Some(ClassRefusal::Known(_))),
                    "{class}"
                );
            }
        }
    }
}

//! `<lora:name:weight>` in texts.

use std::ops::Range;

/// How a class writes the weights of a tag whose name it takes as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TagSyntax {
    /// Weights that may follow the name.
    pub(super) weights: usize,
}

/// What every tag begins with.
const START: &str = "lora:";

/// Finds the names of all tags in a text, in their order.
///
/// `None` where something looks like a tag and is none by the class's own syntax: what the class makes of it cannot be
/// told. A text without tags has no names.
pub(super) fn tag_names(text: &str, syntax: TagSyntax) -> Option<Vec<Range<usize>>> {
    let mut names = Vec::new();
    for at in tag_starts(text) {
        names.push(exact_name(text, at, syntax)?);
    }
    Some(names)
}

/// Whether a text holds anything like a tag.
pub(super) fn has_tag(text: &str) -> bool {
    tag_starts(text).next().is_some()
}

/// Whether a text that a class expands before it looks for tags could come to hold one: a `<`, and choices or
/// wildcards of which the rest could be made.
pub(super) fn may_make_tag(text: &str) -> bool {
    text.contains('<') && (text.contains('{') || text.contains("__"))
}

/// Whether a name can stand in a tag.
pub(super) fn fits_tag(name: &str) -> bool {
    !name.is_empty()
        && !name
            .chars()
            .any(|character| matches!(character, '<' | '>' | ':') || character.is_control())
}

/// Where anything like a tag begins, wider than any pack's own pattern: `<`, blanks, `lora` in any case, blanks, `:`.
fn tag_starts(text: &str) -> impl Iterator<Item = usize> {
    text.match_indices('<')
        .filter(|(at, _)| {
            let after = text.get(at + 1..).unwrap_or_default().trim_start();
            after
                .get(..4)
                .is_some_and(|word| word.eq_ignore_ascii_case("lora"))
                && after
                    .get(4..)
                    .is_some_and(|rest| rest.trim_start().starts_with(':'))
        })
        .map(|(at, _)| at)
}

/// The name in the tag that begins at `at`, if it is one by the letter. A name may be anything up to the next `:` or
/// `>`, but with a `<` in it nobody could say which of two tags it is.
fn exact_name(text: &str, at: usize, syntax: TagSyntax) -> Option<Range<usize>> {
    let begin = at + 1 + START.len();
    let after = text.get(at + 1..)?.strip_prefix(START)?;
    let length = after.find([':', '>'])?;
    let (name, rest) = after.split_at_checked(length)?;
    let (weights, _) = rest.split_once('>')?;
    let is_exact = !name.contains('<')
        && weights.split(':').skip(1).all(is_weight)
        && weights.matches(':').count() <= syntax.weights;
    is_exact.then(|| begin..begin + length)
}

/// `-?\d*(\.\d*)?` of digits that every language counts as such.
fn is_weight(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    whole
        .bytes()
        .chain(fraction.bytes())
        .all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TagSyntax = TagSyntax { weights: 1 };
    const TWO: TagSyntax = TagSyntax { weights: 2 };

    fn names(text: &str, syntax: TagSyntax) -> Option<Vec<&str>> {
        let names = tag_names(text, syntax)?;
        Some(
            names
                .into_iter()
                .filter_map(|name| text.get(name))
                .collect(),
        )
    }

    #[test]
    fn tags_are_seen_however_they_are_written() {
        assert!(has_tag("a cat <lora:style:0.8>"));
        assert!(has_tag("< LoRA : style>"));
        assert!(has_tag("<<lora:x"));
        assert!(!has_tag("a <b> lora: c"));
        assert!(!has_tag("<lorax:1>"));
        assert!(!has_tag("<"));
    }

    #[test]
    fn exact_tags_give_their_names() {
        for (text, expected) in [
            ("a cat", &[][..]),
            ("a <lora:b.safetensors:0.8> c", &["b.safetensors"]),
            ("<lora:ü/b c>", &["ü/b c"]),
            (
                "<lora:a:><lora:b:-.5>x<lora:c:-1.><lora:a:1>",
                &["a", "b", "c", "a"],
            ),
            ("<lora::1>", &[""]),
            ("é<b>…<lora:a\nb:1>", &["a\nb"]),
        ] {
            assert_eq!(names(text, ONE).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(names("<lora:a:1:0.5>", TWO), Some(vec!["a"]));
    }

    #[test]
    fn what_only_looks_like_a_tag_gives_none() {
        for text in [
            "<lora:a",
            "<lora:a:b>",
            "<lora:a:1:2>",
            "<lora:a:1 >",
            "<lora:a:１>",
            "<lora:a:--1>",
            "<lora:a:1.2.3>",
            "< lora:a:1>",
            "<LORA:a:1>",
            "<lora :a:1>",
            "<lora:a<lora:1>",
            "<lora:a<b:1>",
            "<lora:good:1> and <lora:bad:x>",
        ] {
            assert_eq!(names(text, ONE), None, "{text}");
        }
        assert_eq!(names("<lora:a:1:2:3>", TWO), None);
    }

    #[test]
    fn names_that_would_end_a_tag_do_not_fit() {
        assert!(fits_tag("user-x/a b.safetensors"));
        for name in ["", "a:b", "a>b", "<a", "a\nb"] {
            assert!(!fits_tag(name), "{name}");
        }
    }
}

//! Entity tags and the conditions on them (RFC 9110 sections 8.8.3 and 13).

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH};
use atelier_domain::workflow::Revision;

use super::problem::{Problem, ProblemCode};

/// The entity tag of a revision.
pub(crate) fn revision_tag(revision: Revision) -> String {
    format!("\"{}\"", revision.get())
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct EntityTag {
    weak: bool,
    opaque: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TagList {
    Any,
    Tags(Vec<EntityTag>),
}

/// Reads a header of entity tags; `None` if it is absent.
fn tag_list(headers: &HeaderMap, name: &HeaderName) -> Option<TagList> {
    let mut values = headers.get_all(name).peekable();
    values.peek()?;
    let mut tags = Vec::new();
    for value in values {
        if value.as_bytes().trim_ascii() == b"*" {
            return Some(TagList::Any);
        }
        read_tags(value, &mut tags);
    }
    Some(TagList::Tags(tags))
}

/// Adds the tags of one field line, up to the first thing that is none.
fn read_tags(value: &HeaderValue, tags: &mut Vec<EntityTag>) {
    let text = String::from_utf8_lossy(value.as_bytes());
    let mut rest = text.as_ref();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let Some((opaque, after)) = quoted
            .strip_prefix('"')
            .and_then(|opened| opened.split_once('"'))
        else {
            return;
        };
        tags.push(EntityTag {
            weak,
            opaque: opaque.to_owned(),
        });
        rest = after;
    }
}

/// What `If-Match` demands of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Nothing, or only that there is one.
    Unconditional,
    /// One of these revisions; of none, if the tags are weak or not ours.
    OneOf(Vec<Revision>),
}

impl IfMatch {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match tag_list(headers, &IF_MATCH) {
            None | Some(TagList::Any) => Self::Unconditional,
            // If-Match compares strongly: a weak tag matches nothing.
            Some(TagList::Tags(tags)) => Self::OneOf(
                tags.iter()
                    .filter(|tag| !tag.weak)
                    .filter_map(|tag| super::query::digits(&tag.opaque).map(Revision::new))
                    .collect(),
            ),
        }
    }
}

/// Whether `If-None-Match` says that the sender has this very representation.
/// Compares weakly, as caches that weaken tags need.
pub(crate) fn none_match_hits(headers: &HeaderMap, tag: &str) -> bool {
    match tag_list(headers, &IF_NONE_MATCH) {
        None => false,
        Some(TagList::Any) => true,
        Some(TagList::Tags(tags)) => tags
            .iter()
            .any(|candidate| tag.trim_matches('"') == candidate.opaque),
    }
}

/// The thing is at another revision than the sender demands.
pub(crate) fn precondition_failed(now: Option<Revision>) -> Problem {
    let problem = Problem::new(
        ProblemCode::PreconditionFailed,
        "If-Match names no current ETag. Read it again and repeat your change, the ETag sent as it comes, with its quotes.",
    );
    let tag = now.and_then(|revision| HeaderValue::try_from(revision_tag(revision)).ok());
    match tag {
        Some(tag) => problem.with_header(actix_web::http::header::ETAG, tag),
        None => problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(values: &[&'static str]) -> IfMatch {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, HeaderValue::from_static(value));
        }
        IfMatch::of(&headers)
    }

    fn revisions(counts: &[i64]) -> IfMatch {
        IfMatch::OneOf(counts.iter().copied().map(Revision::new).collect())
    }

    #[test]
    fn if_match_takes_lists_over_several_lines_and_an_asterisk() {
        assert_eq!(if_match(&[]), IfMatch::Unconditional);
        assert_eq!(if_match(&[" * "]), IfMatch::Unconditional);
        assert_eq!(if_match(&["\"7\""]), revisions(&[7]));
        assert_eq!(if_match(&["\"a,b\" , \"7\",", "\"8\""]), revisions(&[7, 8]));
    }

    #[test]
    fn weak_and_foreign_and_unquoted_tags_match_nothing() {
        for value in ["W/\"7\"", "\"+7\"", "\"seven\"", "7", "\"7"] {
            assert_eq!(if_match(&[value]), revisions(&[]), "{value}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let mut headers = HeaderMap::new();
        headers.append(IF_NONE_MATCH, HeaderValue::from_static("\"1\", W/\"7\""));

        assert!(none_match_hits(&headers, "\"7\""));
        assert!(!none_match_hits(&headers, "\"8\""));
    }
}

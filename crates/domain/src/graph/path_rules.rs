//! What no file name in a graph may be, whoever's it is.

use uuid::Uuid;

use crate::ids::UserId;

/// Says why `path` could lead out of the folder it is meant for, in the words of a violation.
///
/// ComfyUI joins such names to one of its folders, on Linux or on Windows, so both notations count.
pub(crate) fn path_fault(path: &str) -> Option<&'static str> {
    if path.chars().any(char::is_control) {
        return Some("holds a control character");
    }
    if path.contains('\\') {
        return Some("holds a backslash; folders are separated by \"/\"");
    }
    if path.starts_with('/') || has_drive(path) {
        return Some("is an absolute path; name a file relative to its folder");
    }
    if path.split('/').any(climbs) {
        return Some("holds \"..\", which leads out of the folder");
    }
    None
}

fn has_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// Windows drops trailing spaces of a segment, so `".. "` climbs too.
fn climbs(segment: &str) -> bool {
    segment.trim_end() == ".."
}

/// Whether `text` names the folder `user-{uuid}` of somebody else, anywhere and in any spelling.
pub(super) fn names_other_user(text: &str, owner: UserId) -> bool {
    const MARK: &[u8] = b"user-";
    const HYPHENATED: usize = 36;
    const SIMPLE: usize = 32;
    let bytes = text.as_bytes();
    bytes
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| window.eq_ignore_ascii_case(MARK))
        .any(|(at, _)| {
            let start = at + MARK.len();
            [HYPHENATED, SIMPLE].iter().any(|length| {
                bytes
                    .get(start..start + length)
                    .and_then(|id| Uuid::try_parse_ascii(id).ok())
                    .is_some_and(|id| id != owner.as_uuid())
            })
        })
}

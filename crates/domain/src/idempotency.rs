//! Requests that may be sent twice and are carried out once.
//!
//! The header is `Idempotency-Key` of draft-ietf-httpapi-idempotency-key-header.

use std::fmt;

use crate::digest::Sha256Digest;

/// How long an answer is kept, in hours: a request that comes again later is a
/// new one.
pub const RETENTION_HOURS: u32 = 24;

/// What a client calls its request: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the header's value: a string in quotes, as the draft has it, or
    /// bare, as common clients send it. `None` for anything else.
    pub fn parse(header: &str) -> Option<Self> {
        let header = header.trim();
        let bare = match header.strip_prefix('"') {
            Some(rest) => unquoted(rest.strip_suffix('"')?)?,
            None => header.to_owned(),
        };
        let is_good = (1..=255).contains(&bare.len())
            && bare
                .bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        is_good.then_some(Self(bare))
    }

    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The inside of a quoted string (RFC 9651, section 4.2.5).
fn unquoted(inside: &str) -> Option<String> {
    let mut plain = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(
                characters
                    .next()
                    .filter(|next| matches!(next, '"' | '\\'))?,
            ),
            '"' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A request that is carried out once. Its key counts within the person, the
/// method and the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// What the client calls it.
    pub key: IdempotencyKey,
    /// The HTTP method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The SHA-256 digest of the body: the same key with another body is a
    /// mistake.
    pub fingerprint: Sha256Digest,
}

/// The answer to a request, as it was and will be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The header `Location`.
    pub location: Option<String>,
    /// The body, a JSON text.
    pub body: String,
}

/// What an earlier request under the same key left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EarlierRequest {
    /// The same request: this was its answer.
    Answered(StoredAnswer),
    /// Another body under the same key.
    Different,
    /// The same key is being answered at this moment.
    Underway,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_quoted_and_bare() {
        let key = |header| IdempotencyKey::parse(header).map(|key| key.0);

        assert_eq!(key("\"8e03978e-40d5\""), Some("8e03978e-40d5".to_owned()));
        assert_eq!(key("8e03978e-40d5"), Some("8e03978e-40d5".to_owned()));
        assert_eq!(key(r#""a\"b\\c""#), Some("a\"b\\c".to_owned()));
    }

    #[test]
    fn what_is_no_key_is_none() {
        for header in [
            "",
            "\"\"",
            "\"open",
            "\"a\"b\"",
            r#""\n""#,
            "caf\u{e9}",
            "a\tb",
        ] {
            assert_eq!(IdempotencyKey::parse(header), None, "{header:?}");
        }
        assert!(IdempotencyKey::parse(&"k".repeat(255)).is_some());
        assert!(IdempotencyKey::parse(&"k".repeat(256)).is_none());
    }
}

//! Pages by keyset: newest first, stable while rows come and go.

use std::fmt;

use chrono::{DateTime, Utc};
use thiserror::Error;
use uuid::Uuid;

/// How many items a page holds: 1..=200, 50 unless told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit(u16);

impl PageLimit {
    /// The largest page.
    pub const MAX: u16 = 200;

    /// Takes 1..=200; `None` for anything else.
    pub const fn new(limit: u16) -> Option<Self> {
        if limit >= 1 && limit <= Self::MAX {
            Some(Self(limit))
        } else {
            None
        }
    }

    /// The number of items.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(50)
    }
}

/// The place in a list after which the next page begins: the sort key of the
/// last item seen, in the order `(created_at desc, id desc)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// When the last item seen was created, to the microsecond.
    pub created_at: DateTime<Utc>,
    /// Its id, which breaks ties.
    pub id: Uuid,
}

const CURSOR_VERSION: u8 = 1;
const CURSOR_BYTES: usize = 1 + 4 + 8 + 16;

/// A cursor that was not made by [`Cursor::encode`] for the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Not a cursor at all, or one of another version.
    #[error("the cursor is not one that this server gave out")]
    Malformed,
    /// A cursor of a list with other filters.
    #[error("the cursor belongs to a list with other filters; start again without a cursor")]
    OtherList,
}

impl Cursor {
    /// Writes the cursor as opaque text for the list that `list` describes,
    /// its resource and filters, such as `runs?status=failed`.
    pub fn encode(&self, list: &str) -> String {
        use fmt::Write as _;

        let mut bytes = Vec::with_capacity(CURSOR_BYTES);
        bytes.push(CURSOR_VERSION);
        bytes.extend(fingerprint(list).to_be_bytes());
        bytes.extend(self.created_at.timestamp_micros().to_be_bytes());
        bytes.extend(self.id.as_bytes());

        let mut text = String::with_capacity(CURSOR_BYTES * 2);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _infallible = write!(text, "{byte:02x}");
        }
        text
    }

    /// Reads what [`Cursor::encode`] wrote for the same `list`.
    ///
    /// # Errors
    /// [`CursorError::Malformed`] for any other text,
    /// [`CursorError::OtherList`] for a cursor of another list.
    pub fn decode(text: &str, list: &str) -> Result<Self, CursorError> {
        let bytes = from_hex(text).ok_or(CursorError::Malformed)?;
        let (version, rest) = bytes.split_first().ok_or(CursorError::Malformed)?;
        let (list_bytes, rest) = rest.split_first_chunk().ok_or(CursorError::Malformed)?;
        let (micros, rest) = rest.split_first_chunk().ok_or(CursorError::Malformed)?;
        let id = <[u8; 16]>::try_from(rest).map_err(|_unsized| CursorError::Malformed)?;
        if *version != CURSOR_VERSION {
            return Err(CursorError::Malformed);
        }
        if u32::from_be_bytes(*list_bytes) != fingerprint(list) {
            return Err(CursorError::OtherList);
        }
        Ok(Self {
            created_at: DateTime::from_timestamp_micros(i64::from_be_bytes(*micros))
                .ok_or(CursorError::Malformed)?,
            id: Uuid::from_bytes(id),
        })
    }
}

/// FNV-1a, 32 bits: it tells lists apart, it protects nothing. What a forged
/// cursor reaches is still only what the actor may see.
fn fingerprint(list: &str) -> u32 {
    list.bytes().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != CURSOR_BYTES * 2 || !text.is_ascii() {
        return None;
    }
    text.as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let digits = std::str::from_utf8(pair).ok()?;
            // from_str_radix would take a sign as well.
            digits
                .bytes()
                .all(|digit| digit.is_ascii_hexdigit())
                .then(|| u8::from_str_radix(digits, 16).ok())?
        })
        .collect()
}

/// Which page of a list is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// How many items at the most.
    pub limit: PageLimit,
    /// Where it begins; `None` for the first page.
    pub after: Option<Cursor>,
}

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, at most as many as the request's limit.
    pub items: Vec<T>,
    /// Where the next page begins; `None` on the last page.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page of rows that were fetched with one more than the limit:
    /// the extra row says that there is a next page and is left out.
    pub fn from_rows(mut rows: Vec<T>, limit: PageLimit, position: impl Fn(&T) -> Cursor) -> Self {
        let wanted = usize::from(limit.get());
        let more = rows.len() > wanted;
        rows.truncate(wanted);
        let next = more.then(|| rows.last().map(position)).flatten();
        Self { items: rows, next }
    }

    /// Turns every item into something else.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> Page<U> {
        Page {
            items: self.items.into_iter().map(change).collect(),
            next: self.next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cursor() -> Cursor {
        Cursor {
            created_at: DateTime::from_timestamp_micros(1_795_000_000_123_456)
                .expect("a valid time"),
            id: Uuid::from_u128(7),
        }
    }

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let text = cursor().encode("runs?status=");

        assert_eq!(Cursor::decode(&text, "runs?status="), Ok(cursor()));
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        let text = cursor().encode("runs?status=");

        assert_eq!(
            Cursor::decode(&text, "runs?status=failed"),
            Err(CursorError::OtherList)
        );
    }

    #[test]
    fn the_extra_row_becomes_the_next_cursor_only() {
        let rows = vec![3_u32, 2, 1];
        let limit = PageLimit::new(2).expect("in range");

        let page = Page::from_rows(rows, limit, |row| Cursor {
            id: Uuid::from_u128(u128::from(*row)),
            ..cursor()
        });

        assert_eq!(page.items, [3, 2]);
        assert_eq!(page.next.map(|next| next.id), Some(Uuid::from_u128(2)));
    }

    #[test]
    fn limits_outside_one_to_two_hundred_do_not_exist() {
        assert_eq!(PageLimit::new(0), None);
        assert_eq!(PageLimit::new(201), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_decoding_panic(text in "\\PC{0,80}") {
            let _outcome = Cursor::decode(&text, "runs");
        }
    }
}

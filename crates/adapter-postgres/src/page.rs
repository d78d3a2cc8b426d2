//! Pages by keyset.

use atelier_domain::page::{Cursor, PageRequest};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use uuid::Uuid;

/// Where a page begins, as two values that every list compares with: for the first page, what no row reaches (the
/// tables keep times before the year 9999).
///
/// One statement for all pages means one plan to look at.
pub(crate) fn before(page: &PageRequest) -> (DateTime<Utc>, Uuid) {
    match page.after {
        Some(Cursor { created_at, id }) => (created_at, id),
        None => (end_of_time(), Uuid::max()),
    }
}

fn end_of_time() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(9999, 12, 31).map_or(DateTime::<Utc>::MAX_UTC, |day| {
        day.and_time(NaiveTime::MIN).and_utc()
    })
}

/// How many rows to fetch: one more than wanted, which tells whether there is a next page.
pub(crate) fn rows_to_fetch(page: &PageRequest) -> i64 {
    i64::from(page.limit.get()) + 1
}

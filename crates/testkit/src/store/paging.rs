use atelier_domain::page::{Cursor, Page, PageRequest};

/// Makes the page that was asked for out of all rows of a list.
pub(super) fn page_of<T>(
    rows: impl Iterator<Item = T>,
    request: PageRequest,
    position: impl Fn(&T) -> Cursor,
) -> Page<T> {
    let key = |cursor: Cursor| (cursor.created_at, cursor.id);
    let mut rows: Vec<T> = rows
        .filter(|row| {
            request
                .after
                .is_none_or(|after| key(position(row)) < key(after))
        })
        .collect();
    rows.sort_by_key(|row| std::cmp::Reverse(key(position(row))));
    rows.truncate(usize::from(request.limit.get()) + 1);
    Page::from_rows(rows, request.limit, position)
}

/// Whether one of `texts` contains `wanted`, whatever the case; nothing in
/// `wanted` has a meaning of its own.
pub(super) fn contains_text(texts: &[Option<&str>], wanted: &str) -> bool {
    let wanted = wanted.to_lowercase();
    texts
        .iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(&wanted))
}

/// Whether `tag` is one of `tags`, exactly.
pub(super) fn has_tag(tags: &[String], tag: &str) -> bool {
    tags.iter().any(|candidate| candidate == tag)
}

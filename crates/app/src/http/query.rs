//! Query parameters, with every fault told at once.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use atelier_domain::page::{Cursor, CursorError, PageLimit, PageRequest};
use atelier_domain::validation::Violation;

use super::problem::{Problem, ProblemCode};

/// The query of a request. A handler takes out what it knows and calls
/// [`Query::finish`], which refuses what is left over.
#[derive(Debug)]
pub(crate) struct Query {
    path: String,
    parameters: Vec<(String, String)>,
    taken: Vec<(String, String)>,
    violations: Vec<Violation>,
}

impl FromRequest for Query {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self::new(request.path(), request.query_string())))
    }
}

impl Query {
    fn new(path: &str, query: &str) -> Self {
        Self {
            path: path.to_owned(),
            parameters: url::form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
            taken: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Takes a parameter; an empty one is as good as none.
    fn take(&mut self, name: &str) -> Option<String> {
        let mut value = None;
        let mut kept = Vec::with_capacity(self.parameters.len());
        for (parameter, given) in std::mem::take(&mut self.parameters) {
            if parameter != name {
                kept.push((parameter, given));
            } else if value.is_none() {
                value = Some(given);
            } else {
                self.refuse(name, "is there more than once");
            }
        }
        self.parameters = kept;
        let value = value.filter(|value| !value.is_empty())?;
        self.taken.push((name.to_owned(), value.clone()));
        Some(value)
    }

    fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        self.violations
            .push(Violation::new(format!("?{name}"), detail));
    }

    /// Takes a text of at most `limit` characters.
    pub(crate) fn text(&mut self, name: &str, limit: usize) -> Option<String> {
        let value = self.take(name)?;
        if value.chars().count() > limit {
            self.refuse(name, format!("must have at most {limit} characters"));
            return None;
        }
        if value.chars().any(char::is_control) {
            self.refuse(name, "must not contain control characters");
            return None;
        }
        Some(value)
    }

    /// Takes a value that `parse` reads; `allowed` says which it does.
    pub(crate) fn value<T>(
        &mut self,
        name: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = self.take(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.refuse(name, format!("must be {allowed}"));
        }
        parsed
    }

    /// Takes what all lists know, `limit` and `cursor`, and ends the reading.
    pub(crate) fn finish_list(mut self) -> Result<ListQuery, Problem> {
        let limit = self.value("limit", "a number from 1 to 200", |text| {
            digits(text).and_then(PageLimit::new)
        });
        let cursor = self.take("cursor");
        self.taken.retain(|(name, _)| name != "cursor");
        let query = ListQuery {
            path: std::mem::take(&mut self.path),
            filters: std::mem::take(&mut self.taken),
            limit: limit.unwrap_or_default(),
            cursor,
        };
        self.finish()?;
        Ok(query)
    }

    /// Refuses what nobody took, and everything that was wrong before.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.parameters) {
            self.refuse(&name, "is not a parameter of this address");
        }
        if self.violations.is_empty() {
            Ok(())
        } else {
            Err(Problem::validation(self.violations))
        }
    }
}

/// Reads `true` or `false`.
pub(crate) fn flag(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// Reads a number without a sign.
pub(crate) fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Which page of which list a request wants.
#[derive(Debug)]
pub(crate) struct ListQuery {
    path: String,
    filters: Vec<(String, String)>,
    limit: PageLimit,
    cursor: Option<String>,
}

impl ListQuery {
    /// Reads the cursor as one of the list that `list` describes.
    ///
    /// # Errors
    /// `bad-cursor`, 400.
    pub(crate) fn page(&self, list: &str) -> Result<PageRequest, Problem> {
        let after = self
            .cursor
            .as_deref()
            .map(|text| Cursor::decode(text, list))
            .transpose()
            .map_err(bad_cursor)?;
        Ok(PageRequest {
            limit: self.limit,
            after,
        })
    }

    /// How many items at the most.
    pub(crate) fn limit(&self) -> usize {
        usize::from(self.limit.get())
    }

    /// The cursor as a text that `decode` reads, for lists whose cursors are of
    /// their own making.
    ///
    /// # Errors
    /// `bad-cursor`, 400.
    pub(crate) fn cursor_by<T>(
        &self,
        decode: impl FnOnce(&str) -> Result<T, CursorError>,
    ) -> Result<Option<T>, Problem> {
        let cursor = self.cursor.as_deref().map(decode);
        cursor.transpose().map_err(bad_cursor)
    }

    /// The address of the page that begins at `cursor`, relative to the root.
    pub(crate) fn address_of(&self, cursor: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.filters);
        query.append_pair("cursor", cursor);
        format!("{}?{}", self.path, query.finish())
    }
}

fn bad_cursor(fault: CursorError) -> Problem {
    Problem::new(ProblemCode::BadCursor, format!("?cursor: {fault}."))
        .with_errors(vec![Violation::new("?cursor", fault.to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told() {
        let mut query = Query::new("/runs", "limit=0&tag=a%00b&tag=c&typo=1&status=odd");
        let _tag = query.text("tag", 64);
        let _status = query.value("status", "a status", |_| None::<()>);

        let problem = query.finish_list().unwrap_err();

        let text = problem.to_json();
        let pointers: Vec<_> = text["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(pointers, ["?tag", "?tag", "?status", "?limit", "?typo"]);
    }

    #[test]
    fn the_next_page_keeps_filters_and_limit() {
        let mut query = Query::new("/runs", "cursor=old&tag=a%26b&limit=7");
        let _tag = query.text("tag", 64);

        let list = query.finish_list().unwrap();

        assert_eq!(list.address_of("new"), "/runs?tag=a%26b&limit=7&cursor=new");
    }
}

//! Reads what people write about their things, and keeps every fault.

use std::collections::BTreeSet;

use atelier_domain::api_token::Scope;
use atelier_domain::graph::{GraphJson, PromptGraph};
use atelier_domain::text::{Description, Name, Tags};
use atelier_domain::validation::Violation;
use chrono::{DateTime, Utc};

/// Tags that are looked at one by one; what is beyond is refused by number.
const MAX_TAGS_READ: usize = 100;

/// The fields of one request, and what is wrong with them.
///
/// Each method answers `None` where it kept a fault.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    violations: Vec<Violation>,
}

impl Fields {
    pub(crate) fn name(&mut self, text: &str) -> Option<Name> {
        self.keep("/name", Name::parse(text))
    }

    /// `Some(None)` where there is none and none is needed.
    #[expect(
        clippy::option_option,
        reason = "the outer one is a fault, as everywhere here"
    )]
    pub(crate) fn description(&mut self, text: Option<&str>) -> Option<Option<Description>> {
        match text {
            None => Some(None),
            Some(text) => self
                .keep("/description", Description::parse(text))
                .map(Some),
        }
    }

    pub(crate) fn tags(&mut self, tags: &[String]) -> Option<Tags> {
        let faults_before = self.violations.len();
        for (index, tag) in tags.iter().take(MAX_TAGS_READ).enumerate() {
            if let Err((_, fault)) = Tags::parse([tag]) {
                self.refuse(format!("/tags/{index}"), fault.to_string());
            }
        }
        match Tags::parse(tags) {
            Ok(tags) => Some(tags),
            Err((None, fault)) => {
                self.refuse("/tags", fault.to_string());
                None
            }
            Err((Some(index), fault)) => {
                if self.violations.len() == faults_before {
                    self.refuse(format!("/tags/{index}"), fault.to_string());
                }
                None
            }
        }
    }

    pub(crate) fn scopes(&mut self, scopes: &[String]) -> Option<BTreeSet<Scope>> {
        if scopes.is_empty() {
            self.refuse("/scopes", "must name at least one scope".to_owned());
            return None;
        }
        if scopes.len() > Scope::ALL.len() {
            self.refuse("/scopes", "must name each scope once".to_owned());
            return None;
        }
        let read: Vec<_> = scopes
            .iter()
            .enumerate()
            .map(|(index, scope)| self.keep(&format!("/scopes/{index}"), scope.parse()))
            .collect();
        read.into_iter().collect()
    }

    /// `None` where there is a time and it is over.
    pub(crate) fn in_the_future(
        &mut self,
        pointer: &str,
        time: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<()> {
        if time.is_some_and(|time| time <= now) {
            self.refuse(pointer, "must lie in the future".to_owned());
            return None;
        }
        Some(())
    }

    pub(crate) fn graph(&mut self, text: &str) -> Option<GraphJson> {
        match PromptGraph::parse(text) {
            Ok(graph) => Some(graph.to_json()),
            Err(violations) => {
                self.violations.extend(
                    violations
                        .into_iter()
                        .map(|fault| fault.under("/workflow_json")),
                );
                None
            }
        }
    }

    pub(crate) fn into_violations(self) -> Vec<Violation> {
        self.violations
    }

    fn keep<T, E: std::fmt::Display>(&mut self, pointer: &str, read: Result<T, E>) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(fault) => {
                self.refuse(pointer, fault.to_string());
                None
            }
        }
    }

    fn refuse(&mut self, pointer: impl Into<String>, detail: String) {
        self.violations.push(Violation::new(pointer, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(fields: Fields) -> Vec<String> {
        fields
            .into_violations()
            .into_iter()
            .map(|violation| violation.pointer)
            .collect()
    }

    #[test]
    fn every_bad_tag_is_told() {
        let mut fields = Fields::default();
        let tags = ["", "fine", "a,b"].map(str::to_owned);

        assert_eq!(fields.tags(&tags), None);
        assert_eq!(pointers(fields), ["/tags/0", "/tags/2"]);
    }

    #[test]
    fn too_many_tags_are_told_once() {
        let mut fields = Fields::default();
        let tags: Vec<String> = (0..500).map(|number| number.to_string()).collect();

        assert_eq!(fields.tags(&tags), None);
        assert_eq!(pointers(fields), ["/tags"]);
    }
}

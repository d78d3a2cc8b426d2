//! A checked graph as text.

use std::fmt;
use std::sync::Arc;

use super::PromptGraph;
use crate::validation::Violation;

/// The compact JSON text of a [`PromptGraph`], for storing and answering without parsing.
///
/// Cheap to clone. `Debug` tells its length alone: prompts do not belong in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct GraphJson(Arc<str>);

impl GraphJson {
    /// Wraps text that was a graph's text when it was stored. Not checked here, so never for text that a user sent.
    pub fn from_trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads the graph.
    ///
    /// # Errors
    /// As [`PromptGraph::parse`]; the database was changed by another hand, or the rules are stricter than they were.
    pub fn parse(&self) -> Result<PromptGraph, Vec<Violation>> {
        PromptGraph::parse(&self.0)
    }
}

impl fmt::Debug for GraphJson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GraphJson({} bytes)", self.0.len())
    }
}

impl From<&PromptGraph> for GraphJson {
    fn from(graph: &PromptGraph) -> Self {
        graph.to_json()
    }
}

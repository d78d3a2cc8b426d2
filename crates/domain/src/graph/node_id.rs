//! Names of nodes in a graph.

use std::cmp::Ordering;
use std::fmt;

/// The name of a node, such as `10`, or `57:8` for a node out of a subgraph.
///
/// Ordered so that lists read well: numbers by value (`9` before `10`), part by part between colons, numbers
/// before words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(String);

impl NodeId {
    /// Wraps the name of a node; whether a graph has such a node is the graph's to say.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The name as it is written in the graph.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Ord for NodeId {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut mine, mut theirs) = (self.0.split(':'), other.0.split(':'));
        loop {
            let order = match (mine.next(), theirs.next()) {
                (Some(mine), Some(theirs)) => compare_parts(mine, theirs),
                (Some(_), None) => Ordering::Greater,
                (None, Some(_)) => Ordering::Less,
                // "01" and "1" are equal as numbers, but two nodes.
                (None, None) => return self.0.cmp(&other.0),
            };
            if order.is_ne() {
                return order;
            }
        }
    }
}

impl PartialOrd for NodeId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn compare_parts(mine: &str, theirs: &str) -> Ordering {
    match (digits(mine), digits(theirs)) {
        (Some(mine), Some(theirs)) => mine.len().cmp(&theirs.len()).then_with(|| mine.cmp(theirs)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => mine.cmp(theirs),
    }
}

/// The digits of a number without leading zeros, so that their count and then their text give the order of any size.
fn digits(part: &str) -> Option<&str> {
    let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| part.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_by_value_and_before_words() {
        let mut ids = [
            "word",
            "57:10",
            "57:8",
            "10",
            "9",
            "57",
            "99999999999999999999999",
            "01",
            "1",
        ]
        .map(NodeId::new);
        ids.sort();

        let sorted: Vec<&str> = ids.iter().map(NodeId::as_str).collect();
        assert_eq!(
            sorted,
            [
                "01",
                "1",
                "9",
                "10",
                "57",
                "57:8",
                "57:10",
                "99999999999999999999999",
                "word"
            ]
        );
    }
}

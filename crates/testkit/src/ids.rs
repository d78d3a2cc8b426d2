use std::sync::atomic::{AtomicU64, Ordering};

use atelier_domain::ports::IdGen;
use uuid::Uuid;

/// An id that nobody else has: what keeps tests apart that share a database.
#[expect(
    clippy::disallowed_methods,
    reason = "tests that share a store need ids of their own, and know them all the same"
)]
pub fn random_id() -> Uuid {
    Uuid::new_v4()
}

/// Gives `...-000000000001`, `...-000000000002` and so on.
#[derive(Debug, Default)]
pub struct SequentialIds(AtomicU64);

impl SequentialIds {
    /// Begins with 1.
    pub fn new() -> Self {
        Self::default()
    }

    /// The id that is given as number `count`, from 1: shaped like version 7,
    /// variant RFC 9562, so that it passes wherever UUIDs are checked.
    pub fn nth(count: u64) -> Uuid {
        Uuid::from_u128(0x0195_0000_0000_7000_8000_0000_0000_0000 | u128::from(count))
    }
}

impl IdGen for SequentialIds {
    fn new_id(&self) -> Uuid {
        Self::nth(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequential_ids_are_known_beforehand() {
        let ids = SequentialIds::new();

        assert_eq!(ids.new_id(), SequentialIds::nth(1));
        assert_eq!(ids.new_id(), SequentialIds::nth(2));
        assert_eq!(SequentialIds::nth(2).get_version_num(), 7);
    }
}

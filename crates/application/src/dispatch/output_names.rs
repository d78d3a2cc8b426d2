use std::collections::HashSet;

use atelier_domain::ids::{RunId, UserId};
use atelier_domain::ports::BlobKey;

/// Bytes that a stored name may have; an index may still come before it.
const MAX_NAME_BYTES: usize = 200;

/// Gives the outputs of one run keys below `user-{uuid}/runs/{run_id}/`.
#[derive(Debug)]
pub(super) struct OutputNames {
    folder: String,
    /// In lower case: some stores do not tell cases apart.
    taken: HashSet<String>,
}

impl OutputNames {
    pub(super) fn new(owner: UserId, run: RunId) -> Self {
        Self {
            folder: format!("user-{owner}/runs/{run}"),
            taken: HashSet::new(),
        }
    }

    /// A key for output number `index`, which its backend calls `filename`.
    /// Two outputs of a run may have the same name in different folders.
    pub(super) fn key(&mut self, index: u32, filename: &str) -> BlobKey {
        let wanted = plain(filename);
        let mut name = wanted.clone();
        let mut round = 0_u32;
        while !self.taken.insert(name.to_lowercase()) {
            name = if round == 0 {
                format!("{index}-{wanted}")
            } else {
                format!("{index}-{round}-{wanted}")
            };
            round += 1;
        }
        #[expect(
            clippy::expect_used,
            reason = "the name is one segment of at most 222 bytes without control characters"
        )]
        BlobKey::parse(format!("{}/{name}", self.folder)).expect("a key made of plain segments")
    }
}

/// One harmless segment made of a hostile name; the end, which tells the kind of
/// file, is kept.
fn plain(filename: &str) -> String {
    let mut name: String = filename
        .chars()
        .map(|character| match character {
            '/' | '\\' => '_',
            control if control.is_control() => '_',
            other => other,
        })
        .collect();
    let mut excess = name.len().saturating_sub(MAX_NAME_BYTES);
    while !name.is_char_boundary(excess) {
        excess += 1;
    }
    name.drain(..excess);
    match name.as_str() {
        "" | "." | ".." => "output".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn no_name_leaves_the_run_folder() {
        let mut names = OutputNames::new(UserId::new(Uuid::nil()), RunId::new(Uuid::nil()));
        for (index, hostile) in ["..", "../../x.png", "a\\b", "a\0b", "", &"ä".repeat(500)]
            .into_iter()
            .enumerate()
        {
            let key = names.key(u32::try_from(index).unwrap(), hostile);

            assert_eq!(key.as_str().split('/').count(), 4, "{hostile:?}");
            assert!(!key.as_str().ends_with("/.."), "{hostile:?}");
        }
    }

    #[test]
    fn equal_names_get_keys_of_their_own() {
        let mut names = OutputNames::new(UserId::new(Uuid::nil()), RunId::new(Uuid::nil()));

        let keys = [
            names.key(0, "a.png"),
            names.key(1, "A.png"),
            names.key(2, "1-a.png"),
        ];

        let distinct: HashSet<String> =
            keys.iter().map(|key| key.as_str().to_lowercase()).collect();
        assert_eq!(distinct.len(), 3);
    }
}

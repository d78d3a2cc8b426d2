//! How much people may bring in at once, and how long uploads in pieces are waited for.
//!
//! - `ATELIER_MAX_UNFINISHED_IMPORTS`: how many imports of one person may be under way at once.
//! - `ATELIER_UPLOAD_EXPIRY_SECONDS`: how long the next bytes of a resumable upload are waited for;
//!   then it is given up, and its name is free.

use std::time::Duration;

use super::{Mistakes, or_variables};

const MAX_UNFINISHED: &str = "ATELIER_MAX_UNFINISHED_IMPORTS";
const EXPIRY: &str = "ATELIER_UPLOAD_EXPIRY_SECONDS";

const DEFAULT_MAX_UNFINISHED: u32 = 20;
const DEFAULT_EXPIRY_SECONDS: u64 = 86_400;
/// Thirty days: what pauses longer was forgotten.
const LONGEST_EXPIRY_SECONDS: u64 = 2_592_000;

/// How the limits are told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct IntakeArguments {
    /// How many imports of one person may be under way at once.
    ///
    /// Default: 20.
    #[arg(long, env = MAX_UNFINISHED, value_name = "COUNT")]
    pub max_unfinished_imports: Option<String>,
    /// How many seconds the next bytes of a resumable upload are waited for.
    ///
    /// Default: 86400, which is a day.
    #[arg(long, env = EXPIRY, value_name = "SECONDS")]
    pub upload_expiry_seconds: Option<String>,
}

/// How much people may bring in at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntakeConfig {
    /// How many imports of one person may be under way at once.
    pub max_unfinished_imports: u32,
    /// How long the next bytes of a resumable upload are waited for.
    pub upload_expiry: Duration,
}

impl IntakeArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<IntakeConfig> {
        let max_unfinished_imports = match or_variables(self.max_unfinished_imports, &[]) {
            None => Some(DEFAULT_MAX_UNFINISHED),
            Some(text) => {
                mistakes.parse(MAX_UNFINISHED, &text, "a number from 1 to 10000", |count| {
                    (1..=10_000).contains(count)
                })
            }
        };
        let upload_expiry = mistakes.seconds(
            EXPIRY,
            self.upload_expiry_seconds,
            &(1..=LONGEST_EXPIRY_SECONDS),
            DEFAULT_EXPIRY_SECONDS,
        );
        Some(IntakeConfig {
            max_unfinished_imports: max_unfinished_imports?,
            upload_expiry: upload_expiry?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(imports: &str, expiry: &str) -> Result<IntakeConfig, String> {
        let arguments = IntakeArguments {
            max_unfinished_imports: Some(imports.to_owned()),
            upload_expiry_seconds: Some(expiry.to_owned()),
        };
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    #[test]
    fn what_is_empty_has_a_default() {
        let expected = IntakeConfig {
            max_unfinished_imports: 20,
            upload_expiry: Duration::from_hours(24),
        };

        assert_eq!(check("", ""), Ok(expected));
    }

    #[test]
    fn every_mistake_is_told() {
        let told = check("0", "2592001").expect_err("both are wrong");

        for expected in [
            "ATELIER_MAX_UNFINISHED_IMPORTS: must be a number from 1 to 10000, is `0`",
            "ATELIER_UPLOAD_EXPIRY_SECONDS: must be a number from 1 to 2592000, is `2592001`",
        ] {
            assert!(told.contains(&format!("\n  {expected}")), "{told}");
        }
        assert!(check("1", "1").is_ok());
    }
}

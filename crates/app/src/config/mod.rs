//! Configuration: flags, environment variables and a file, checked as a whole before anything
//! starts.
//!
//! One file per concern, with its variables at its top. A concern reads its arguments
//! ([`clap`] fills them from flags and variables), and reports everything that is wrong with them
//! to one list of [`Mistakes`].

pub mod backend;
mod backend_table;
mod backends_file;
pub mod blob;
pub mod comfyui;
pub mod database;
pub mod drive;
pub mod identity;
pub mod inputs;
pub mod intake;
pub mod limits;
pub mod logging;
pub mod loras;
pub mod nodes;
pub mod observation;
pub mod runs;
mod secret_files;
pub mod serve;
pub mod server;
pub mod shutdown;
mod toml_source;
pub mod traces;
pub mod work;
pub mod worker;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

pub(crate) use secret_files::{HELP as SECRET_FILES_HELP, is_secret_given};

/// A value that must reach no log and no error. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one who needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[hidden]")
    }
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Error)]
pub struct Mistakes(Vec<(Cow<'static, str>, String)>);

impl Mistakes {
    /// Notes what is wrong with a variable or a place in a file, and what would be right. The text
    /// must not hold a secret.
    pub fn add(&mut self, place: impl Into<Cow<'static, str>>, detail: impl Into<String>) {
        self.0.push((place.into(), detail.into()));
    }

    /// Reads a value that is no text; `expected` says what it must be.
    ///
    /// Not left to [`clap`], which stops at the first mistake.
    fn parse<T: FromStr>(
        &mut self,
        variable: &'static str,
        text: &str,
        expected: &str,
        is_fine: impl FnOnce(&T) -> bool,
    ) -> Option<T> {
        let value = text.trim().parse().ok().filter(is_fine);
        if value.is_none() {
            self.add(variable, format!("must be {expected}, is `{text}`"));
        }
        value
    }

    /// Reads a time in seconds.
    fn seconds(
        &mut self,
        variable: &'static str,
        given: Option<String>,
        range: &RangeInclusive<u64>,
        default: u64,
    ) -> Option<Duration> {
        let Some(text) = or_variables(given, &[]) else {
            return Some(Duration::from_secs(default));
        };
        let expected = format!("a number from {} to {}", range.start(), range.end());
        self.parse(variable, &text, &expected, |seconds| {
            range.contains(seconds)
        })
        .map(Duration::from_secs)
    }

    /// These mistakes and those of `outcome`.
    ///
    /// # Errors
    /// All of them.
    pub fn and<T>(mut self, outcome: Result<T, Self>) -> Result<T, Self> {
        match outcome {
            Ok(value) => self.check(Some(value)),
            Err(others) => {
                self.0.extend(others.0);
                Err(self)
            }
        }
    }

    /// The value, if nothing was wrong with anything.
    ///
    /// # Errors
    /// All the mistakes.
    pub fn check<T>(self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the configuration is not complete:")?;
        self.0
            .iter()
            .try_for_each(|(place, detail)| write!(formatter, "\n  {place}: {detail}"))
    }
}

/// Whether a variable is set, to nothing: that is how compose files pass on what is not set, so it
/// counts as missing.
pub(crate) fn is_set_to_nothing(variable: &OsStr) -> bool {
    std::env::var_os(variable).is_some_and(|value| value.is_empty())
}

/// A given value, or that of the first of some variables that go by other names. An empty value
/// counts as none: that is how compose files pass on what is not set.
pub(crate) fn or_variables(given: Option<String>, others: &[&str]) -> Option<String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place where variables are read; clap reads those with one name"
    )]
    let read = |name: &&str| std::env::var(name).ok();
    given
        .into_iter()
        .chain(others.iter().filter_map(read))
        .find(|value| !value.is_empty())
}

/// The items of a list that is separated by commas, none of them empty.
fn comma_separated(given: Option<String>) -> Vec<String> {
    let given = or_variables(given, &[]).unwrap_or_default();
    let items = given.split(',').map(str::trim);
    items
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_are_told_at_once() {
        let mut mistakes = Mistakes::default();
        mistakes.add("DATABASE_URL", "is required");
        mistakes.add("BLOB_URL", "is required");

        let told = mistakes.check(Some(())).map_err(|all| all.to_string());

        assert_eq!(
            told,
            Err("the configuration is not complete:\n  \
                 DATABASE_URL: is required\n  BLOB_URL: is required"
                .to_owned())
        );
    }

    #[test]
    fn mistakes_of_two_places_are_told_together() {
        let mut first = Mistakes::default();
        first.add("RUST_LOG", "is none");
        let mut second = Mistakes::default();
        second.add("BLOB_URL", "is required");

        assert_eq!(Mistakes::default().and(Ok(1)), Ok(1));
        assert_eq!(first.clone().and(Ok(())), Err(first.clone()));
        let both = first
            .and(second.check(Some(())))
            .expect_err("there are two");
        assert_eq!(both.0.len(), 2);
    }

    #[test]
    fn a_secret_is_never_shown() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[hidden]");
    }

    #[test]
    fn an_empty_value_counts_as_none() {
        assert_eq!(or_variables(Some(String::new()), &[]), None);
    }
}

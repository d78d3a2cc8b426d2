//! A TOML file that is read by hand, so that all that is wrong with it is told at once, each with
//! its place. The file may hold secrets: no value of it gets into a mistake.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Mistakes;

/// The most mistakes of spelling that are told: after a few, the rest follow from them.
const SPELLING_MISTAKES: usize = 10;
/// How much of a key that nobody knows is repeated.
const KEY_SHOWN: usize = 64;

/// A value that is wrong, as its reader has noted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Noted;

/// A file's text, under the name by which its reader knows it.
#[derive(Clone, Copy)]
pub(super) struct TomlSource<'a> {
    name: &'a str,
    text: &'a str,
}

impl<'a> TomlSource<'a> {
    pub(super) fn new(name: &'a str, text: &'a str) -> Self {
        Self { name, text }
    }

    /// The whole file, unless its spelling is wrong.
    pub(super) fn table(self, mistakes: &mut Mistakes) -> Result<TomlTable<'a>, Noted> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors.iter().take(SPELLING_MISTAKES) {
            // Not the error itself: it repeats the line, which may hold a password.
            let offset = error.span().map_or(0, |span| span.start);
            let place = format!("{}: line {}", self.name, self.line(offset));
            mistakes.add(place, error.message());
        }
        if !errors.is_empty() {
            return Err(Noted);
        }
        Ok(TomlTable {
            source: self,
            path: String::new(),
            start: 0,
            entries: table.into_inner(),
        })
    }

    /// The number of the line with that byte, the first being 1.
    fn line(self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    fn place(self, path: &str, offset: usize) -> String {
        format!("{}: {path} (line {})", self.name, self.line(offset))
    }
}

/// A table whose keys are taken out one by one; what is left in the end is unknown.
pub(super) struct TomlTable<'a> {
    source: TomlSource<'a>,
    path: String,
    start: usize,
    entries: DeTable<'a>,
}

/// A value, and where it is.
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) place: String,
}

impl<'a> TomlTable<'a> {
    /// Where a key is missing.
    pub(super) fn place_of_missing(&self, key: &str) -> String {
        self.source.place(&self.path_of(key), self.start)
    }

    /// What the table is called, such as `backends[1]`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// A text of at least one character.
    pub(super) fn text(
        &mut self,
        key: &str,
        mistakes: &mut Mistakes,
    ) -> Result<Option<Placed<String>>, Noted> {
        let Some((value, place)) = self.take(key) else {
            return Ok(None);
        };
        let DeValue::String(text) = value else {
            mistakes.add(place, "must be a text, in quotes");
            return Err(Noted);
        };
        if text.trim().is_empty() {
            mistakes.add(place, "must not be empty");
            return Err(Noted);
        }
        if text.chars().any(char::is_control) {
            mistakes.add(
                place,
                "must hold no line break and no other control character",
            );
            return Err(Noted);
        }
        let value = text.into_owned();
        Ok(Some(Placed { value, place }))
    }

    /// The same, of a key that must be there; `what` says what for.
    pub(super) fn required_text(
        &mut self,
        key: &str,
        what: &str,
        mistakes: &mut Mistakes,
    ) -> Result<Placed<String>, Noted> {
        let missing = self.place_of_missing(key);
        self.text(key, mistakes)?.ok_or_else(|| {
            mistakes.add(missing, format!("is required: {what}"));
            Noted
        })
    }

    /// A whole number within a range.
    pub(super) fn number(
        &mut self,
        key: &str,
        range: &RangeInclusive<usize>,
        mistakes: &mut Mistakes,
    ) -> Result<Option<usize>, Noted> {
        let Some((value, place)) = self.take(key) else {
            return Ok(None);
        };
        let number = value
            .as_integer()
            .and_then(|number| usize::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            mistakes.add(place, format!("must be a number from {least} to {most}"));
            return Err(Noted);
        }
        Ok(number)
    }

    /// A number of bytes, of at least so many.
    pub(super) fn bytes(
        &mut self,
        key: &str,
        least: u64,
        mistakes: &mut Mistakes,
    ) -> Result<Option<u64>, Noted> {
        let Some((value, place)) = self.take(key) else {
            return Ok(None);
        };
        let bytes = value
            .as_integer()
            .and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok())
            .filter(|bytes| *bytes >= least);
        if bytes.is_none() {
            mistakes.add(place, format!("must be a number of bytes, from {least}"));
            return Err(Noted);
        }
        Ok(bytes)
    }

    /// The tables of an array, such as all the `[[backends]]`.
    pub(super) fn tables(
        &mut self,
        key: &str,
        mistakes: &mut Mistakes,
    ) -> Result<Vec<Self>, Noted> {
        let Some((value, place)) = self.take(key) else {
            return Ok(Vec::new());
        };
        let DeValue::Array(items) = value else {
            mistakes.add(place, format!("must be tables, each begun by [[{key}]]"));
            return Err(Noted);
        };
        let mut tables = Vec::new();
        let mut outcome = Ok(());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match self.sub_table(path, item) {
                Ok(table) => tables.push(table),
                Err(place) => {
                    mistakes.add(place, format!("must be a table, begun by [[{key}]]"));
                    outcome = Err(Noted);
                }
            }
        }
        outcome.map(|()| tables)
    }

    /// Refuses every key that was not taken; `known` are those that could have been.
    pub(super) fn refuse_the_rest(
        self,
        known: &[&str],
        mistakes: &mut Mistakes,
    ) -> Result<(), Noted> {
        let mut outcome = Ok(());
        for (key, _value) in &self.entries {
            let shown: String = key.get_ref().chars().take(KEY_SHOWN).collect();
            let path = self.path_of(&shown.escape_debug().to_string());
            let place = self.source.place(&path, key.span().start);
            mistakes.add(
                place,
                format!("is not known; what is known is {}", known.join(", ")),
            );
            outcome = Err(Noted);
        }
        outcome
    }

    fn sub_table(&self, path: String, item: Spanned<DeValue<'a>>) -> Result<Self, String> {
        let start = item.span().start;
        match item.into_inner() {
            DeValue::Table(entries) => Ok(Self {
                source: self.source,
                path,
                start,
                entries,
            }),
            _ => Err(self.source.place(&path, start)),
        }
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }

    fn take(&mut self, key: &str) -> Option<(DeValue<'a>, String)> {
        let value = self.entries.remove(key)?;
        let place = self.source.place(&self.path_of(key), value.span().start);
        Some((value.into_inner(), place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "limits.toml";

    /// All that is wrong with a text, once `read` has taken what it knows.
    fn mistakes_of(text: &str, read: impl FnOnce(&mut TomlTable<'_>, &mut Mistakes)) -> String {
        let mut mistakes = Mistakes::default();
        if let Ok(mut table) = TomlSource::new(FILE, text).table(&mut mistakes) {
            read(&mut table, &mut mistakes);
            let _known_already = table.refuse_the_rest(&["name", "count"], &mut mistakes);
        }
        mistakes
            .check(None::<()>)
            .expect_err("there is no value")
            .to_string()
    }

    #[test]
    fn a_mistake_of_spelling_is_told_with_its_line_and_without_its_text() {
        let told = mistakes_of("name = \"n\"\n\npassword = hunter2\n", |_, _| {});

        assert!(told.contains("\n  limits.toml: line 3: "), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_key_that_is_given_twice_is_told() {
        let told = mistakes_of("name = \"n\"\nname = \"m\"\n", |_, _| {});

        assert!(told.contains("\n  limits.toml: line 2: "), "{told}");
    }

    #[test]
    fn a_file_of_noise_is_told_in_a_few_lines() {
        let told = mistakes_of(&"?\n".repeat(1_000), |_, _| {});

        assert_eq!(told.lines().count(), 1 + SPELLING_MISTAKES, "{told}");
    }

    #[test]
    fn a_text_is_a_text_and_a_number_a_number() {
        for (text, expected) in [
            (
                "name = 1",
                "limits.toml: name (line 1): must be a text, in quotes",
            ),
            (
                "name = \" \"",
                "limits.toml: name (line 1): must not be empty",
            ),
            (
                "name = \"a\\u0000b\"",
                "limits.toml: name (line 1): must hold no line break",
            ),
            (
                "\ncount = 0",
                "limits.toml: count (line 2): must be a number from 1 to 9",
            ),
            (
                "count = 10",
                "limits.toml: count (line 1): must be a number from 1 to 9",
            ),
            (
                "count = -1",
                "limits.toml: count (line 1): must be a number from 1 to 9",
            ),
            (
                "count = 1.0",
                "limits.toml: count (line 1): must be a number from 1 to 9",
            ),
            (
                "count = \"1\"",
                "limits.toml: count (line 1): must be a number from 1 to 9",
            ),
        ] {
            let told = mistakes_of(text, |table, mistakes| {
                let _noted = table.text("name", mistakes);
                let _noted = table.number("count", &(1..=9), mistakes);
            });

            assert!(told.contains(&format!("\n  {expected}")), "{text}: {told}");
        }
    }

    #[test]
    fn numbers_may_be_written_in_every_way_of_toml() {
        for text in ["count = 16", "count = 0x10", "count = 0o20", "count = 1_6"] {
            let mut mistakes = Mistakes::default();
            let mut table = TomlSource::new(FILE, text)
                .table(&mut mistakes)
                .expect("it is TOML");

            assert_eq!(
                table.number("count", &(1..=16), &mut mistakes),
                Ok(Some(16))
            );
        }
    }

    #[test]
    fn a_key_that_nobody_knows_is_named_and_never_its_value() {
        let long = "x".repeat(500);
        let told = mistakes_of(
            &format!("name = \"n\"\nnane = \"hunter2\"\n\"a\\nb\" = 1\n{long} = 1\n"),
            |table, mistakes| {
                let _noted = table.text("name", mistakes);
            },
        );

        assert!(
            told.contains(
                "\n  limits.toml: nane (line 2): is not known; what is known is name, count"
            ),
            "{told}"
        );
        assert!(told.contains("\n  limits.toml: a\\nb (line 3): "), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.len() < 500, "{told}");
    }

    #[test]
    fn what_must_be_tables_is_nothing_else() {
        for text in [
            "servers = 1",
            "[servers]\nname = \"n\"",
            "servers = [1, {}]",
        ] {
            let told = mistakes_of(text, |table, mistakes| {
                assert!(table.tables("servers", mistakes).is_err(), "{text}");
            });

            assert!(told.contains("begun by [[servers]]"), "{text}: {told}");
        }
    }
}

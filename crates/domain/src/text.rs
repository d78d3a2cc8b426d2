//! Short texts that people write: names, descriptions, tags.

use std::fmt;

use thiserror::Error;

/// Why a text is refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// Nothing but white space.
    #[error("must not be empty")]
    Empty,
    /// Longer than allowed.
    #[error("must have at most {limit} characters, has {length}")]
    TooLong {
        /// How many characters it has.
        length: usize,
        /// How many it may have.
        limit: usize,
    },
    /// A character that cannot be shown or stored, such as U+0000.
    #[error("must not contain the control character U+{0:04X}")]
    ControlCharacter(u32),
    /// Too many tags.
    #[error("must have at most {limit} tags, has {count}")]
    TooManyTags {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A tag with a comma, which separates tags.
    #[error("must not contain a comma")]
    Comma,
}

fn checked(text: &str, limit: usize, line_breaks: bool) -> Result<(), TextError> {
    let allowed = |character: char| line_breaks && matches!(character, '\n' | '\r' | '\t');
    if let Some(control) = text
        .chars()
        .find(|&character| character.is_control() && !allowed(character))
    {
        return Err(TextError::ControlCharacter(u32::from(control)));
    }
    let length = text.chars().count();
    if length > limit {
        return Err(TextError::TooLong { length, limit });
    }
    Ok(())
}

/// Without the white space around it; most texts have none, and are not copied.
fn trimmed(text: String) -> String {
    let inner = text.trim();
    if inner.len() == text.len() {
        text
    } else {
        inner.to_owned()
    }
}

/// What a thing is called: 1..=200 characters, no control characters, no
/// white space around it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// The most characters that a name has.
    pub const MAX_CHARACTERS: usize = 200;

    /// Takes a name, without the white space around it.
    ///
    /// # Errors
    /// [`TextError`] says what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, TextError> {
        let text = trimmed(text.into());
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        checked(&text, Self::MAX_CHARACTERS, false)?;
        Ok(Self(text))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a thing is for: 0..=10 000 characters, line breaks allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description(String);

impl Description {
    /// The most characters that a description has.
    pub const MAX_CHARACTERS: usize = 10_000;

    /// Takes a description as it is.
    ///
    /// # Errors
    /// [`TextError`] says what is wrong with it.
    pub fn parse(text: impl Into<String>) -> Result<Self, TextError> {
        let text = text.into();
        checked(&text, Self::MAX_CHARACTERS, true)?;
        Ok(Self(text))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Words to find a thing by: at most 32, each 1..=64 characters, without
/// repetition, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<String>);

impl Tags {
    /// The most tags that a thing has.
    pub const MAX_COUNT: usize = 32;
    /// The most characters that a tag has.
    pub const MAX_CHARACTERS: usize = 64;

    /// Takes tags, without the white space around each and without
    /// repetitions.
    ///
    /// # Errors
    /// The index of the tag at fault (`None` for their number) and what is
    /// wrong with it.
    pub fn parse<I>(tags: I) -> Result<Self, (Option<usize>, TextError)>
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let mut kept: Vec<String> = Vec::new();
        for (index, tag) in tags.into_iter().enumerate() {
            let tag = trimmed(tag.into());
            let fault = if tag.is_empty() {
                Some(TextError::Empty)
            } else if tag.contains(',') {
                Some(TextError::Comma)
            } else {
                checked(&tag, Self::MAX_CHARACTERS, false).err()
            };
            if let Some(fault) = fault {
                return Err((Some(index), fault));
            }
            if !kept.contains(&tag) {
                kept.push(tag);
            }
        }
        if kept.len() > Self::MAX_COUNT {
            return Err((
                None,
                TextError::TooManyTags {
                    count: kept.len(),
                    limit: Self::MAX_COUNT,
                },
            ));
        }
        Ok(Self(kept))
    }

    /// The tags, in the order given.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// The tags themselves.
    pub fn into_vec(self) -> Vec<String> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_201_characters_is_too_long() {
        assert_eq!(
            Name::parse("ä".repeat(201)),
            Err(TextError::TooLong {
                length: 201,
                limit: 200
            })
        );
    }

    #[test]
    fn a_name_of_white_space_is_empty() {
        assert_eq!(Name::parse(" \t "), Err(TextError::Empty));
    }

    #[test]
    fn a_nul_is_refused_everywhere() {
        assert_eq!(Name::parse("a\0b"), Err(TextError::ControlCharacter(0)));
        assert_eq!(
            Description::parse("a\0b"),
            Err(TextError::ControlCharacter(0))
        );
        assert_eq!(
            Tags::parse(["fine", "a\0b"]),
            Err((Some(1), TextError::ControlCharacter(0)))
        );
    }

    #[test]
    fn a_description_keeps_its_line_breaks() {
        assert_eq!(
            Description::parse("one\ntwo").map(|text| text.as_str().to_owned()),
            Ok("one\ntwo".to_owned())
        );
    }

    #[test]
    fn tags_are_kept_once_and_in_order() {
        let tags = Tags::parse(["b", " a ", "b"]).map(Tags::into_vec);

        assert_eq!(tags, Ok(vec!["b".to_owned(), "a".to_owned()]));
    }
}

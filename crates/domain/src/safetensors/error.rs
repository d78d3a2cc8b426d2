//! Why a file is no usable safetensors file.

use std::fmt;

/// A format that people mistake for safetensors, recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignFormat {
    /// A raw Python pickle (`.ckpt`, `.pt`, `.bin`): loading it would run code.
    Pickle,
    /// A zip archive, which is also what newer pickles come in.
    Zip,
    /// A GGUF model.
    Gguf,
    /// A web page, such as a sign-in or error page that was saved instead of the file.
    Html,
    /// JSON or other plain text, such as an error message that was saved instead of the file.
    Text,
    /// A gzip stream.
    Gzip,
    /// A picture.
    Picture,
}

impl ForeignFormat {
    /// Recognises a file by its first bytes (`reference/platform/PROTOCOLS.md` section 6.5); `start` may be shorter
    /// than 9 bytes only if the file is.
    ///
    /// Only asked once the bytes are no safetensors header: a length of 640 begins like a pickle, too.
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x80, 0x02..=0x05, ..] => Some(Self::Pickle),
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Some(Self::Zip),
            [b'G', b'G', b'U', b'F', ..] => Some(Self::Gguf),
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, 0xff, ..] => Some(Self::Picture),
            [b'<', ..] => Some(Self::Html),
            _ => match start.trim_ascii_start() {
                [b'<', ..] => Some(Self::Html),
                [] => None,
                text if text
                    .iter()
                    .all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) =>
                {
                    Some(Self::Text)
                }
                _ => None,
            },
        }
    }
}

impl fmt::Display for ForeignFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pickle => "a Python pickle, which can run code when it is loaded; convert it to safetensors first",
            Self::Zip => "a zip archive or a zipped pickle; unpack it, or convert it to safetensors first",
            Self::Gguf => "a GGUF model; convert it to safetensors first",
            Self::Html => "a web page, not a model; download the file itself",
            Self::Text => "plain text, not a model; download the file itself",
            Self::Gzip => "a gzip stream; unpack it first",
            Self::Picture => "a picture, not a model",
        })
    }
}

/// Why a file is refused.
///
/// Names of tensors are shown cut short and without control characters: they are the sender's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// The content is another format's.
    #[error("the file is {0}")]
    Foreign(ForeignFormat),
    /// The file is shorter than the smallest possible one.
    #[error("the file has only {bytes} bytes, too few for a safetensors file")]
    TooShort {
        /// Bytes of the file.
        bytes: u64,
    },
    /// The announced header is larger than we read.
    #[error("the file announces a header of {announced} bytes; at most {limit} are allowed")]
    HeaderTooLarge {
        /// Bytes that the first 8 bytes announce.
        announced: u64,
        /// Bytes that a header may have.
        limit: u64,
    },
    /// The announced header is too small to be one.
    #[error("the file announces a header of {announced} bytes, too few for a safetensors header")]
    HeaderTooSmall {
        /// Bytes that the first 8 bytes announce.
        announced: u64,
    },
    /// The header does not begin with `{`.
    #[error("the file does not begin like a safetensors file: its header must begin with \"{{\"")]
    NotAHeader,
    /// The header is not UTF-8.
    #[error("the header is not UTF-8 text")]
    NotUtf8,
    /// The header is not the JSON that the format wants.
    #[error("the header is not valid: {reason}")]
    Malformed {
        /// What is wrong, and where.
        reason: String,
    },
    /// Two members of one object have the same name.
    #[error("the header holds {name} twice")]
    Duplicate {
        /// The name, quoted.
        name: String,
    },
    /// A limit of ours is exceeded.
    #[error("the header has {what}; at most {limit} are allowed")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// A tensor's number type is not known.
    #[error("tensor {tensor} has the unknown type {dtype}")]
    UnknownDtype {
        /// The tensor's name, quoted.
        tensor: String,
        /// The type's name, quoted.
        dtype: String,
    },
    /// A tensor's shape does not make a whole number of bytes, or an absurd one.
    #[error("tensor {tensor} has an impossible shape")]
    ImpossibleShape {
        /// The tensor's name, quoted.
        tensor: String,
    },
    /// A tensor's bytes are not as many as its shape and type need.
    #[error("tensor {tensor} needs {needed} bytes by its shape and type, but is given {given}")]
    SizeMismatch {
        /// The tensor's name, quoted.
        tensor: String,
        /// Bytes that shape and type need.
        needed: u64,
        /// Bytes between its offsets.
        given: u64,
    },
    /// Tensors overlap, or there are bytes between them that belong to none.
    #[error(
        "tensor {tensor} begins at byte {begins} of the data; the one before it ends at byte {expected}"
    )]
    NotContiguous {
        /// The tensor's name, quoted.
        tensor: String,
        /// Where it begins.
        begins: u64,
        /// Where it has to begin.
        expected: u64,
    },
    /// A tensor ends before it begins.
    #[error("tensor {tensor} ends before it begins")]
    Backward {
        /// The tensor's name, quoted.
        tensor: String,
    },
    /// The file ended early.
    #[error("the file was cut short: it has {actual} bytes of {expected}")]
    Truncated {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
    /// Something was appended to the file.
    #[error("the file has {actual} bytes, but its header describes only {expected}")]
    Appended {
        /// Bytes that the header announces.
        expected: u64,
        /// Bytes that came.
        actual: u64,
    },
}

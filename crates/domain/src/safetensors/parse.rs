//! Parses and checks a complete header.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::Dtype;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess,
    Visitor,
};

use super::error::SafetensorsError;
use super::header::{SafetensorsHeader, TensorInfo};
use super::layout::check_layout;

const METADATA: &str = "__metadata__";
const MAX_TENSORS: usize = 200_000;
const MAX_NAME_BYTES: usize = 512;
const MAX_METADATA_BYTES: usize = 16 * 1024 * 1024;
/// `PyTorch`'s own limit; more would only serve to fill memory.
const MAX_DIMENSIONS: usize = 64;
/// Of all tensors together; real files stay below five for each.
const MAX_DIMENSIONS_IN_ALL: usize = 1_000_000;
/// Characters of the sender's text shown in an error.
const MAX_SHOWN_CHARS: usize = 80;

/// Parses the JSON of a header and checks every rule that needs no tensor bytes.
pub(super) fn parse_header(bytes: &[u8]) -> Result<SafetensorsHeader, SafetensorsError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(SafetensorsError::NotUtf8);
    };
    let mut header = RawHeader::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let outcome = HeaderSeed(&mut header)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    if let Err(error) = outcome {
        return Err(header
            .refusal
            .unwrap_or_else(|| SafetensorsError::Malformed {
                reason: shown(&error.to_string()),
            }));
    }
    let RawHeader {
        metadata, tensors, ..
    } = header;
    let (tensors, data_len) = check_layout(tensors)?;
    let header_len = bytes.len() as u64;
    // Offsets come from the file: the size of a file must stay a number.
    if header_len
        .checked_add(8)
        .and_then(|start| start.checked_add(data_len))
        .is_none()
    {
        return Err(SafetensorsError::Malformed {
            reason: "the tensors' offsets are absurdly large".to_owned(),
        });
    }
    Ok(SafetensorsHeader {
        header_len,
        data_len,
        metadata: metadata.unwrap_or_default(),
        tensors,
    })
}

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_SHOWN_CHARS)
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect();
    if text.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// What was read so far, and why reading stopped: serde's errors carry only text.
#[derive(Default)]
struct RawHeader {
    metadata: Option<BTreeMap<String, String>>,
    tensors: Vec<TensorInfo>,
    dimensions: usize,
    refusal: Option<SafetensorsError>,
}

impl RawHeader {
    fn refuse<T, E: Error>(&mut self, refusal: SafetensorsError) -> Result<T, E> {
        self.refusal = Some(refusal);
        Err(E::custom("refused"))
    }

    fn add_tensor<E: Error>(&mut self, name: &str, raw: RawTensor) -> Result<(), E> {
        let missing = |member: &str| SafetensorsError::Malformed {
            reason: format!("tensor {} has no {member}", quoted(name)),
        };
        let Some(dtype) = raw.dtype else {
            return self.refuse(missing("dtype"));
        };
        let Some(shape) = raw.shape else {
            return self.refuse(missing("shape"));
        };
        let Some([begin, end]) = raw.data_offsets else {
            return self.refuse(missing("data_offsets"));
        };
        let Some(dtype) = dtype_named(&dtype) else {
            return self.refuse(SafetensorsError::UnknownDtype {
                tensor: quoted(name),
                dtype: quoted(&dtype),
            });
        };
        self.tensors.push(TensorInfo {
            name: name.into(),
            dtype,
            shape: shape.into(),
            begin,
            end,
        });
        Ok(())
    }
}

/// Leaves to the reference crate which types there are.
fn dtype_named(name: &str) -> Option<Dtype> {
    let name: StrDeserializer<'_, ValueError> = name.into_deserializer();
    Dtype::deserialize(name).ok()
}

/// The whole header.
struct HeaderSeed<'a>(&'a mut RawHeader);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if name == METADATA {
                if self.0.metadata.is_some() {
                    return self.0.refuse(SafetensorsError::Duplicate {
                        name: quoted(&name),
                    });
                }
                let metadata = map.next_value_seed(MetadataSeed(self.0))?;
                self.0.metadata = Some(metadata);
                continue;
            }
            if name.len() > MAX_NAME_BYTES {
                return self.0.refuse(SafetensorsError::TooMuch {
                    what: "a tensor's name of too many bytes",
                    limit: MAX_NAME_BYTES as u64,
                });
            }
            if self.0.tensors.len() >= MAX_TENSORS {
                return self.0.refuse(SafetensorsError::TooMuch {
                    what: "too many tensors",
                    limit: MAX_TENSORS as u64,
                });
            }
            let raw = map.next_value_seed(TensorSeed(self.0, &name))?;
            self.0.add_tensor(&name, raw)?;
        }
        Ok(())
    }
}

/// `__metadata__`: strings alone, or `null` for none.
struct MetadataSeed<'a>(&'a mut RawHeader);

impl<'de> DeserializeSeed<'de> for MetadataSeed<'_> {
    type Value = BTreeMap<String, String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MetadataSeed<'_> {
    type Value = BTreeMap<String, String>;

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(BTreeMap::new())
    }

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of strings as __metadata__")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut metadata = BTreeMap::new();
        let mut bytes = 0_usize;
        while let Some((name, value)) = map.next_entry::<String, String>()? {
            bytes = bytes.saturating_add(name.len()).saturating_add(value.len());
            if bytes > MAX_METADATA_BYTES {
                return self.0.refuse(SafetensorsError::TooMuch {
                    what: "metadata of too many bytes",
                    limit: MAX_METADATA_BYTES as u64,
                });
            }
            if metadata.contains_key(&name) {
                return self.0.refuse(SafetensorsError::Duplicate {
                    name: quoted(&name),
                });
            }
            metadata.insert(name, value);
        }
        Ok(metadata)
    }
}

#[derive(Default)]
struct RawTensor {
    dtype: Option<String>,
    shape: Option<Vec<usize>>,
    data_offsets: Option<[usize; 2]>,
}

/// One tensor; members that the format does not name are passed over, as the reference implementation does.
struct TensorSeed<'a>(&'a mut RawHeader, &'a str);

impl<'de> DeserializeSeed<'de> for TensorSeed<'_> {
    type Value = RawTensor;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<RawTensor, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TensorSeed<'_> {
    type Value = RawTensor;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with dtype, shape and data_offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawTensor, A::Error> {
        let mut raw = RawTensor::default();
        while let Some(member) = map.next_key::<String>()? {
            let is_new = match member.as_str() {
                "dtype" => raw.dtype.replace(map.next_value()?).is_none(),
                "shape" => {
                    let shape = map.next_value_seed(ShapeSeed(self.0))?;
                    raw.shape.replace(shape).is_none()
                }
                "data_offsets" => raw.data_offsets.replace(map.next_value()?).is_none(),
                _ => {
                    map.next_value::<Passed>()?;
                    true
                }
            };
            if !is_new {
                let name = format!("{} of tensor {}", quoted(&member), quoted(self.1));
                return self.0.refuse(SafetensorsError::Duplicate { name });
            }
        }
        Ok(raw)
    }
}

struct ShapeSeed<'a>(&'a mut RawHeader);

impl<'de> DeserializeSeed<'de> for ShapeSeed<'_> {
    type Value = Vec<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<usize>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ShapeSeed<'_> {
    type Value = Vec<usize>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of whole numbers as shape")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<usize>, A::Error> {
        let mut shape = Vec::new();
        while let Some(length) = sequence.next_element()? {
            if shape.len() >= MAX_DIMENSIONS {
                return self.0.refuse(SafetensorsError::TooMuch {
                    what: "a tensor of too many dimensions",
                    limit: MAX_DIMENSIONS as u64,
                });
            }
            self.0.dimensions += 1;
            if self.0.dimensions > MAX_DIMENSIONS_IN_ALL {
                return self.0.refuse(SafetensorsError::TooMuch {
                    what: "tensors of too many dimensions together",
                    limit: MAX_DIMENSIONS_IN_ALL as u64,
                });
            }
            shape.push(length);
        }
        Ok(shape)
    }
}

/// A value that is passed over, but read as strictly as one that is kept: serde's own `IgnoredAny` lets through bad
/// escapes, absurd numbers and any depth, where the reference implementation refuses the file.
struct Passed;

impl<'de> Deserialize<'de> for Passed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Passed {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _value: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E: Error>(self, _value: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E: Error>(self, _value: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E: Error>(self, _value: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: Error>(self, _value: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E: Error>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self, A::Error> {
        while sequence.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

//! Whether bytes are a whole safetensors file: 8 bytes of little-endian header length, a JSON header, the tensors.

use std::io::Read;

use serde_json::{Map, Value};

/// The largest header that the reference reader accepts.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// The header of a whole file of `file_bytes` bytes, or the reader's words for what is wrong with it.
///
/// Reads the header alone: models have gigabytes.
pub(crate) fn check(
    mut file: impl Read,
    file_bytes: u64,
) -> Result<Map<String, Value>, &'static str> {
    let mut length = [0; 8];
    file.read_exact(&mut length)
        .map_err(|_short| "header too small")?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err("header too large");
    }
    let tensor_bytes = file_bytes
        .checked_sub(8)
        .and_then(|rest| rest.checked_sub(length))
        .ok_or("invalid header length")?;
    let mut header = String::new();
    file.take(length)
        .read_to_string(&mut header)
        .map_err(|_no_text| "invalid UTF-8 in header")?;
    if !header.starts_with('{') {
        return Err("invalid start character in header, must start with '{'");
    }
    let Ok(Value::Object(header)) = serde_json::from_str(&header) else {
        return Err("invalid JSON in header");
    };
    let end = header
        .iter()
        .filter(|(name, _)| *name != "__metadata__")
        .map(|(_, tensor)| end_of(tensor))
        .max();
    match end {
        None => Ok(header),
        Some(None) => Err("invalid JSON in header"),
        Some(Some(end)) if end == tensor_bytes => Ok(header),
        Some(Some(_)) => Err("incomplete metadata, file not fully covered"),
    }
}

fn end_of(tensor: &Value) -> Option<u64> {
    tensor.get("data_offsets")?.get(1)?.as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value};

    fn check(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
        super::check(bytes, u64::try_from(bytes.len()).unwrap())
    }

    fn file(header: &str, tensors: &[u8]) -> Vec<u8> {
        let mut bytes = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(tensors);
        bytes
    }

    #[test]
    fn a_whole_file_has_a_header() {
        let bytes = file(
            r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"__metadata__":{"k":"v"}}"#,
            &[1, 2],
        );
        assert!(check(&bytes).unwrap().contains_key("__metadata__"));
    }

    #[test]
    fn a_truncated_file_is_refused() {
        let bytes = file(
            r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}"#,
            &[1, 2],
        );
        assert_eq!(
            check(&bytes[..bytes.len() - 1]),
            Err("incomplete metadata, file not fully covered")
        );
        assert_eq!(check(&bytes[..20]), Err("invalid header length"));
        assert_eq!(check(&bytes[..3]), Err("header too small"));
    }

    #[test]
    fn text_is_refused() {
        assert_eq!(
            check(b"this is not a tensor file at all"),
            Err("header too large")
        );
    }
}

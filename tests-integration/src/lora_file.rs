//! LoRA files with a known content, and the hashes by which the world knows them.

use atelier_testkit::build::{safetensors_bytes, sha256_of};
use serde_json::{Map, Value, json};

/// A safetensors file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraFile {
    /// The whole file.
    pub bytes: Vec<u8>,
    data_start: usize,
}

impl LoraFile {
    /// The small file of Stable Diffusion 1.5 whose weights are all `fill`.
    pub fn small(fill: u8) -> Self {
        let bytes = safetensors_bytes(fill).to_vec();
        let length = bytes.first_chunk().expect("a file has a length");
        let header = usize::try_from(u64::from_le_bytes(*length)).expect("a small header");
        Self {
            data_start: 8 + header,
            bytes,
        }
    }

    /// A file with this header and these tensors, one byte a number.
    pub fn new(metadata: &Value, tensors: &[(&str, &[usize])], fill: impl Fn(usize) -> u8) -> Self {
        let mut header = Map::new();
        if !metadata.is_null() {
            header.insert("__metadata__".to_owned(), metadata.clone());
        }
        let mut size = 0;
        for (name, shape) in tensors {
            let end = size + shape.iter().product::<usize>();
            let tensor = json!({"dtype": "U8", "shape": shape, "data_offsets": [size, end]});
            header.insert((*name).to_owned(), tensor);
            size = end;
        }
        let header = Value::from(header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        let data_start = bytes.len();
        bytes.extend((0..size).map(fill));
        Self { bytes, data_start }
    }

    /// A file with so many bytes of weights, no two neighbouring stretches of which are alike.
    pub fn of_size(weights: usize) -> Self {
        Self::new(&Value::Null, &[("weights", &[weights])], |at| {
            let [first, second, third, ..] = at.to_le_bytes();
            first ^ second.wrapping_mul(31) ^ third.wrapping_mul(17)
        })
    }

    /// The bytes from an offset on, at most so many.
    pub fn piece(&self, offset: usize, size: usize) -> &[u8] {
        let rest = self.bytes.get(offset..).expect("within the file");
        rest.get(..size).unwrap_or(rest)
    }

    /// Makes sure that a LoRA is ready, and is this file.
    #[track_caller]
    pub fn assert_is(&self, lora: &Value) {
        assert_eq!(lora["status"], "ready", "{lora}");
        assert_eq!(lora["sha256"], self.sha256(), "{lora}");
        assert_eq!(lora["hashes"], self.hashes(), "{lora}");
        assert_eq!(lora["file_size"], self.bytes.len(), "{lora}");
    }

    /// SHA-256 of the whole file, in hexadecimal.
    pub fn sha256(&self) -> String {
        sha256_of(&self.bytes).to_string()
    }

    /// BLAKE3 of the whole file, in hexadecimal.
    pub fn blake3(&self) -> String {
        blake3::hash(&self.bytes).to_hex().to_string()
    }

    /// All hashes, as the API tells them.
    pub fn hashes(&self) -> Value {
        json!({"sha256": self.sha256(), "blake3": self.blake3(), "autov2": self.auto_v2(),
               "autov3": self.auto_v3()})
    }

    /// The first ten digits of the file's SHA-256, in capitals.
    pub fn auto_v2(&self) -> String {
        first_digits(&self.sha256(), 10)
    }

    /// The first twelve digits of the tensors' SHA-256, in capitals.
    pub fn auto_v3(&self) -> String {
        let tensors = self.bytes.get(self.data_start..).expect("within the file");
        first_digits(&sha256_of(tensors).to_string(), 12)
    }
}

fn first_digits(digest: &str, count: usize) -> String {
    let digits = digest.get(..count).expect("a digest is longer");
    digits.to_uppercase()
}

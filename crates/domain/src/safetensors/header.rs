//! A checked header.

use std::collections::BTreeMap;

use safetensors::Dtype;

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, such as `lora_unet_…lora_down.weight`. The sender's text.
    pub name: Box<str>,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its dimensions, outermost first; empty for a single number.
    pub shape: Box<[usize]>,
    /// Where its bytes begin, counted from the end of the header.
    pub begin: usize,
    /// Where its bytes end, exclusive.
    pub end: usize,
}

/// A header that keeps every rule of the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SafetensorsHeader {
    pub(super) header_len: u64,
    pub(super) data_len: u64,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<TensorInfo>,
}

impl SafetensorsHeader {
    /// Bytes of the JSON header: the first 8 bytes of the file.
    pub fn header_len(&self) -> u64 {
        self.header_len
    }

    /// Bytes of all tensors together.
    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    /// Where the tensors' bytes begin in the file.
    pub fn data_start(&self) -> u64 {
        8 + self.header_len
    }

    /// Bytes that the whole file must have, no more and no fewer.
    pub fn expected_file_size(&self) -> u64 {
        self.data_start() + self.data_len
    }

    /// What the trainer wrote about the file (`__metadata__`). The sender's text: escape it wherever it is shown.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The tensors, in the order of their bytes.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }
}

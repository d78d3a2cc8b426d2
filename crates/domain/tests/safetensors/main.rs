//! Safetensors headers, from sample files and from made-up ones.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what helpers of tests do not find is a failed test"
)]

mod families;
mod family_cases;
mod headers;
mod properties;
mod samples;
mod unknown_cases;
mod verdicts;

use atelier_domain::safetensors::{HeaderReader, SafetensorsError, SafetensorsHeader};

const SD15: &[u8] = include_bytes!("../samples/valid_sd15_kohya.safetensors");
const SDXL: &[u8] = include_bytes!("../samples/valid_sdxl_kohya.safetensors");
const FLUX: &[u8] = include_bytes!("../samples/valid_flux_diffusers_peft.safetensors");
const HOLE: &[u8] = include_bytes!("../samples/bad_hole.safetensors");
const TRAILING: &[u8] = include_bytes!("../samples/bad_trailing_bytes.safetensors");
const PICKLE: &[u8] = include_bytes!("../samples/not_safetensors_pickle_proto2.bin");

fn read_in_chunks<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
    total: usize,
) -> Result<SafetensorsHeader, SafetensorsError> {
    let mut reader = HeaderReader::new();
    for chunk in chunks {
        reader.feed(chunk)?;
    }
    reader.finish(total as u64)
}

fn read(file: &[u8]) -> Result<SafetensorsHeader, SafetensorsError> {
    read_in_chunks([file], file.len())
}

/// A file with this header and so many bytes of tensors.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.resize(file.len() + data, 0);
    file
}

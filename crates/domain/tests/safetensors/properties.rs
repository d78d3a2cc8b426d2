use atelier_domain::safetensors::{HeaderReader, SafetensorsHeader, lora_facts};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{FLUX, HOLE, PICKLE, SD15, TRAILING, read, read_in_chunks};

/// Cuts `file` at the given places, empty chunks included.
fn cut<'a>(file: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = places
        .iter()
        .map(|place| place % (file.len() + 1))
        .collect();
    places.sort_unstable();
    let mut start = 0;
    let mut chunks = Vec::new();
    for place in places {
        chunks.extend(file.get(start..place));
        start = place;
    }
    chunks.extend(file.get(start..));
    chunks
}

fn reads_and_forgets(file: &[u8]) -> Option<SafetensorsHeader> {
    let header = read(file).ok()?;
    drop(lora_facts(&header));
    Some(header)
}

proptest! {
    #[test]
    fn the_outcome_does_not_depend_on_the_chunks(
        which in 0..5_usize,
        near in vec(0..40_usize, 0..6),
        far in vec(any::<usize>(), 0..6),
    ) {
        let file = [SD15, FLUX, HOLE, TRAILING, PICKLE][which];
        let places = [near, far].concat();

        prop_assert_eq!(read_in_chunks(cut(file, &places), file.len()), read(file));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..64), places in vec(0..64_usize, 0..4)) {
        prop_assert_eq!(read_in_chunks(cut(&bytes, &places), bytes.len()), read(&bytes));
    }

    #[test]
    fn any_text_as_header_is_read_or_refused(text in "\\{[\\[\\]{}:,\"a-z0-9_ .-]{0,80}") {
        let mut file = (text.len() as u64).to_le_bytes().to_vec();
        file.extend_from_slice(text.as_bytes());

        if let Some(header) = reads_and_forgets(&file) {
            prop_assert_eq!(header.expected_file_size(), file.len() as u64);
        }
    }

    #[test]
    fn a_damaged_header_never_panics(at in 0..2_000_usize, byte in any::<u8>()) {
        let mut file = SD15.to_vec();
        file[at] = byte;

        let mut reader = HeaderReader::new();
        let fed = reader.feed(&file);
        if fed.is_err() {
            prop_assert!(reader.finish(file.len() as u64).is_err());
        }
    }
}

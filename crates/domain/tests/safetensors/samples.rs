use atelier_domain::safetensors::{Dtype, ForeignFormat, SafetensorsError, lora_facts};

use crate::{FLUX, HOLE, PICKLE, SD15, SDXL, TRAILING, read};

#[test]
fn valid_files_are_read() {
    for (file, tensors) in [(SD15, 8), (SDXL, 6), (FLUX, 4)] {
        let header = read(file).unwrap();

        assert_eq!(header.expected_file_size(), file.len() as u64);
        assert_eq!(header.tensors().len(), tensors);
    }
}

#[test]
fn tensors_are_told_with_type_shape_and_place() {
    let header = read(FLUX).unwrap();

    let first = &header.tensors()[0];
    assert_eq!(
        &*first.name,
        "transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"
    );
    assert_eq!(first.dtype, Dtype::Bf16);
    assert_eq!(&*first.shape, [4, 3072]);
    assert_eq!((first.begin, first.end), (0, 24_576));
}

#[test]
fn a_hole_between_tensors_is_refused() {
    let error = read(HOLE).unwrap_err();

    assert_eq!(
        error,
        SafetensorsError::NotContiguous {
            tensor: "\"b\"".to_owned(),
            begins: 5,
            expected: 4
        }
    );
}

#[test]
fn appended_bytes_are_refused_with_both_sizes() {
    let actual = TRAILING.len() as u64;

    assert_eq!(
        read(TRAILING),
        Err(SafetensorsError::Appended {
            expected: actual - 2,
            actual
        })
    );
}

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let all = SD15.len();
    for kept in (0..all).step_by(97).chain([0, 7, 8, 9, 10, all - 1]) {
        assert!(read(&SD15[..kept]).is_err(), "{kept}");
    }
    assert_eq!(
        read(&SD15[..all - 1]),
        Err(SafetensorsError::Truncated {
            expected: all as u64,
            actual: all as u64 - 1
        })
    );
}

#[test]
fn a_pickle_is_refused_as_what_it_is() {
    assert_eq!(
        read(PICKLE),
        Err(SafetensorsError::Foreign(ForeignFormat::Pickle))
    );
}

#[test]
fn facts_come_out_of_kohya_metadata() {
    let facts = lora_facts(&read(SD15).unwrap());

    assert_eq!(facts.base_model.as_deref(), Some("SD 1.x"));
    assert_eq!(facts.trigger_words, ["mypetcat", "sitting"]);
    assert_eq!(facts.metadata["rank"], 4);
    assert_eq!(facts.metadata["alpha"], 2.0);
    assert_eq!(facts.metadata["title"], "demo sd15");
    assert_eq!(
        lora_facts(&read(SDXL).unwrap()).base_model.as_deref(),
        Some("SDXL")
    );
}

#[test]
fn a_file_without_metadata_has_no_facts() {
    let facts = lora_facts(&read(FLUX).unwrap());

    assert_eq!(facts.base_model, None);
    assert!(facts.trigger_words.is_empty() && facts.metadata.is_empty());
}

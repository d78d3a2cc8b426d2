use atelier_domain::lora::{BaseModelFamily, Confidence};
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
    assert_eq!(first.dtype, Dtype::BF16);
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
fn facts_come_out_of_kohya_files() {
    let facts = lora_facts(&read(SD15).unwrap());

    let base_model = facts.base_model.unwrap();
    assert_eq!(base_model.family, BaseModelFamily::StableDiffusion1);
    assert_eq!(base_model.confidence, Confidence::High);
    assert_eq!(
        base_model.evidence,
        "cross attention of width 768 in \
         lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k.lora_down.weight; its metadata agree"
    );
    assert_eq!(facts.title.as_deref(), Some("demo sd15"));
    assert_eq!(facts.rank, Some(4));
    assert_eq!(facts.network_type.as_deref(), Some("LoRA"));
    assert_eq!(facts.trigger_words, ["mypetcat", "sitting"]);
    assert_eq!(facts.metadata["alpha"], 2.0);
    assert_eq!(facts.metadata["network_module"], "networks.lora");
    assert!(!facts.metadata.contains_key("title") && !facts.metadata.contains_key("rank"));
    let sdxl = lora_facts(&read(SDXL).unwrap()).base_model.unwrap();
    assert_eq!(
        (sdxl.family, sdxl.confidence),
        (BaseModelFamily::StableDiffusionXl, Confidence::High)
    );
}

#[test]
fn a_file_without_metadata_is_told_by_its_tensors() {
    let facts = lora_facts(&read(FLUX).unwrap());

    let base_model = facts.base_model.unwrap();
    assert_eq!(
        (base_model.family, base_model.confidence),
        (BaseModelFamily::Flux1, Confidence::Medium)
    );
    assert_eq!(facts.rank, Some(4));
    assert!(facts.trigger_words.is_empty() && facts.metadata.is_empty());
}

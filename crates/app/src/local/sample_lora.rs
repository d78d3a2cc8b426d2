//! A LoRA for the sample job: small, valid, in the shape that kohya's trainer gives SD 1.5 LoRAs.

use serde_json::{Map, Value, json};

/// What the sample workflow calls it.
pub(super) const FILENAME: &str = "demo-sd15.safetensors";

const F16_BYTES: usize = 2;

/// Tensor names and shapes: rank 4, one text encoder module and two of the U-Net.
const TENSORS: &[(&str, &[usize])] = &[
    (
        "lora_te_text_model_encoder_layers_0_self_attn_v_proj.alpha",
        &[],
    ),
    (
        "lora_te_text_model_encoder_layers_0_self_attn_v_proj.lora_down.weight",
        &[4, 768],
    ),
    (
        "lora_te_text_model_encoder_layers_0_self_attn_v_proj.lora_up.weight",
        &[768, 4],
    ),
    (
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k.alpha",
        &[],
    ),
    (
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k.lora_down.weight",
        &[4, 768],
    ),
    (
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k.lora_up.weight",
        &[320, 4],
    ),
    (
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2.lora_down.weight",
        &[4, 1280],
    ),
    (
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2.lora_up.weight",
        &[320, 4],
    ),
];

/// Makes the file: always the same bytes.
pub(super) fn bytes() -> Vec<u8> {
    let mut header = Map::new();
    header.insert(
        "__metadata__".to_owned(),
        json!({
            "ss_base_model_version": "sd_v1",
            "ss_network_module": "networks.lora",
            "ss_network_dim": "4",
            "ss_network_alpha": "2",
            "ss_output_name": "demo-sd15",
            "ss_v2": "False",
            "modelspec.sai_model_spec": "1.0.1",
            "modelspec.architecture": "stable-diffusion-v1/lora",
            "modelspec.title": "Atelier's demo LoRA",
            "modelspec.trigger_phrase": "mypetcat",
        }),
    );
    let mut data_bytes = 0;
    for (name, shape) in TENSORS {
        let end = data_bytes + shape.iter().product::<usize>() * F16_BYTES;
        header.insert(
            (*name).to_owned(),
            json!({"dtype": "F16", "shape": shape, "data_offsets": [data_bytes, end]}),
        );
        data_bytes = end;
    }

    let mut header = Value::Object(header).to_string();
    // Writers pad the header to a multiple of eight with spaces.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut file = Vec::with_capacity(8 + header.len() + data_bytes);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend((0..data_bytes / F16_BYTES).flat_map(small_f16));
    file
}

/// A half-precision number between 2^-6 and 2^-5, of either sign, that depends on its place.
fn small_f16(index: usize) -> [u8; 2] {
    let scattered = index.wrapping_mul(0x9e37_79b1) >> 7;
    let mantissa = u16::try_from(scattered & 0x3ff).unwrap_or_default();
    let sign = u16::try_from(scattered >> 10 & 1).unwrap_or_default();
    (sign << 15 | 9 << 10 | mantissa).to_le_bytes()
}

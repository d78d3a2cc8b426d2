//! How trainers name the tensors of a LoRA (`reference/platform/PROTOCOLS.md` section 6.4).

use std::borrow::Cow;

/// What a tensor does to the layer that it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The first matrix, `[rank, layer's inputs, …]`.
    Down,
    /// The second matrix, `[layer's outputs, rank, …]`.
    Up,
    /// A factor that says nothing of the layer's size, or a scale.
    Other,
    /// The first matrix of one of a `LoHa`'s two products.
    HadamardDown,
    /// Any other part of a `LoHa`.
    Hadamard,
    /// The first factor of a Kronecker product, whole.
    KroneckerFirst,
    /// The same, as the second of two matrices, `[rank, inputs]`.
    KroneckerFirstDown,
    /// The second factor, whole.
    KroneckerSecond,
    /// The same, as the second of two matrices.
    KroneckerSecondDown,
    /// Any other part of a `LoKr`.
    Kronecker,
    /// A magnitude, which makes a LoRA a `DoRA`.
    Magnitude,
    /// A part of an orthogonal transformation.
    Orthogonal,
    /// The difference itself.
    Difference,
    /// A part of a `GLoRA`.
    Generalised,
}

/// Every ending of a tensor's name that tells its part, longer ones before those that they end with.
const ENDINGS: [(&str, Part); 42] = [
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".lora_A.default.weight", Part::Down),
    (".lora_B.default.weight", Part::Up),
    (".lora_magnitude_vector.default.weight", Part::Magnitude),
    (".lora_magnitude_vector.weight", Part::Magnitude),
    (".lora_magnitude_vector.default", Part::Magnitude),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_mid.weight", Part::Other),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    ("_lora.up.weight", Part::Up),
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_B.bias", Part::Other),
    (".lora_A", Part::Down),
    (".lora_B", Part::Up),
    (".alpha", Part::Other),
    (".dora_scale", Part::Magnitude),
    (".hada_w1_b", Part::HadamardDown),
    (".hada_w2_b", Part::Hadamard),
    (".hada_w1_a", Part::Hadamard),
    (".hada_w2_a", Part::Hadamard),
    (".hada_t1", Part::Hadamard),
    (".hada_t2", Part::Hadamard),
    (".lokr_w1", Part::KroneckerFirst),
    (".lokr_w1_b", Part::KroneckerFirstDown),
    (".lokr_w1_a", Part::Kronecker),
    (".lokr_w2", Part::KroneckerSecond),
    (".lokr_w2_b", Part::KroneckerSecondDown),
    (".lokr_w2_a", Part::Kronecker),
    (".lokr_t2", Part::Kronecker),
    (".oft_blocks", Part::Orthogonal),
    (".oft_diag", Part::Orthogonal),
    (".oft_R.weight", Part::Orthogonal),
    (".diff", Part::Difference),
    (".diff_b", Part::Other),
    (".a1.weight", Part::Generalised),
    (".b1.weight", Part::Generalised),
];

/// What stands before the name of a layer, in any order and number.
const PREFIXES: [&str; 9] = [
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "unet.",
    "lora_unet_",
    "lora_transformer_",
    "lycoris_unet_",
    "lycoris_",
];

const TEXT_ENCODERS: [&str; 4] = ["lora_te", "text_encoder", "lycoris_text", "lycoris_te"];

/// A tensor's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerPart<'a> {
    /// The layer, as the trainer calls it.
    pub(super) layer: &'a str,
    /// What the tensor does to it.
    pub(super) part: Part,
}

impl<'a> LayerPart<'a> {
    /// Takes a name apart; `None` for a tensor that is no part of a LoRA.
    pub(super) fn of(name: &'a str) -> Option<Self> {
        ENDINGS.iter().find_map(|(ending, part)| {
            Some(Self {
                layer: name.strip_suffix(ending)?,
                part: *part,
            })
        })
    }

    /// Whether the layer is one of a text encoder.
    pub(super) fn is_of_text_encoder(&self) -> bool {
        let name = self
            .layer
            .strip_prefix("base_model.model.")
            .unwrap_or(self.layer);
        TEXT_ENCODERS.iter().any(|start| name.starts_with(start))
    }

    /// The layer without what trainers put before it, and with `_` for every `.`: one spelling for both of theirs.
    pub(super) fn plain_layer(&self) -> Cow<'a, str> {
        let mut name = self.layer;
        while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
            name = rest;
        }
        // The oldest diffusers files name the attention's processor, too.
        let name = if name.contains(".processor.") {
            Cow::Owned(name.replace(".processor.", "."))
        } else {
            Cow::Borrowed(name)
        };
        if name.contains('.') {
            Cow::Owned(name.replace('.', "_"))
        } else {
            name
        }
    }
}

/// Reads `list_7_rest` as 7 and `rest`.
pub(super) fn numbered<'a>(layer: &'a str, list: &str) -> Option<(u32, &'a str)> {
    let after = layer.strip_prefix(list)?.strip_prefix('_')?;
    let (digits, rest) = after.split_once('_').unwrap_or((after, ""));
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_layer_becomes_one() {
        for name in [
            "lora_unet_single_blocks_3_linear1.lora_down.weight",
            "diffusion_model.single_blocks.3.linear1.lora_A.weight",
            "base_model.model.single_blocks.3.linear1.lora_A.default.weight",
            "transformer.single_blocks.3.linear1.lora.down.weight",
            "lycoris_single_blocks_3_linear1.hada_w1_b",
            "lora_transformer_single_blocks_3_linear1.lokr_w1",
            "base_model.model.diffusion_model.single_blocks.3.linear1.oft_blocks",
        ] {
            let part = LayerPart::of(name).unwrap();
            assert_eq!(part.plain_layer(), "single_blocks_3_linear1", "{name}");
            assert!(!part.is_of_text_encoder());
        }
    }

    #[test]
    fn a_list_that_begins_like_a_prefix_stays() {
        let part =
            LayerPart::of("transformer.transformer_blocks.0.attn.to_k.lora_A.weight").unwrap();

        assert_eq!(part.plain_layer(), "transformer_blocks_0_attn_to_k");
        assert_eq!(
            numbered(&part.plain_layer(), "transformer_blocks"),
            Some((0, "attn_to_k"))
        );
    }

    #[test]
    fn other_tensors_are_no_parts() {
        assert_eq!(LayerPart::of("model.layers.0.weight"), None);
        assert_eq!(LayerPart::of(""), None);
        assert_eq!(numbered("blocks_99999999999_x", "blocks"), None);
        assert_eq!(numbered("blocksy_1_x", "blocks"), None);
    }
}

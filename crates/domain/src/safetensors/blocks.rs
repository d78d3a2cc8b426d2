//! What the names and shapes of a LoRA's tensors show of the model behind it.

use std::collections::HashMap;

use super::SafetensorsHeader;
use super::naming::{LayerPart, Part, numbered};
use super::signs::{Sign, Width};

/// One of the lists of layers that models are made of.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks<'a> {
    /// The highest number of a layer.
    pub(super) last: u32,
    /// A tensor of that layer, for the evidence.
    pub(super) example: &'a str,
}

/// Everything that the tensors show.
#[derive(Debug, Default)]
pub(super) struct Shown<'a> {
    /// Blocks of a `UNet`; their number is that of the transformer within.
    pub(super) unet: Option<Blocks<'a>>,
    /// Whether a number of those transformers was seen at all.
    pub(super) unet_transformers: bool,
    /// `double_blocks`.
    pub(super) double: Option<Blocks<'a>>,
    /// `single_blocks`.
    pub(super) single: Option<Blocks<'a>>,
    /// `transformer_blocks`.
    pub(super) joint: Option<Blocks<'a>>,
    /// `single_transformer_blocks`.
    pub(super) joint_single: Option<Blocks<'a>>,
    /// `joint_blocks`.
    pub(super) original_joint: Option<Blocks<'a>>,
    /// `blocks`.
    pub(super) plain: Option<Blocks<'a>>,
    /// `layers`.
    pub(super) layers: Option<Blocks<'a>>,
    /// The width of what the blocks hand on.
    pub(super) hidden: Width,
    /// The width of what cross attention looks at, and a tensor that has it.
    pub(super) cross: Width,
    pub(super) cross_example: &'a str,
    /// The width of what comes in from text encoders.
    pub(super) context: Width,
    /// The width of the one text encoder, where it is not numbered.
    pub(super) text_encoder: Width,
    pub(super) text_encoder_example: &'a str,
    signs: HashMap<Sign, &'a str>,
}

impl<'a> Shown<'a> {
    /// Looks at every tensor, once.
    pub(super) fn of(header: &'a SafetensorsHeader) -> Self {
        let mut shown = Self::default();
        let mut factors: HashMap<&str, (Option<usize>, Option<usize>)> = HashMap::new();
        for tensor in header.tensors() {
            let Some(part) = LayerPart::of(&tensor.name) else {
                continue;
            };
            let inputs = match part.part {
                Part::Down | Part::HadamardDown | Part::Difference => tensor.shape.get(1).copied(),
                Part::KroneckerFirst | Part::KroneckerFirstDown => {
                    let product = factors.entry(part.layer).or_default();
                    product.0 = tensor.shape.get(1).copied();
                    multiplied(*product)
                }
                Part::KroneckerSecond | Part::KroneckerSecondDown => {
                    let product = factors.entry(part.layer).or_default();
                    product.1 = tensor.shape.get(1).copied();
                    multiplied(*product)
                }
                _ => None,
            };
            let outputs = match part.part {
                Part::Up | Part::Difference => tensor.shape.first().copied(),
                _ => None,
            };
            shown.look(&tensor.name, &part, inputs, outputs);
        }
        shown
    }

    /// Whether the sign was seen.
    pub(super) fn has(&self, sign: Sign) -> bool {
        self.signs.contains_key(&sign)
    }

    /// The first tensor that shows the sign.
    pub(super) fn example(&self, sign: Sign) -> &'a str {
        self.signs.get(&sign).copied().unwrap_or_default()
    }

    /// How many of the known layouts there are; no model has two.
    pub(super) fn lists(&self) -> usize {
        [
            self.unet.is_some(),
            self.double.is_some() || self.single.is_some(),
            self.joint.is_some() || self.joint_single.is_some(),
            self.original_joint.is_some(),
            self.plain.is_some(),
            self.layers.is_some() || self.has(Sign::Refiner),
        ]
        .into_iter()
        .filter(|is_there| *is_there)
        .count()
    }

    fn sign(&mut self, sign: Sign, name: &'a str) {
        self.signs.entry(sign).or_insert(name);
    }

    fn look(
        &mut self,
        name: &'a str,
        part: &LayerPart<'a>,
        inputs: Option<usize>,
        outputs: Option<usize>,
    ) {
        if part.is_of_text_encoder() {
            self.look_at_text_encoder(name, part, inputs);
            return;
        }
        let layer = part.plain_layer();
        if is_foreign(&layer) {
            self.sign(Sign::Foreign, name);
        } else if let Some((number, rest)) = numbered(&layer, "double_blocks") {
            at(&mut self.double, number, name);
            self.look_at_flow_block(name, rest, inputs, outputs);
        } else if let Some((number, rest)) = numbered(&layer, "single_blocks") {
            at(&mut self.single, number, name);
            self.look_at_flow_block(name, rest, inputs, outputs);
        } else if let Some((number, rest)) = numbered(&layer, "single_transformer_blocks") {
            at(&mut self.joint_single, number, name);
            self.look_at_joint_block(name, rest, inputs);
        } else if let Some((number, rest)) = numbered(&layer, "transformer_blocks") {
            at(&mut self.joint, number, name);
            self.look_at_joint_block(name, rest, inputs);
        } else if let Some((number, rest)) = numbered(&layer, "joint_blocks") {
            at(&mut self.original_joint, number, name);
            if rest.ends_with("_attn_qkv") {
                self.add_hidden(inputs);
            }
        } else if let Some((number, rest)) = numbered(&layer, "blocks") {
            at(&mut self.plain, number, name);
            self.look_at_plain_block(name, rest, inputs);
        } else if let Some((number, rest)) = numbered(&layer, "layers") {
            self.look_at_layer(name, number, rest, inputs);
        } else {
            self.look_elsewhere(name, &layer, inputs);
        }
    }

    /// `double_blocks` and `single_blocks`: the Flux models and Hunyuan Video.
    fn look_at_flow_block(
        &mut self,
        name: &'a str,
        rest: &str,
        inputs: Option<usize>,
        outputs: Option<usize>,
    ) {
        match rest {
            "img_mod_lin" | "txt_mod_lin" | "modulation_lin" => {
                self.sign(Sign::FluxModulation, name);
                self.add_hidden(inputs);
            }
            "img_mod_linear" | "txt_mod_linear" | "modulation_linear" => {
                self.sign(Sign::HunyuanModulation, name);
                self.add_hidden(inputs);
            }
            "img_mlp_fc1" | "txt_mlp_fc1" => {
                self.sign(Sign::HunyuanMlp, name);
                self.add_hidden(inputs);
            }
            "img_mlp_fc2" | "txt_mlp_fc2" => self.sign(Sign::HunyuanMlp, name),
            "img_mlp_0" | "txt_mlp_0" => {
                self.add_hidden(inputs);
                self.look_at_ratio(name, outputs, 12_288, 18_432);
            }
            "linear1" => {
                self.add_hidden(inputs);
                self.look_at_ratio(name, outputs, 21_504, 27_648);
            }
            "img_attn_qkv" | "txt_attn_qkv" | "img_attn_q" | "img_attn_k" | "img_attn_v" => {
                self.add_hidden(inputs);
            }
            "img_attn_proj" | "txt_attn_proj" => self.add_hidden(inputs),
            _ => {}
        }
    }

    /// How much wider the perceptron of a model of width 3072 is.
    fn look_at_ratio(&mut self, name: &'a str, outputs: Option<usize>, four: usize, six: usize) {
        if outputs == Some(four) {
            self.sign(Sign::MlpRatio4, name);
        } else if outputs == Some(six) {
            self.sign(Sign::MlpRatio6, name);
        }
    }

    /// `transformer_blocks` and `single_transformer_blocks`: the layout of diffusers.
    fn look_at_joint_block(&mut self, name: &'a str, rest: &str, inputs: Option<usize>) {
        match rest {
            "attn_to_q" | "attn_to_k" | "attn_to_v" => {
                self.sign(Sign::PlainAttention, name);
                self.add_hidden(inputs);
            }
            "attn_add_q_proj" | "attn_add_k_proj" | "attn_add_v_proj" => {
                self.sign(Sign::AddedAttention, name);
                self.add_hidden(inputs);
            }
            "attn_to_qkv_mlp_proj" | "ff_linear_in" | "ff_context_linear_in" => {
                self.sign(Sign::FusedProjection, name);
                self.add_hidden(inputs);
            }
            "img_mlp_net_0_proj" | "txt_mlp_net_0_proj" | "img_mod_1" | "txt_mod_1" => {
                self.sign(Sign::QwenMlp, name);
                self.add_hidden(inputs);
            }
            "img_mlp_net_2" | "txt_mlp_net_2" => self.sign(Sign::QwenMlp, name),
            "norm_linear" | "norm1_linear" | "norm1_context_linear" => {
                self.sign(Sign::NormModulation, name);
            }
            _ if rest.starts_with("attn1_") || rest.starts_with("audio_") => {
                self.sign(Sign::Foreign, name);
            }
            _ => {}
        }
    }

    /// `blocks`: Wan.
    fn look_at_plain_block(&mut self, name: &'a str, rest: &str, inputs: Option<usize>) {
        match rest {
            "cross_attn_q" | "cross_attn_k" | "cross_attn_v" | "cross_attn_o" => {
                self.sign(Sign::CrossAttention, name);
                self.add_hidden(inputs);
            }
            "self_attn_q" | "self_attn_k" | "self_attn_v" | "self_attn_o" | "ffn_0" => {
                self.add_hidden(inputs);
            }
            "attn2_to_q" | "attn2_to_k" | "attn2_to_v" => {
                self.sign(Sign::NumberedAttention, name);
                self.add_hidden(inputs);
            }
            _ if rest.starts_with("ffn_net_") => self.sign(Sign::Ffn, name),
            _ => {}
        }
    }

    /// `layers`: Z-Image; language models use the name, too.
    fn look_at_layer(&mut self, name: &'a str, number: u32, rest: &str, inputs: Option<usize>) {
        match rest {
            "adaLN_modulation_0" => self.sign(Sign::FirstAdaLn, name),
            "adaLN_modulation_1" => self.sign(Sign::SecondAdaLn, name),
            "feed_forward_w1" | "feed_forward_w3" => {
                self.sign(Sign::FeedForward, name);
                self.add_hidden(inputs);
            }
            "feed_forward_w2" => self.sign(Sign::FeedForward, name),
            "attention_qkv" | "attention_to_q" | "attention_to_k" | "attention_to_v" => {
                self.add_hidden(inputs);
            }
            _ => {}
        }
        at(&mut self.layers, number, name);
    }

    fn look_elsewhere(&mut self, name: &'a str, layer: &str, inputs: Option<usize>) {
        const UNET_LISTS: [&str; 6] = [
            "down_blocks_",
            "up_blocks_",
            "mid_block_",
            "input_blocks_",
            "output_blocks_",
            "middle_block_",
        ];
        const REFINERS: [&str; 2] = ["context_refiner", "noise_refiner"];
        if UNET_LISTS.iter().any(|list| layer.starts_with(list)) {
            self.look_at_unet(name, layer, inputs);
        } else if REFINERS.iter().any(|list| numbered(layer, list).is_some()) {
            self.sign(Sign::Refiner, name);
        } else if layer.starts_with("double_stream_modulation_")
            || layer.starts_with("single_stream_modulation_")
        {
            self.sign(Sign::SharedModulation, name);
            self.add_hidden(inputs);
        } else if (layer == "txt_in" || layer == "context_embedder")
            && let Some(width) = inputs
        {
            self.context.add(width);
        }
    }

    fn look_at_unet(&mut self, name: &'a str, layer: &str, inputs: Option<usize>) {
        let transformer = layer
            .find("transformer_blocks_")
            .and_then(|at| numbered(layer.get(at..)?, "transformer_blocks"));
        at(
            &mut self.unet,
            transformer.map_or(0, |(number, _)| number),
            name,
        );
        let Some((_, rest)) = transformer else {
            return;
        };
        self.unet_transformers = true;
        if matches!(rest, "attn2_to_k" | "attn2_to_v")
            && let Some(width) = inputs
        {
            self.cross.add(width);
            if self.cross_example.is_empty() {
                self.cross_example = name;
            }
        }
    }

    fn look_at_text_encoder(&mut self, name: &'a str, part: &LayerPart<'_>, inputs: Option<usize>) {
        let layer = part
            .layer
            .strip_prefix("base_model.model.")
            .unwrap_or(part.layer);
        if layer.starts_with("lora_te2_") || layer.starts_with("text_encoder_2.") {
            self.sign(Sign::SecondTextEncoder, name);
        } else if layer.starts_with("lora_te3_") || layer.starts_with("text_encoder_3.") {
            self.sign(Sign::ThirdTextEncoder, name);
        } else if layer.starts_with("lora_te_")
            && (layer.ends_with("_k_proj")
                || layer.ends_with("_v_proj")
                || layer.ends_with("_q_proj"))
            && let Some(width) = inputs
        {
            self.text_encoder.add(width);
            self.text_encoder_example = name;
        }
    }

    fn add_hidden(&mut self, width: Option<usize>) {
        if let Some(width) = width {
            self.hidden.add(width);
        }
    }
}

fn at<'a>(blocks: &mut Option<Blocks<'a>>, number: u32, example: &'a str) {
    if blocks.as_ref().is_none_or(|known| number > known.last) {
        *blocks = Some(Blocks {
            last: number,
            example,
        });
    }
}

fn multiplied((one, other): (Option<usize>, Option<usize>)) -> Option<usize> {
    one?.checked_mul(other?)
}

/// Layers that only models have which we do not know: Chroma, `HiDream`, video models on top of a `UNet`.
fn is_foreign(layer: &str) -> bool {
    const STARTS: [&str; 5] = [
        "distilled_guidance_layer",
        "double_stream_blocks_",
        "single_stream_blocks_",
        "double_layers_",
        "joint_transformer_blocks_",
    ];
    const WITHIN: [&str; 2] = ["temporal_transformer", "motion_modules"];
    STARTS.iter().any(|start| layer.starts_with(start))
        || WITHIN.iter().any(|word| layer.contains(word))
}

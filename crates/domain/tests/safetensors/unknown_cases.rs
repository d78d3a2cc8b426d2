//! What LoRAs look like whose family must stay unknown.

use crate::family_cases::{Tensors, kohya, peft};

/// Tensors of models that are none of ours, or of two at once.
pub(crate) fn unknown_cases() -> Vec<(&'static str, Tensors)> {
    vec![
        (
            "chroma",
            peft(&[
                ("diffusion_model.distilled_guidance_layer.in_proj", 64, 5120),
                ("diffusion_model.double_blocks.0.img_attn.qkv", 3072, 9216),
                ("diffusion_model.single_blocks.37.linear1", 3072, 21_504),
            ]),
        ),
        (
            "ltx",
            peft(&[
                ("transformer.transformer_blocks.0.attn1.to_k", 2048, 2048),
                ("transformer.transformer_blocks.0.attn2.to_k", 2048, 2048),
            ]),
        ),
        (
            "ltx-2",
            peft(&[
                (
                    "diffusion_model.transformer_blocks.0.audio_attn1.to_k",
                    2048,
                    2048,
                ),
                (
                    "diffusion_model.transformer_blocks.0.attn1.to_k",
                    4096,
                    4096,
                ),
            ]),
        ),
        (
            "hidream",
            peft(&[(
                "diffusion_model.double_stream_blocks.0.block.attn1.to_k",
                2560,
                2560,
            )]),
        ),
        (
            "lumina 2",
            peft(&[
                ("diffusion_model.layers.0.adaLN_modulation.1", 1024, 9216),
                ("diffusion_model.layers.0.feed_forward.w3", 2304, 9216),
                (
                    "diffusion_model.context_refiner.0.attention.qkv",
                    2304,
                    3840,
                ),
            ]),
        ),
        (
            "a language model",
            peft(&[(
                "base_model.model.model.layers.0.self_attn.q_proj",
                4096,
                4096,
            )]),
        ),
        (
            "hunyuan video 1.5",
            peft(&[(
                "diffusion_model.double_blocks.50.img_mod.linear",
                2048,
                12_288,
            )]),
        ),
        (
            "hunyuan image 2.1",
            kohya(&[("lora_unet_double_blocks_0_img_mod_linear", 3584, 21_504)]),
        ),
        (
            "sdxl refiner",
            kohya(&[(
                "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k",
                1280,
                768,
            )]),
        ),
        (
            "a motion module",
            peft(&[(
                "unet.down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_k",
                320,
                320,
            )]),
        ),
        (
            "cosmos",
            peft(&[("diffusion_model.blocks.0.cross_attn.k_proj", 1024, 2048)]),
        ),
        (
            "flux.1, or the smallest flux.2",
            kohya(&[("lora_unet_double_blocks_0_img_attn_qkv", 3072, 9216)]),
        ),
        (
            "flux in other widths",
            kohya(&[("lora_unet_double_blocks_0_img_mod_lin", 2048, 9216)]),
        ),
        (
            "wan in another width",
            kohya(&[("lora_unet_blocks_0_cross_attn_k", 2048, 2048)]),
        ),
        (
            "two cross attentions",
            kohya(&[
                (
                    "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k",
                    768,
                    320,
                ),
                (
                    "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_v",
                    2048,
                    320,
                ),
            ]),
        ),
        (
            "sd1's width at sdxl's depth",
            kohya(&[(
                "lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_v",
                768,
                1280,
            )]),
        ),
        (
            "two models in one",
            [
                kohya(&[(
                    "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k",
                    768,
                    320,
                )]),
                kohya(&[("lora_unet_double_blocks_0_img_mod_lin", 3072, 18_432)]),
            ]
            .concat(),
        ),
        ("names of nothing", kohya(&[("something.else", 768, 768)])),
        (
            "only two text encoders",
            kohya(&[(
                "lora_te2_text_model_encoder_layers_0_self_attn_v_proj",
                1280,
                1280,
            )]),
        ),
        ("no tensors", Vec::new()),
    ]
}

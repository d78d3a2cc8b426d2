//! What the tensors of each family look like (`reference/platform/PROTOCOLS.md` section 6.4).

use super::blocks::{Blocks, Shown};
use super::signs::{Sign, Width};
use crate::lora::{BaseModelFamily, Confidence};

/// What speaks for a family.
pub(super) struct Verdict<'a> {
    pub(super) family: BaseModelFamily,
    pub(super) confidence: Confidence,
    pub(super) because: String,
    pub(super) example: &'a str,
}

/// What the tensors speak for, in the order in which families that share names must be asked.
pub(super) fn by_tensors<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    if shown.lists() > 1 {
        return None;
    }
    hunyuan_video(shown)
        .or_else(|| qwen_image(shown))
        .or_else(|| wan(shown))
        .or_else(|| z_image(shown))
        .or_else(|| flux_2(shown))
        .or_else(|| flux_1(shown))
        .or_else(|| stable_diffusion_3(shown))
        .or_else(|| unet(shown))
        .or_else(|| text_encoder(shown))
}

const fn sure(is_sure: bool) -> Confidence {
    if is_sure {
        Confidence::High
    } else {
        Confidence::Medium
    }
}

fn hunyuan_video<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    let modulation = shown.has(Sign::HunyuanModulation);
    let mlp = shown.has(Sign::HunyuanMlp);
    let of_flux = shown.has(Sign::FluxModulation)
        || shown.has(Sign::MlpRatio6)
        || shown.has(Sign::SharedModulation);
    // Its later relatives have the same names and other widths and numbers of blocks.
    let fits = shown.hidden.is_one_of(&[3072], true)
        && last(shown.double.as_ref()) <= 19
        && last(shown.single.as_ref()) <= 39;
    if !(modulation || mlp) || of_flux || !fits {
        return None;
    }
    let (because, sign) = if modulation {
        ("a modulation called \"linear\"", Sign::HunyuanModulation)
    } else {
        ("a perceptron of \"fc1\" and \"fc2\"", Sign::HunyuanMlp)
    };
    Some(Verdict {
        family: BaseModelFamily::HunyuanVideo,
        confidence: sure(modulation && shown.hidden == Width::Of(3072)),
        because: because.to_owned(),
        example: shown.example(sign),
    })
}

fn qwen_image<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    let joint = shown.joint.as_ref()?;
    let fits = shown.joint_single.is_none()
        && shown.hidden.is_one_of(&[3072], true)
        && joint.last <= 59
        && !shown.has(Sign::FusedProjection)
        && !shown.has(Sign::NormModulation);
    if !fits {
        return None;
    }
    let family = BaseModelFamily::QwenImage;
    if shown.has(Sign::QwenMlp) {
        let is_whole = shown.has(Sign::AddedAttention) && shown.hidden == Width::Of(3072);
        return Some(Verdict {
            family,
            confidence: sure(is_whole),
            because: "a perceptron or modulation for pictures and one for text".to_owned(),
            example: shown.example(Sign::QwenMlp),
        });
    }
    let all_attention =
        shown.has(Sign::PlainAttention) && shown.hidden == Width::Of(3072) && joint.last == 59;
    all_attention.then(|| Verdict {
        family,
        confidence: Confidence::Medium,
        because: "60 joint blocks of width 3072, such as".to_owned(),
        example: joint.example,
    })
}

/// Of the models of 1.3, 5 and 14 billion weights.
pub(super) const WAN_WIDTHS: [usize; 3] = [1536, 3072, 5120];

fn wan<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    shown.plain.as_ref()?;
    if !shown.hidden.is_one_of(&WAN_WIDTHS, true) {
        return None;
    }
    let family = BaseModelFamily::Wan;
    if shown.has(Sign::CrossAttention) {
        return Some(Verdict {
            family,
            confidence: sure(shown.hidden != Width::Unknown),
            because: format!("cross attention{}", of_width(shown.hidden)),
            example: shown.example(Sign::CrossAttention),
        });
    }
    // The same model as diffusers call it; others have such attention, too, but not with this perceptron.
    let is_renamed = shown.has(Sign::NumberedAttention)
        && (shown.has(Sign::Ffn) || shown.hidden != Width::Unknown);
    is_renamed.then(|| Verdict {
        family,
        confidence: Confidence::Medium,
        because: format!("cross attention{}", of_width(shown.hidden)),
        example: shown.example(Sign::NumberedAttention),
    })
}

pub(super) const Z_IMAGE_WIDTH: usize = 3840;

fn z_image<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    let layers = shown.layers.as_ref()?;
    // Lumina 2 has the same names, with the modulation at another place and another width.
    let fits = !shown.has(Sign::SecondAdaLn) && shown.hidden.is_one_of(&[Z_IMAGE_WIDTH], true);
    let parts = [Sign::FirstAdaLn, Sign::FeedForward, Sign::Refiner];
    let seen = parts.iter().filter(|sign| shown.has(**sign)).count();
    let of_width_known = shown.hidden == Width::Of(Z_IMAGE_WIDTH);
    let named = shown.has(Sign::FirstAdaLn) && shown.has(Sign::FeedForward);
    if !fits || !(named || (of_width_known && seen > 0)) {
        return None;
    }
    let example = parts
        .into_iter()
        .find(|sign| shown.has(*sign))
        .map_or(layers.example, |sign| shown.example(sign));
    Some(Verdict {
        family: BaseModelFamily::ZImage,
        confidence: sure(named && of_width_known),
        because: format!("layers{}", of_width(shown.hidden)),
        example,
    })
}

fn flux_2<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    const WIDTHS: [usize; 3] = [3072, 4096, 6144];
    const CONTEXTS: [usize; 3] = [7680, 12_288, 15_360];
    let flow = shown.double.as_ref().or(shown.single.as_ref());
    let joint = shown.joint.as_ref().or(shown.joint_single.as_ref());
    let blocks = flow.or(joint)?;
    let of_flux_1 = shown.has(Sign::FluxModulation) || shown.has(Sign::MlpRatio4);
    let of_others = shown.has(Sign::HunyuanModulation)
        || shown.has(Sign::HunyuanMlp)
        || shown.has(Sign::QwenMlp);
    let fits = shown.hidden.is_one_of(&WIDTHS, true)
        && shown.context.is_one_of(&CONTEXTS, true)
        && last(shown.single.as_ref()).max(last(shown.joint_single.as_ref())) <= 47;
    if of_flux_1 || of_others || !fits {
        return None;
    }
    let wide = shown.hidden.is_one_of(&[4096, 6144], false);
    let (because, example, confidence) = if shown.context != Width::Unknown {
        (
            format!("text{}", of_width(shown.context)),
            blocks.example,
            Confidence::High,
        )
    } else if shown.has(Sign::FusedProjection) {
        let example = shown.example(Sign::FusedProjection);
        let known = shown.hidden != Width::Unknown;
        ("a fused projection".to_owned(), example, sure(known))
    } else if shown.has(Sign::MlpRatio6) {
        let example = shown.example(Sign::MlpRatio6);
        let known = shown.hidden == Width::Of(3072);
        (
            "a perceptron six times as wide".to_owned(),
            example,
            sure(known),
        )
    } else if shown.has(Sign::SharedModulation) {
        let example = shown.example(Sign::SharedModulation);
        (
            "a modulation for all blocks".to_owned(),
            example,
            sure(wide),
        )
    } else if wide && (flow.is_some() || shown.has(Sign::PlainAttention)) {
        let because = format!("blocks{}", of_width(shown.hidden));
        (because, blocks.example, sure(flow.is_some()))
    } else {
        return None;
    };
    Some(Verdict {
        family: BaseModelFamily::Flux2,
        confidence,
        because,
        example,
    })
}

fn flux_1<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    let flow = shown.double.is_some() || shown.single.is_some();
    let blocks = [&shown.single, &shown.double, &shown.joint_single]
        .into_iter()
        .find_map(Option::as_ref)?;
    let (doubles, singles) = (
        last(shown.double.as_ref()).max(last(shown.joint.as_ref())),
        last(shown.single.as_ref()).max(last(shown.joint_single.as_ref())),
    );
    let fits = shown.hidden.is_one_of(&[3072], true)
        && shown.context.is_one_of(&[4096], true)
        && doubles <= 18
        && singles <= 37;
    let of_others = [
        Sign::HunyuanModulation,
        Sign::HunyuanMlp,
        Sign::QwenMlp,
        Sign::FusedProjection,
        Sign::MlpRatio6,
        Sign::SharedModulation,
    ]
    .into_iter()
    .any(|sign| shown.has(sign));
    if !fits || of_others {
        return None;
    }
    let modulated = shown.has(Sign::FluxModulation);
    let known = shown.hidden == Width::Of(3072);
    // The smallest Flux.2 has the same width and names, but only 5 and 20 blocks.
    let told_from_flux_2 = modulated
        || shown.has(Sign::MlpRatio4)
        || shown.context != Width::Unknown
        || doubles > 4
        || singles > 19;
    let is_likely = if flow {
        told_from_flux_2
    } else {
        shown.has(Sign::PlainAttention) && known
    };
    if !is_likely {
        return None;
    }
    // Chroma, which is made of it, has no modulations; Hunyuan Video has one block more.
    let whole = shown.has(Sign::NormModulation) && doubles == 18 && singles == 37;
    let (because, example) = if modulated {
        (
            "a modulation called \"lin\"".to_owned(),
            shown.example(Sign::FluxModulation),
        )
    } else {
        (
            format!("single and double blocks{}", of_width(shown.hidden)),
            blocks.example,
        )
    };
    Some(Verdict {
        family: BaseModelFamily::Flux1,
        confidence: sure(known && (modulated || whole)),
        because,
        example,
    })
}

fn stable_diffusion_3<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    let family = BaseModelFamily::StableDiffusion3;
    let last_of = |width| match width {
        Width::Of(1536) => Some(23),
        Width::Of(2432) => Some(37),
        Width::Of(_) | Width::Unknown | Width::Mixed => None,
    };
    if let Some(blocks) = shown.original_joint.as_ref() {
        let fits = match shown.hidden {
            Width::Unknown => blocks.last <= 37,
            width => last_of(width).is_some_and(|last| blocks.last <= last),
        };
        return fits.then(|| Verdict {
            family,
            confidence: sure(shown.hidden != Width::Unknown),
            because: format!("joint blocks{}", of_width(shown.hidden)),
            example: blocks.example,
        });
    }
    let blocks = shown.joint.as_ref()?;
    let attention = shown.has(Sign::PlainAttention) || shown.has(Sign::AddedAttention);
    let fits = shown.joint_single.is_none()
        && attention
        && !shown.has(Sign::QwenMlp)
        && last_of(shown.hidden).is_some_and(|last| blocks.last <= last);
    fits.then(|| Verdict {
        family,
        confidence: sure(shown.has(Sign::AddedAttention) || blocks.last == 37),
        because: format!("joint blocks alone{}", of_width(shown.hidden)),
        example: blocks.example,
    })
}

/// Stable Diffusion 1, 2 and XL.
fn unet<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    use BaseModelFamily::{StableDiffusion1, StableDiffusion2, StableDiffusionXl};
    let blocks = shown.unet.as_ref()?;
    if shown.has(Sign::ThirdTextEncoder) {
        return None;
    }
    let deep = blocks.last >= 2;
    let second = shown.has(Sign::SecondTextEncoder);
    let shallow = blocks.last == 0 && !second;
    let (family, confidence) = match (shown.cross, shown.text_encoder) {
        (Width::Of(2048), Width::Unknown) => (StableDiffusionXl, Confidence::High),
        (Width::Of(768), Width::Unknown | Width::Of(768)) if shallow => {
            (StableDiffusion1, Confidence::High)
        }
        (Width::Of(1024), Width::Unknown | Width::Of(1024)) if shallow => {
            (StableDiffusion2, Confidence::High)
        }
        (Width::Unknown, Width::Unknown) if deep || (second && shown.unet_transformers) => {
            return Some(Verdict {
                family: StableDiffusionXl,
                confidence: Confidence::Medium,
                because: if deep {
                    "several transformers in one block, as".to_owned()
                } else {
                    "a second text encoder".to_owned()
                },
                example: if deep {
                    blocks.example
                } else {
                    shown.example(Sign::SecondTextEncoder)
                },
            });
        }
        (Width::Unknown, Width::Of(_)) if shallow => return text_encoder(shown),
        _ => return None,
    };
    Some(Verdict {
        family,
        confidence,
        because: format!("cross attention{}", of_width(shown.cross)),
        example: shown.cross_example,
    })
}

/// Stable Diffusion 1 and 2, by the one text encoder that only they have.
fn text_encoder<'a>(shown: &Shown<'a>) -> Option<Verdict<'a>> {
    let family = match shown.text_encoder {
        Width::Of(768) => BaseModelFamily::StableDiffusion1,
        Width::Of(1024) => BaseModelFamily::StableDiffusion2,
        Width::Of(_) | Width::Unknown | Width::Mixed => return None,
    };
    let others = shown.lists() - usize::from(shown.unet.is_some());
    let fits = others == 0 && !shown.has(Sign::SecondTextEncoder) && shown.cross == Width::Unknown;
    fits.then(|| Verdict {
        family,
        confidence: Confidence::Medium,
        because: format!("one text encoder{}", of_width(shown.text_encoder)),
        example: shown.text_encoder_example,
    })
}

fn last(blocks: Option<&Blocks<'_>>) -> u32 {
    blocks.map_or(0, |blocks| blocks.last)
}

fn of_width(width: Width) -> String {
    match width {
        Width::Of(width) => format!(" of width {width}"),
        Width::Unknown | Width::Mixed => String::new(),
    }
}

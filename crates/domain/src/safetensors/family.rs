//! Decides which family of models a LoRA is for.

use super::SafetensorsHeader;
use super::architecture::{Claim, claim};
use super::blocks::Shown;
use super::signs::{Sign, Width};
use super::verdicts::{Verdict, WAN_WIDTHS, Z_IMAGE_WIDTH, by_tensors};
use crate::lora::{BaseModel, BaseModelFamily, Confidence};

/// Characters of the sender's text within the evidence.
const MAX_EXAMPLE_CHARS: usize = 90;
/// What [`BaseModel::evidence`] promises.
const MAX_EVIDENCE_CHARS: usize = 200;

/// The family that the tensors speak for, by the evidence of `reference/platform/PROTOCOLS.md` section 6.4; the
/// metadata alone where the tensors say nothing, and `None` where anything contradicts.
pub(super) fn base_model(header: &SafetensorsHeader) -> Option<BaseModel> {
    let shown = Shown::of(header);
    let claim = claim(header.metadata());
    if shown.has(Sign::Foreign) {
        return None;
    }
    match (by_tensors(&shown), claim) {
        (Some(verdict), Some(Claim::Family(claimed))) => {
            (verdict.family == claimed).then(|| told(&verdict, "; its metadata agree"))
        }
        (Some(verdict), None) => Some(told(&verdict, "")),
        (None, Some(Claim::Family(family))) if leaves_room_for(&shown, family) => Some(BaseModel {
            family,
            confidence: Confidence::Low,
            evidence: format!("only its metadata name {}", family.as_str()),
        }),
        (Some(_), Some(Claim::Another | Claim::Contradictory)) | (None, _) => None,
    }
}

fn told(verdict: &Verdict<'_>, agreement: &str) -> BaseModel {
    let mut example: String = verdict
        .example
        .chars()
        .filter(|character| !character.is_control())
        .take(MAX_EXAMPLE_CHARS)
        .collect();
    if verdict.example.chars().nth(MAX_EXAMPLE_CHARS).is_some() {
        example.push('…');
    }
    let evidence = format!("{} in {example}{agreement}", verdict.because);
    BaseModel {
        family: verdict.family,
        confidence: verdict.confidence,
        evidence: evidence.chars().take(MAX_EVIDENCE_CHARS).collect(),
    }
}

/// Whether nothing in the tensors speaks against a family that the metadata name.
fn leaves_room_for(shown: &Shown<'_>, family: BaseModelFamily) -> bool {
    use BaseModelFamily::{
        Flux1, Flux2, HunyuanVideo, QwenImage, StableDiffusion1, StableDiffusion2,
        StableDiffusion3, StableDiffusionXl, Wan, ZImage,
    };
    let flow = shown.double.is_some() || shown.single.is_some();
    let has_layout = match family {
        StableDiffusion1 | StableDiffusion2 | StableDiffusionXl => shown.unet.is_some(),
        StableDiffusion3 => {
            shown.original_joint.is_some()
                || (shown.joint.is_some() && shown.joint_single.is_none())
        }
        Flux1 | Flux2 | HunyuanVideo => {
            flow || shown.joint.is_some() || shown.joint_single.is_some()
        }
        Wan => shown.plain.is_some(),
        QwenImage => shown.joint.is_some() && shown.joint_single.is_none(),
        ZImage => shown.layers.is_some() || shown.has(Sign::Refiner),
    };
    let fits_several = shown.hidden != Width::Mixed && shown.cross != Width::Mixed;
    let lists = shown.lists();
    (lists == 0 || (lists == 1 && has_layout)) && fits_several && !is_ruled_out(shown)
}

/// Widths that none of the families has which use these names.
fn is_ruled_out(shown: &Shown<'_>) -> bool {
    let flow = shown.double.is_some() || shown.single.is_some();
    let joint = shown.joint.is_some() || shown.joint_single.is_some();
    (shown.unet.is_some() && !shown.cross.is_one_of(&[768, 1024, 2048], true))
        || (flow && !shown.hidden.is_one_of(&[3072, 4096, 6144], true))
        || (joint
            && !shown
                .hidden
                .is_one_of(&[1536, 2432, 3072, 4096, 6144], true))
        || (shown.plain.is_some() && !shown.hidden.is_one_of(&WAN_WIDTHS, true))
        || (shown.layers.is_some() && !shown.hidden.is_one_of(&[Z_IMAGE_WIDTH], true))
        || shown.has(Sign::SecondAdaLn)
}

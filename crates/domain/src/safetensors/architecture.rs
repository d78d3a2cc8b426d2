//! Which family of models a file's metadata speak of.

use std::collections::BTreeMap;

use crate::lora::BaseModelFamily;

/// Where trainers write it (`reference/platform/PROTOCOLS.md` section 6.2).
const KEYS: [&str; 2] = ["modelspec.architecture", "ss_base_model_version"];

/// Says whether the weights are of Stable Diffusion 2; `False` says nothing.
const VERSION_2: &str = "ss_v2";

/// What the metadata say of the model that a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// One of the families that we know.
    Family(BaseModelFamily),
    /// A model that is none of them, although its tensors may be called the same.
    Another,
    /// Different things in different places.
    Contradictory,
}

/// Starts of what trainers write, with `-` for `_` and blanks and in lower case; the first that fits counts.
const ARCHITECTURES: [(&str, Claim); 52] = {
    use BaseModelFamily::{
        Flux1, Flux2, HunyuanVideo, QwenImage, StableDiffusion1, StableDiffusion2,
        StableDiffusion3, StableDiffusionXl, Wan, ZImage,
    };
    use Claim::{Another, Family};
    [
        ("stable-diffusion-xl-v1-refiner", Another),
        ("sdxl-refiner", Another),
        ("stable-diffusion-xl", Family(StableDiffusionXl)),
        ("sdxl", Family(StableDiffusionXl)),
        ("stable-diffusion-v1", Family(StableDiffusion1)),
        ("stable-diffusion-1", Family(StableDiffusion1)),
        ("sd-v1", Family(StableDiffusion1)),
        ("sd1", Family(StableDiffusion1)),
        ("sd15", Family(StableDiffusion1)),
        ("sd-1", Family(StableDiffusion1)),
        ("stable-diffusion-v2", Family(StableDiffusion2)),
        ("stable-diffusion-2", Family(StableDiffusion2)),
        ("sd-v2", Family(StableDiffusion2)),
        ("sd2", Family(StableDiffusion2)),
        ("sd21", Family(StableDiffusion2)),
        ("sd-2", Family(StableDiffusion2)),
        ("stable-diffusion-v3", Family(StableDiffusion3)),
        ("stable-diffusion-3", Family(StableDiffusion3)),
        ("sd-v3", Family(StableDiffusion3)),
        ("sd3", Family(StableDiffusion3)),
        ("sd-3", Family(StableDiffusion3)),
        ("flux1", Family(Flux1)),
        ("flux-1", Family(Flux1)),
        ("flux.1", Family(Flux1)),
        ("flux2", Family(Flux2)),
        ("flux-2", Family(Flux2)),
        ("flux.2", Family(Flux2)),
        ("wan2", Family(Wan)),
        ("wan-2", Family(Wan)),
        ("wan", Family(Wan)),
        ("qwen-image", Family(QwenImage)),
        ("qwenimage", Family(QwenImage)),
        ("hunyuan-video-1.5", Another),
        ("hunyuan-video", Family(HunyuanVideo)),
        ("hunyuanvideo", Family(HunyuanVideo)),
        ("z-image", Family(ZImage)),
        ("zimage", Family(ZImage)),
        ("chroma", Another),
        ("lumina", Another),
        ("hidream", Another),
        ("hunyuan-image", Another),
        ("hunyuan-dit", Another),
        ("ltx", Another),
        ("ltxv", Another),
        ("auraflow", Another),
        ("cosmos", Another),
        ("kolors", Another),
        ("pixart", Another),
        ("sana", Another),
        ("stable-cascade", Another),
        ("stable-video", Another),
        ("anima", Another),
    ]
};

/// The family that the metadata of a LoRA or a checkpoint name: by `modelspec.architecture`, `ss_base_model_version`
/// and `ss_v2`.
///
/// `None` where they name none, another one than those that we know, or different ones in different places. They are
/// their maker's words: a hint, no proof.
pub fn family_of_architecture(metadata: &BTreeMap<String, String>) -> Option<BaseModelFamily> {
    match claim(metadata)? {
        Claim::Family(family) => Some(family),
        Claim::Another | Claim::Contradictory => None,
    }
}

/// What the metadata claim, if they claim anything that we understand.
pub(super) fn claim(metadata: &BTreeMap<String, String>) -> Option<Claim> {
    let version_2 = metadata
        .get(VERSION_2)
        .filter(|value| value.trim().eq_ignore_ascii_case("true"))
        .map(|_| Claim::Family(BaseModelFamily::StableDiffusion2));
    KEYS.iter()
        .filter_map(|key| read(metadata.get(*key)?))
        .chain(version_2)
        .reduce(|one, other| {
            if one == other {
                one
            } else {
                Claim::Contradictory
            }
        })
}

fn read(text: &str) -> Option<Claim> {
    /// No architecture has a longer name, and hostile files may have megabytes of it.
    const MAX_CHARS: usize = 100;
    let text: String = text
        .trim()
        .chars()
        .take(MAX_CHARS)
        .map(|character| match character {
            '_' | ' ' => '-',
            other => other.to_ascii_lowercase(),
        })
        .collect();
    ARCHITECTURES
        .iter()
        .find(|(start, _)| begins_with_word(&text, start))
        .map(|(_, claim)| *claim)
}

/// Whether `text` begins with `word` and neither its last letters nor its last digits go on: `wan2.1` begins with
/// `wan`, and `wander` does not.
fn begins_with_word(text: &str, word: &str) -> bool {
    let Some(after) = text.strip_prefix(word).map(|rest| rest.chars().next()) else {
        return false;
    };
    match (word.chars().next_back(), after) {
        (Some(last), Some(next)) if last.is_ascii_digit() => !next.is_ascii_digit(),
        (Some(_), Some(next)) => !next.is_alphabetic(),
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(entries: &[(&str, &str)]) -> Option<BaseModelFamily> {
        let metadata = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        family_of_architecture(&metadata)
    }

    #[test]
    fn what_trainers_write_is_understood() {
        use BaseModelFamily::{
            Flux1, Flux2, HunyuanVideo, QwenImage, StableDiffusion1, StableDiffusion2,
            StableDiffusion3, StableDiffusionXl, Wan, ZImage,
        };
        for (text, expected) in [
            ("stable-diffusion-v1/lora", StableDiffusion1),
            ("sd_v1_v", StableDiffusion1),
            ("stable-diffusion-v2-768-v/lora", StableDiffusion2),
            ("sd_v2", StableDiffusion2),
            ("stable-diffusion-xl-v1-base/lora", StableDiffusionXl),
            ("sdxl_base_v1-0", StableDiffusionXl),
            ("stable-diffusion-3-medium", StableDiffusion3),
            ("sd3.5_large", StableDiffusion3),
            ("flux-1-dev/lora", Flux1),
            ("flux-1-schnell", Flux1),
            ("flux1d", Flux1),
            ("Flux.2-dev", Flux2),
            ("flux2_klein", Flux2),
            ("wan2.1/lora", Wan),
            ("Wan 2.2 14B", Wan),
            ("qwen_image_edit", QwenImage),
            ("hunyuan-video", HunyuanVideo),
            ("Z-Image-Turbo", ZImage),
        ] {
            assert_eq!(family(&[(KEYS[0], text)]), Some(expected), "{text}");
            assert_eq!(family(&[(KEYS[1], text)]), Some(expected), "{text}");
        }
    }

    #[test]
    fn relatives_and_strangers_are_no_family() {
        for text in [
            "chroma",
            "lumina-2",
            "hunyuan-image-2.1",
            "hunyuan-video-1.5",
            "stable-diffusion-xl-v1-refiner",
            "sd150",
            "flux",
            "flux10",
            "wander",
            "",
            "\u{1b}",
        ] {
            assert_eq!(family(&[(KEYS[0], text)]), None, "{text}");
        }
    }

    #[test]
    fn contradictions_are_no_family() {
        assert_eq!(family(&[(KEYS[0], "sdxl"), (KEYS[1], "sd_v1")]), None);
        assert_eq!(family(&[(KEYS[1], "sd_v1"), (VERSION_2, "True")]), None);
        assert_eq!(family(&[(KEYS[0], "flux1"), (KEYS[1], "chroma")]), None);
    }

    #[test]
    fn the_old_flag_alone_says_version_2() {
        let two = Some(BaseModelFamily::StableDiffusion2);
        assert_eq!(family(&[(VERSION_2, "True")]), two);
        assert_eq!(family(&[(VERSION_2, "False")]), None);
        assert_eq!(family(&[]), None);
    }
}

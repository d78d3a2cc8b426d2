//! The families of models that LoRAs are made for.

/// A family of base models: a LoRA of one does nothing good to another's
/// (`reference/platform/PROTOCOLS.md` section 6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BaseModelFamily {
    /// Stable Diffusion 1.x.
    StableDiffusion1,
    /// Stable Diffusion 2.x.
    StableDiffusion2,
    /// Stable Diffusion XL.
    StableDiffusionXl,
    /// Stable Diffusion 3 and 3.5.
    StableDiffusion3,
    /// Flux.1.
    Flux1,
    /// Flux.2.
    Flux2,
    /// Wan 2.1 and 2.2.
    Wan,
    /// Qwen-Image.
    QwenImage,
    /// Hunyuan Video.
    HunyuanVideo,
    /// Z-Image.
    ZImage,
}

impl BaseModelFamily {
    /// Every family.
    pub const ALL: [Self; 10] = [
        Self::StableDiffusion1,
        Self::StableDiffusion2,
        Self::StableDiffusionXl,
        Self::StableDiffusion3,
        Self::Flux1,
        Self::Flux2,
        Self::Wan,
        Self::QwenImage,
        Self::HunyuanVideo,
        Self::ZImage,
    ];

    /// The usual name, which the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StableDiffusion1 => "SD 1.x",
            Self::StableDiffusion2 => "SD 2.x",
            Self::StableDiffusionXl => "SDXL",
            Self::StableDiffusion3 => "SD 3",
            Self::Flux1 => "Flux.1",
            Self::Flux2 => "Flux.2",
            Self::Wan => "Wan",
            Self::QwenImage => "Qwen-Image",
            Self::HunyuanVideo => "Hunyuan Video",
            Self::ZImage => "Z-Image",
        }
    }

    /// Reads the name, whatever its case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|family| family.as_str().eq_ignore_ascii_case(name))
    }
}

/// How sure it is that a LoRA belongs to a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// Only what the file says of itself.
    Low,
    /// The tensors fit, and could fit a little-known relative as well.
    Medium,
    /// The tensors fit nothing else.
    High,
}

impl Confidence {
    /// Every degree.
    pub const ALL: [Self; 3] = [Self::Low, Self::Medium, Self::High];

    /// The word that the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|degree| degree.as_str() == word)
    }
}

/// The family that a LoRA belongs to, and why we believe so. Where nothing
/// speaks for one family alone there is none: no guess is better than a wrong
/// one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseModel {
    /// The family.
    pub family: BaseModelFamily,
    /// How sure that is.
    pub confidence: Confidence,
    /// What speaks for it, for people to read: at most 200 characters, without
    /// control characters.
    pub evidence: String,
}

/// Which base models a list of LoRAs is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BaseModelFilter {
    /// This family's.
    Family(BaseModelFamily),
    /// Those whose family is not known.
    Unknown,
}

impl BaseModelFilter {
    /// The name, or `unknown`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Family(family) => family.as_str(),
            Self::Unknown => "unknown",
        }
    }

    /// Reads a family's name or `unknown`, whatever the case.
    pub fn parse(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("unknown") {
            return Some(Self::Unknown);
        }
        BaseModelFamily::parse(name).map(Self::Family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for family in BaseModelFamily::ALL {
            assert_eq!(BaseModelFamily::parse(family.as_str()), Some(family));
        }
        assert_eq!(
            BaseModelFamily::parse("sdxl"),
            Some(BaseModelFamily::StableDiffusionXl)
        );
        assert_eq!(BaseModelFamily::parse("unknown"), None);
        assert_eq!(
            BaseModelFilter::parse("Unknown"),
            Some(BaseModelFilter::Unknown)
        );
    }
}

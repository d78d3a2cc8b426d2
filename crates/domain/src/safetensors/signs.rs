//! Single signs that tell families of models apart.

/// A length that several layers should agree on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Width {
    /// No tensor tells it.
    #[default]
    Unknown,
    /// They agree.
    Of(usize),
    /// They do not.
    Mixed,
}

impl Width {
    pub(super) fn add(&mut self, width: usize) {
        *self = match *self {
            Self::Unknown => Self::Of(width),
            Self::Of(known) if known == width => Self::Of(known),
            Self::Of(_) | Self::Mixed => Self::Mixed,
        };
    }

    /// Whether the width is one of these; `unknown` where no tensor tells.
    pub(super) fn is_one_of(self, widths: &[usize], unknown: bool) -> bool {
        match self {
            Self::Unknown => unknown,
            Self::Of(width) => widths.contains(&width),
            Self::Mixed => false,
        }
    }
}

/// Signs that tell families apart, each with the first tensor that shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sign {
    /// Layers of a model that is none of ours.
    Foreign,
    /// A modulation called `lin`, in every block.
    FluxModulation,
    /// A modulation called `linear`, in every block.
    HunyuanModulation,
    /// A perceptron whose layers are called `fc1` and `fc2`.
    HunyuanMlp,
    /// A modulation that all blocks share.
    SharedModulation,
    /// The first layer of a perceptron has four times its inputs.
    MlpRatio4,
    /// The first layer of a perceptron has six times its inputs.
    MlpRatio6,
    /// Attention and perceptron in one matrix, or a perceptron called `linear_in`.
    FusedProjection,
    /// A modulation of the diffusers layout, called `norm.linear`.
    NormModulation,
    /// Attention of the text's half.
    AddedAttention,
    /// A perceptron or modulation for pictures and one for text.
    QwenMlp,
    /// Attention called `attn`, without a number.
    PlainAttention,
    /// Cross attention called `cross_attn`.
    CrossAttention,
    /// Cross attention called `attn2` in blocks that have a perceptron called `ffn`.
    NumberedAttention,
    /// The perceptron that is called `ffn`.
    Ffn,
    /// `adaLN_modulation.0`.
    FirstAdaLn,
    /// `adaLN_modulation.1`.
    SecondAdaLn,
    /// `feed_forward.w1` to `w3`.
    FeedForward,
    /// A refiner of the context or of the noise.
    Refiner,
    /// A text encoder that is numbered 2.
    SecondTextEncoder,
    /// A text encoder that is numbered 3.
    ThirdTextEncoder,
}

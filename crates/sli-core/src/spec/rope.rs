use serde::{Deserialize, Serialize};

/// Rotary position embedding in the rotate-half pairing: dimension d is paired with d + rotary_dim / 2. Checkpoints
/// that pair neighbours are permuted at load time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeSpec {
    /// Base of the frequencies.
    pub theta: f64,
    /// The first dimensions of each head are rotated, the rest pass through.
    pub rotary_dim: usize,
    /// How the frequencies are stretched for long contexts.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are stretched for long contexts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions are divided by the factor (Chen et al. 2023).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Only the first pairs of dimensions are rotated, with the frequencies of a head that is rotated as a whole
    /// (Gemma 4).
    Proportional {
        /// Pairs that are rotated.
        pairs: usize,
        /// What positions are divided by.
        factor: f64,
    },
    /// The base grows with the length of the sample beyond the original one ("dynamic NTK").
    Dynamic {
        /// How much longer than the original the context is meant to become.
        factor: f64,
        /// The length up to which nothing changes.
        original_max_positions: usize,
    },
    /// The same in steps: at k times the original length, rounded up to a power of two, the base grows as by a
    /// factor of 2k - 1 (Qwen).
    DynamicSteps {
        /// The length up to which nothing changes.
        original_max_positions: usize,
    },
    /// Low frequencies are divided, high ones kept, those between interpolated (Llama 3.1).
    Llama3 {
        /// The divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above original / this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below original / this are high frequencies.
        high_freq_factor: f64,
        /// The context length before stretching.
        original_max_positions: usize,
    },
    /// Low frequencies are divided, high ones kept, along a ramp over the dimensions; cosines and sines are multiplied
    /// by a factor (Peng et al. 2023, "YaRN").
    Yarn {
        /// The divisor of the low frequencies.
        factor: f64,
        /// Dimensions that turn more often than this within the original length are kept.
        beta_fast: f64,
        /// Dimensions that turn less often than this are divided.
        beta_slow: f64,
        /// The context length before stretching.
        original_max_positions: usize,
        /// Are the ends of the ramp rounded to whole dimensions?
        truncate: bool,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
    /// Each frequency has a divisor of its own, one for samples within the original length and one for longer ones;
    /// cosines and sines are multiplied by a factor (Ding et al. 2024, "LongRoPE").
    LongRope {
        /// Divisors for samples up to the original length, `[rotary_dim / 2]`.
        short: Vec<f64>,
        /// Divisors for longer samples.
        long: Vec<f64>,
        /// The context length before stretching.
        original_max_positions: usize,
        /// What cosines and sines are multiplied by.
        attention_factor: f64,
    },
}

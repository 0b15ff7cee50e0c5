//! What a user can ask of a run.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sli_core::{ByteSize, Result, SliError};

use crate::progress::Observer;

/// Where the arithmetic happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// Burn's Flex backend with the kernels of sli-kernels.
    #[default]
    Cpu,
    /// Burn's NdArray backend, the plain reference.
    NdArray,
    /// A CUDA device by number (cargo feature `cuda`).
    Cuda(usize),
}

impl Device {
    /// Chunks that it can compute side by side: one for each thread of a processor.
    pub(crate) fn most_abreast(self) -> usize {
        match self {
            Self::Cpu | Self::NdArray => rayon::current_num_threads(),
            Self::Cuda(_) => 1,
        }
    }
}

impl FromStr for Device {
    type Err = SliError;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "ndarray" => Ok(Self::NdArray),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| unknown_device(text)),
            _ => Err(unknown_device(text)),
        }
    }
}

fn unknown_device(text: &str) -> SliError {
    SliError::Usage(format!("'{text}' is no device: use cpu, ndarray, cuda or cuda:N"))
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::NdArray => f.write_str("ndarray"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// A choice among names, with the names for messages and help.
macro_rules! named_choice {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// The names of all choices.
            pub const NAMES: &'static [&'static str] = &[$($text),+];
        }

        impl FromStr for $name {
            type Err = SliError;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(SliError::Usage(format!("'{text}' is no {}: use {}", $what, Self::NAMES.join(", ")))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }
    };
}

named_choice! {
    /// The arithmetic of the matrix products; everything else is f32 always.
    ComputeDtype, "compute dtype" {
        /// bf16 when the weights are stored so (or narrower), f32 otherwise.
        #[default]
        Auto = "auto",
        /// Inputs stay f32.
        F32 = "f32",
        /// Inputs are rounded to bf16, sums are f32.
        Bf16 = "bf16",
    }
}

named_choice! {
    /// How hidden states are written.
    HiddenDtype, "hidden dtype" {
        /// Exactly.
        #[default]
        F32 = "f32",
        /// Rounded to IEEE half precision.
        F16 = "f16",
        /// Rounded to bfloat16.
        Bf16 = "bf16",
    }
}

named_choice! {
    /// What becomes of a sample's hidden states.
    Pooling, "pooling" {
        /// A row per token.
        #[default]
        None = "none",
        /// The mean over the sample's tokens.
        Mean = "mean",
        /// The last token's row.
        Last = "last",
        /// The first token's row.
        Cls = "cls",
    }
}

named_choice! {
    /// Where activations wait between layers.
    Placement, "place for activations" {
        /// In memory when they fit.
        #[default]
        Auto = "auto",
        /// In memory.
        Memory = "memory",
        /// On disk.
        Disk = "disk",
    }
}

/// Which hidden states are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HiddenStates {
    /// None.
    None,
    /// After the final norm.
    #[default]
    Final,
    /// The embedding, every layer, and after the final norm.
    All,
    /// Some layers, counted from zero, negative ones from the end.
    Layers(Vec<RangeInclusive<i64>>),
}

impl HiddenStates {
    /// Is the output of `layer`, one of `num_layers`, kept?
    pub fn keeps_layer(&self, layer: usize, num_layers: usize) -> bool {
        match self {
            Self::None | Self::Final => false,
            Self::All => true,
            Self::Layers(ranges) => {
                let from_end = |index: i64| if index < 0 { index + num_layers as i64 } else { index };
                ranges.iter().any(|r| (from_end(*r.start())..=from_end(*r.end())).contains(&(layer as i64)))
            }
        }
    }

    /// Is the output of the embedding kept?
    pub fn keeps_embedding(&self) -> bool {
        *self == Self::All
    }

    /// Is the hidden state after the final norm kept?
    pub fn keeps_final(&self) -> bool {
        matches!(self, Self::Final | Self::All)
    }

    /// Checks that every layer named exists.
    ///
    /// # Errors
    /// `Usage`, naming the first that does not.
    pub fn check(&self, num_layers: usize) -> Result<()> {
        let Self::Layers(ranges) = self else { return Ok(()) };
        let count = num_layers as i64;
        match ranges
            .iter()
            .flat_map(|r| [*r.start(), *r.end()])
            .find(|index| *index >= count || *index < -count)
        {
            Some(index) => Err(SliError::Usage(format!(
                "--hidden-states: there is no layer {index}, the model has layers 0 to {}",
                count - 1
            ))),
            None => Ok(()),
        }
    }
}

impl FromStr for HiddenStates {
    type Err = SliError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => return Ok(Self::None),
            "final" => return Ok(Self::Final),
            "all" => return Ok(Self::All),
            _ => {}
        }
        let range = |part: &str| {
            let number = |text: &str| text.trim().parse::<i64>().ok();
            match part.split_once("..") {
                Some((start, end)) => Some(number(start)?..=number(end)?),
                None => number(part).map(|layer| layer..=layer),
            }
        };
        let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
        ranges.map(Self::Layers).ok_or_else(|| {
            SliError::Usage(format!(
                "'{text}' names no layers: use none, final, all, or a list like 0,5,-1,10..20"
            ))
        })
    }
}

impl fmt::Display for HiddenStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Final => f.write_str("final"),
            Self::All => f.write_str("all"),
            Self::Layers(ranges) => {
                let parts: Vec<_> = ranges
                    .iter()
                    .map(|r| match (r.start(), r.end()) {
                        (start, end) if start == end => start.to_string(),
                        (start, end) => format!("{start}..{end}"),
                    })
                    .collect();
                f.write_str(&parts.join(","))
            }
        }
    }
}

/// Which logits are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Logits {
    /// None.
    #[default]
    None,
    /// The largest K of each token, with the log-sum-exp over all.
    Top(usize),
    /// All of them.
    Full,
}

impl FromStr for Logits {
    type Err = SliError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::None),
            "full" => Ok(Self::Full),
            _ => match text.strip_prefix("top:").and_then(|k| k.parse().ok()) {
                Some(k) if k > 0 => Ok(Self::Top(k)),
                _ => Err(SliError::Usage(format!("'{text}' names no logits: use none, full or top:K"))),
            },
        }
    }
}

impl fmt::Display for Logits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Top(k) => write!(f, "top:{k}"),
            Self::Full => f.write_str("full"),
        }
    }
}

/// A request to stop, which a signal handler or another thread can make. The run commits what is done and ends.
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// Asks the run to stop at the next chunk.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Was that asked?
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What a run is to do and to leave. The defaults are those of the command line.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// At most this many samples per forward step; by default the plan chooses by tokens.
    pub batch_size: Option<usize>,
    /// Ceiling on the process's resident memory; by default 80 % of what is available.
    pub memory: Option<ByteSize>,
    /// Arithmetic of the matrix products.
    pub dtype: ComputeDtype,
    /// Which hidden states to keep.
    pub hidden_states: HiddenStates,
    /// How to write them; by default in the dtype of the run.
    pub hidden_dtype: Option<HiddenDtype>,
    /// One vector per sample in place of one per token.
    pub pool: Pooling,
    /// Which logits to keep.
    pub logits: Logits,
    /// Log-likelihoods of the tokens.
    pub score: bool,
    /// Activation statistics per layer.
    pub stats: bool,
    /// Longer samples are cut; by default at the model's own limit.
    pub max_length: Option<usize>,
    /// Layers read ahead; by default the plan chooses.
    pub prefetch: Option<usize>,
    /// Read and run layers in two parts, the mixer and then the feed-forward network, which takes half the memory; by
    /// default where layers are large.
    pub layers_in_parts: Option<bool>,
    /// Where activations wait between layers.
    pub activations: Placement,
    /// Ignore an unfinished run in the output directory.
    pub fresh: bool,
    /// Skip bad records and count them.
    pub skip_bad: bool,
    /// Refuse configs with keys that nobody understands.
    pub strict: bool,
    /// How much work a crash may cost when activations are in memory, or 20 times what saving them took the last time, if that
    /// is more; zero saves them after every stage. On disk, chunks are committed anyway.
    pub commit_interval: Duration,
    /// A way to stop the run.
    pub cancel: CancelToken,
    /// Who is told what is happening.
    pub observer: Arc<dyn Observer>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            batch_size: None,
            memory: None,
            dtype: ComputeDtype::default(),
            hidden_states: HiddenStates::default(),
            hidden_dtype: None,
            pool: Pooling::default(),
            logits: Logits::default(),
            score: false,
            stats: true,
            max_length: None,
            prefetch: None,
            layers_in_parts: None,
            activations: Placement::default(),
            fresh: false,
            skip_bad: false,
            strict: false,
            commit_interval: Duration::from_secs(30),
            cancel: CancelToken::default(),
            observer: Arc::new(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_lists_are_read_and_written() {
        let list: HiddenStates = "0,5,-1,10..20".parse().unwrap();
        assert_eq!(list.to_string(), "0,5,-1,10..20");
        let kept: Vec<_> = (0..32).filter(|layer| list.keeps_layer(*layer, 32)).collect();
        assert_eq!(kept, [0, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 31]);
        assert!(list.check(32).is_ok() && list.check(20).is_err());
        for bad in ["", "first", "1..", "1,,2", "1-3"] {
            assert!(bad.parse::<HiddenStates>().is_err(), "{bad}");
        }
    }

    #[test]
    fn logits_and_devices_are_read_and_written() {
        for text in ["none", "full", "top:20"] {
            assert_eq!(text.parse::<Logits>().unwrap().to_string(), text);
        }
        assert!("top:0".parse::<Logits>().is_err());
        assert_eq!("cuda:1".parse::<Device>().unwrap(), Device::Cuda(1));
        assert!("cuda:x".parse::<Device>().is_err() && "gpu".parse::<Device>().is_err());
    }
}

//! What can go wrong, with the values that a person needs to mend it.

use std::path::PathBuf;

use crate::size::ByteSize;

/// The result of everything in these crates that can fail.
pub type Result<T, E = SliError> = std::result::Result<T, E>;

/// An error of Sequential Layer Ingestion. [`SliError::hint`] says what to do about it where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SliError {
    /// No architecture in the registry answers to what config.json names.
    #[error("unsupported architecture: model_type '{model_type}'{}", in_brackets(.architectures))]
    UnsupportedArchitecture {
        /// `model_type` of config.json, empty when it has none.
        model_type: String,
        /// `architectures` of config.json.
        architectures: Vec<String>,
        /// Names in the registry that look alike, nearest first.
        near: Vec<String>,
    },
    /// config.json (or tokenizer.json, or an index) says something that cannot be used.
    #[error("{}: {message}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A checkpoint does not hold what the model needs.
    #[error(transparent)]
    WeightLoading(#[from] WeightError),
    /// A layer could not be built from its spec and weights.
    #[error("cannot build layer {layer}: {message}")]
    LayerCreation {
        /// Index of the layer in its stack.
        layer: usize,
        /// Why.
        message: String,
    },
    /// A mixture of experts that makes no sense (more experts per token than experts, and the like).
    #[error("mixture of experts: {message}")]
    MoeConfiguration {
        /// What does not fit together.
        message: String,
    },
    /// A record of the dataset cannot be used.
    #[error("{source_name}, line {line}: {message}")]
    Record {
        /// The dataset's file name, or `standard input`.
        source_name: String,
        /// The line (or, in a JSON array, the element), counted from one.
        line: usize,
        /// What is wrong with the record.
        message: String,
    },
    /// The dataset as a whole cannot be used.
    #[error("dataset {source_name}: {message}")]
    Dataset {
        /// The dataset's file name, or `standard input`.
        source_name: String,
        /// What is wrong with it.
        message: String,
    },
    /// The work does not fit into the memory that the user allows.
    #[error("--memory {limit} is too small: this run needs at least {needed} ({detail})")]
    Memory {
        /// The user's number.
        limit: ByteSize,
        /// The least that works.
        needed: ByteSize,
        /// The largest parts of it.
        detail: String,
    },
    /// An unfinished run lies in the output directory, and it is not the one asked for.
    #[error("{} holds an unfinished run of something else: {}", .path.display(), .differences.join("; "))]
    OtherRun {
        /// The output directory.
        path: PathBuf,
        /// One phrase per differing property: `dtype was f32, is bf16`.
        differences: Vec<String>,
    },
    /// An option or argument is wrong; found before any work is done.
    #[error("{0}")]
    Usage(String),
    /// The user interrupted the run; what is done is kept.
    #[error("interrupted after {done}")]
    Interrupted {
        /// Where the run stands: `layer 3 of 32, chunk 5 of 9`.
        done: String,
    },
    /// The device asked for cannot be used.
    #[error("device {device}: {message}")]
    Device {
        /// The device's name as on the command line.
        device: String,
        /// Why not.
        message: String,
    },
    /// Reading or writing a file failed.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was tried, as in `cannot read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightError {
    /// No weight file lies where one was expected.
    #[error("no weights in {}: expected model.safetensors or model.safetensors.index.json", .path.display())]
    NoWeights {
        /// The directory searched.
        path: PathBuf,
    },
    /// A tensor that the model needs is in no file.
    #[error("tensor '{name}' is missing{}", needed_for(.wanted_for))]
    Missing {
        /// The name first looked for.
        name: String,
        /// What it is needed for, as in `layer 3, AttnQ weight`.
        wanted_for: String,
    },
    /// Tensors that the model does not use and that are not known to be harmless.
    #[error("{} tensor(s) are not used by this architecture: {}", .names.len(), shortened(.names))]
    Surplus {
        /// Their names.
        names: Vec<String>,
    },
    /// A tensor has another shape than the config says.
    #[error("tensor '{name}' has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that the config implies.
        expected: Vec<usize>,
    },
    /// A tensor has a dtype that cannot be used in its place.
    #[error("tensor '{name}' has dtype {dtype}, which cannot be used here")]
    Dtype {
        /// The tensor.
        name: String,
        /// The dtype in the file.
        dtype: String,
    },
    /// A file's header or index does not describe the file.
    #[error("{}: {message}", .path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// A file ends before its tensors do.
    #[error("{} is truncated: {found} bytes, its header needs {expected}", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length that its header implies.
        expected: u64,
    },
    /// A model named by hub id cannot be had.
    #[error("model '{id}': {message}")]
    Hub {
        /// The id.
        id: String,
        /// Why.
        message: String,
    },
}

impl SliError {
    /// An I/O error with what was tried and on which path.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What a user can do about this error, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnsupportedArchitecture { near, .. } if !near.is_empty() => {
                Some(format!("names that look alike: {}; `sli-cli families` lists all", near.join(", ")))
            }
            Self::UnsupportedArchitecture { .. } => Some("`sli-cli families` lists what is supported".into()),
            Self::Record { .. } => Some("--skip-bad counts and skips records like this".into()),
            Self::Memory { needed, .. } => Some(format!("try --memory {needed}")),
            Self::OtherRun { .. } => {
                Some("choose another --output, or discard the unfinished run with --fresh".into())
            }
            Self::WeightLoading(WeightError::Truncated { .. }) => {
                Some("the download or copy of this file did not finish: fetch it again".into())
            }
            Self::WeightLoading(WeightError::Shape { .. } | WeightError::Missing { .. }) => {
                Some("do config.json and the weights belong to the same model?".into())
            }
            _ => None,
        }
    }
}

fn in_brackets(architectures: &[String]) -> String {
    if architectures.is_empty() { String::new() } else { format!(" ({})", architectures.join(", ")) }
}

fn needed_for(wanted_for: &str) -> String {
    if wanted_for.is_empty() { String::new() } else { format!(" ({wanted_for})") }
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(", and {} more", names.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_errors_carry_both_shapes() {
        let error = SliError::from(WeightError::Shape {
            name: "model.layers.3.mlp.up_proj.weight".into(),
            found: vec![11008, 4096],
            expected: vec![14336, 4096],
        });
        assert_eq!(
            error.to_string(),
            "tensor 'model.layers.3.mlp.up_proj.weight' has shape [11008, 4096], expected [14336, 4096]"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn long_lists_are_shortened() {
        let names = (0..7).map(|i| format!("t{i}")).collect();
        let text = WeightError::Surplus { names }.to_string();
        assert_eq!(
            text,
            "7 tensor(s) are not used by this architecture: 't0', 't1', 't2', 't3', 't4', and 2 more"
        );
    }
}

//! A model, opened: its config understood, its weights found and checked, none of them read.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use sli_core::{Dtype, Family, ModelSpec, Result, SliError, StackKind, WeightFormat};
use sli_moe::{MoeHandler, MoeSummary};
use sli_registry::{ArchitectureRegistry, HfConfig};
use sli_weights::{Layout, UniversalWeightLoader};

/// What can be said of a model without reading its weights.
#[derive(Clone, Debug, Serialize)]
pub struct ModelSummary {
    /// The model as it was named.
    pub model: String,
    /// The registry's name of its architecture.
    pub architecture: String,
    /// Its family.
    pub family: Family,
    /// Layers of all stacks.
    pub num_layers: usize,
    /// Width of the (last stack's) hidden state.
    pub hidden_size: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Where positions end, if they do.
    pub max_length: Option<usize>,
    /// Elements of all weights.
    pub parameters: u64,
    /// Bytes of all weights.
    pub weight_bytes: u64,
    /// How most weight bytes are stored.
    pub weight_dtype: WeightFormat,
    /// About the experts, where there are any.
    pub moe: Option<MoeSummary>,
}

/// A model whose every needed tensor was found in the right shape.
#[derive(Debug)]
pub(crate) struct OpenModel {
    pub(crate) summary: ModelSummary,
    pub(crate) directory: PathBuf,
    pub(crate) spec: ModelSpec,
    pub(crate) layout: Arc<Layout>,
    pub(crate) unread_keys: Vec<String>,
    /// Hashes of the config and of what the checkpoint's headers say.
    pub(crate) config_hash: u64,
    pub(crate) weights_hash: u64,
}

impl OpenModel {
    pub(crate) fn open(
        model: &str,
        registry: &ArchitectureRegistry,
        loader: &UniversalWeightLoader,
    ) -> Result<Self> {
        let config_path = loader.config_path();
        let text = std::fs::read_to_string(&config_path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => SliError::Config {
                path: config_path.clone(),
                message: "there is no config.json: MODEL is a directory with config.json and weights".into(),
            },
            _ => SliError::io("cannot read", &config_path)(source),
        })?;
        let resolved = registry.resolve(&HfConfig::parse(&text, &config_path)?)?;
        let moe = MoeHandler::from_spec(&resolved.spec)?;
        let checkpoint = loader.checkpoint()?;
        let layout = Layout::new(&checkpoint, &resolved.spec, &resolved.weights)?;

        let mut bytes_by_format: Vec<(WeightFormat, u64)> = Vec::new();
        let (mut parameters, mut weights_hash) = (0, DefaultHasher::new());
        let mut seen = HashSet::new();
        let places = layout.places();
        let groups = places.iter().flat_map(|place| layout.groups(*place).map(move |group| (*place, group)));
        for slot in groups.flat_map(|(place, group)| layout.slots(place, group)) {
            // Tied and fused tensors are needed several times and stored once.
            if !seen.insert(&slot.stored.name) {
                continue;
            }
            let weights = slot.stored_weights() as u64;
            parameters += weights;
            (&slot.stored.name, &slot.stored.shape, &slot.stored.range).hash(&mut weights_hash);
            let (format, bytes) = (slot.format(), weights * slot.format().bits() / 8);
            match bytes_by_format.iter_mut().find(|(other, _)| *other == format) {
                Some((_, sum)) => *sum += bytes,
                None => bytes_by_format.push((format, bytes)),
            }
        }
        for file in checkpoint.files() {
            (file.path().file_name(), file.length()).hash(&mut weights_hash);
        }
        let mut config_hash = DefaultHasher::new();
        text.hash(&mut config_hash);

        let spec = resolved.spec;
        let last = spec.stacks.last().ok_or_else(|| SliError::Usage("the model has no layers".into()))?;
        let summary = ModelSummary {
            model: model.into(),
            architecture: spec.architecture.clone(),
            family: spec.family,
            num_layers: spec.num_layers(),
            hidden_size: last.hidden_size,
            vocab_size: spec.stacks[0].embedding.vocab_size,
            max_length: spec.max_length,
            parameters,
            weight_bytes: layout.total_bytes(),
            weight_dtype: bytes_by_format
                .iter()
                .max_by_key(|(_, bytes)| *bytes)
                .map_or(WeightFormat::Plain(Dtype::F32), |(format, _)| *format),
            moe: moe.map(|moe| moe.summary()),
        };
        Ok(Self {
            summary,
            directory: loader.directory().into(),
            spec,
            layout: Arc::new(layout),
            unread_keys: resolved.unread,
            config_hash: config_hash.finish(),
            weights_hash: weights_hash.finish(),
        })
    }

    /// Does a score of each token given those before it mean something?
    pub(crate) fn can_score(&self) -> bool {
        self.spec.head.is_some()
            && self.spec.stacks.last().is_some_and(|stack| stack.kind == StackKind::Decoder)
    }
}

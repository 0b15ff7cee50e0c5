//! Where each weight lies in a checkpoint, and how its layout is undone.
//!
//! Every quirk of a released checkpoint is told here, once, by a small map per architecture: past the loader there is
//! one weight orientation ([out, in]), one RoPE pairing (rotate-half), one meaning of a norm's weight.
//!
//! A name pattern may hold `{prefix}` (one of [`WeightMap::prefixes`], whichever the checkpoint uses), `{layer}` and
//! `{expert}` (of roles of which there are several alike, the index: an expert or a head), and `{sublayer}` where a layer
//! does the same twice.

use crate::load_op::LoadOp;
use crate::role::{Part, TensorKey, TensorRole};

/// How long a tensor stays in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// While its layer runs.
    PerLayer,
    /// From its first use to the end, because several layers share it.
    Pinned,
}

/// Where one tensor comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightSource {
    /// Names to look for; the first that the checkpoint has is taken.
    pub names: Vec<String>,
    /// Tensors whose rows follow those of the named one, before any step: several that are stored apart are one.
    pub rest: Vec<String>,
    /// Steps from the stored tensor, first to last.
    pub ops: Vec<LoadOp>,
    /// How long it stays.
    pub residency: Residency,
}

impl WeightSource {
    fn new(names: &[&str], ops: &[LoadOp]) -> Self {
        let names = names.iter().map(|name| (*name).to_string()).collect();
        Self { names, rest: Vec::new(), ops: ops.to_vec(), residency: Residency::PerLayer }
    }

    /// The shape that must be stored for `shape` to come out of all steps.
    pub fn stored_shape(&self, shape: &[usize]) -> Vec<usize> {
        self.ops.iter().rev().fold(shape.to_vec(), |shape, op| op.stored_shape(shape))
    }
}

/// Where in the model a tensor is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// The embedding of a stack.
    Embedding {
        /// Index of the stack.
        stack: usize,
    },
    /// A layer of a stack.
    Layer {
        /// Index of the stack.
        stack: usize,
        /// Index within the stack.
        layer: usize,
    },
    /// The final norm of a stack.
    FinalNorm {
        /// Index of the stack.
        stack: usize,
    },
    /// The head.
    Head,
}

impl Place {
    fn stack(self) -> Option<usize> {
        match self {
            Self::Embedding { stack } | Self::Layer { stack, .. } | Self::FinalNorm { stack } => Some(stack),
            Self::Head => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedding { stack } => write!(f, "embedding of stack {stack}"),
            Self::Layer { stack: 0, layer } => write!(f, "layer {layer}"),
            Self::Layer { stack, layer } => write!(f, "layer {layer} of stack {stack}"),
            Self::FinalNorm { stack } => write!(f, "final norm of stack {stack}"),
            Self::Head => f.write_str("head"),
        }
    }
}

/// The map of an architecture: one [`StackMap`] per stack, one for the head, and what may lie about unused.
#[derive(Clone, Debug, Default)]
pub struct WeightMap {
    /// What `{prefix}` may stand for; the first that the checkpoint uses everywhere is taken. Empty: nothing.
    pub prefixes: Vec<&'static str>,
    /// Endings of tensor names that mean another ending, as in (`.LayerNorm.gamma`, `.LayerNorm.weight`).
    pub renamed_endings: Vec<(&'static str, &'static str)>,
    /// Rows and columns of the blocks that share a scale, in checkpoints with 8-bit floats.
    pub fp8_block: Option<[usize; 2]>,
    /// Sources by stack.
    pub stacks: Vec<StackMap>,
    /// Sources of the head.
    pub head: StackMap,
    /// Names that are known and not needed: buffers, poolers, unused heads. `{layer}` stands for any number; a
    /// trailing `*` for anything.
    pub ignored: Vec<String>,
}

/// From roles to sources, within one stack. Roles of experts are given once, for expert 0.
#[derive(Clone, Debug, Default)]
pub struct StackMap {
    entries: Vec<(TensorKey, WeightSource)>,
    /// What placeholders stand for in each layer, `{layer}` among them where it is not the index.
    layer_names: Vec<(&'static str, Vec<String>)>,
}

impl StackMap {
    /// Maps a role to a module that stores `NAME.weight` and perhaps `NAME.bias`.
    pub fn module(&mut self, role: TensorRole, name: &str) -> &mut Self {
        self.module_with(role, name, &[])
    }

    /// The same, with steps that are applied to weight and bias alike.
    pub fn module_with(&mut self, role: TensorRole, name: &str, ops: &[LoadOp]) -> &mut Self {
        self.tensor(role.weight(), &[&format!("{name}.weight")], ops);
        // A bias has no second dimension to turn or to drop.
        let of_rows: Vec<_> = ops
            .iter()
            .copied()
            .filter(|op| !matches!(op, LoadOp::Transpose | LoadOp::DropAxis(_) | LoadOp::JoinLast { .. }))
            .collect();
        self.tensor(role.bias(), &[&format!("{name}.bias")], &of_rows)
    }

    /// Maps one tensor to the first of `names` that the checkpoint has. A later call for the same tensor replaces
    /// an earlier one, so that an architecture can state its differences from a base.
    pub fn tensor(&mut self, key: TensorKey, names: &[&str], ops: &[LoadOp]) -> &mut Self {
        self.insert(key, WeightSource::new(names, ops))
    }

    /// Maps one tensor to steps from several that are stored apart, joined row after row.
    pub fn joined(&mut self, key: TensorKey, names: &[&str], ops: &[LoadOp]) -> &mut Self {
        let (first, rest) = names.split_at(names.len().min(1));
        let rest = rest.iter().map(|name| (*name).to_string()).collect();
        self.insert(key, WeightSource { rest, ..WeightSource::new(first, ops) })
    }

    /// Maps one tensor that several layers share: it is read once and kept.
    pub fn pinned(&mut self, key: TensorKey, name: &str) -> &mut Self {
        self.insert(key, WeightSource { residency: Residency::Pinned, ..WeightSource::new(&[name], &[]) })
    }

    /// Adds a name to look for to those of a tensor that is mapped.
    pub fn or(&mut self, key: TensorKey, name: &str) -> &mut Self {
        for (_, source) in self.entries.iter_mut().filter(|(k, _)| *k == key) {
            source.names.push(name.into());
        }
        self
    }

    /// Adds a step to those of a tensor that is mapped.
    pub fn then(&mut self, key: TensorKey, op: LoadOp) -> &mut Self {
        for (_, source) in self.entries.iter_mut().filter(|(k, _)| *k == key) {
            source.ops.push(op);
        }
        self
    }

    /// Says what `{layer}` stands for in each layer, where some share their weights: these are read once and kept.
    pub fn share_layers(&mut self, names: Vec<String>) -> &mut Self {
        self.pin("{layer}").name_layers("{layer}", names)
    }

    /// Says what a further placeholder stands for in each layer; in layers past the last of the names it stays.
    pub fn name_layers(&mut self, placeholder: &'static str, names: Vec<String>) -> &mut Self {
        self.layer_names.push((placeholder, names));
        self
    }

    /// Reads once and keeps what has this in its name, since several layers share it.
    pub fn pin(&mut self, part: &str) -> &mut Self {
        for (_, source) in &mut self.entries {
            if source.names.iter().any(|name| name.contains(part)) {
                source.residency = Residency::Pinned;
            }
        }
        self
    }

    fn insert(&mut self, key: TensorKey, source: WeightSource) -> &mut Self {
        self.entries.retain(|(k, _)| *k != key);
        self.entries.push((key, source));
        self
    }

    fn find(&self, key: TensorKey) -> Option<&WeightSource> {
        let key = TensorKey { role: key.role.first_alike(), ..key.in_sublayer(0) };
        self.entries.iter().find(|(k, _)| *k == key).map(|(_, source)| source)
    }
}

impl WeightMap {
    /// The source of a tensor at a place, with `{layer}` and `{expert}` filled in and `{prefix}` replaced by
    /// `prefix`. `None` when the architecture does not say where it lies.
    pub fn source(&self, place: Place, key: TensorKey, prefix: &str) -> Option<WeightSource> {
        let map = place.stack().map_or(Some(&self.head), |stack| self.stacks.get(stack))?;
        let mut source = map.find(key)?.clone();
        for name in source.names.iter_mut().chain(&mut source.rest) {
            *name = name.replace("{prefix}", prefix);
            if let Place::Layer { layer, .. } = place {
                for (placeholder, names) in &map.layer_names {
                    if let Some(stands_for) = names.get(layer) {
                        *name = name.replace(placeholder, stands_for);
                    }
                }
                *name = name.replace("{layer}", &layer.to_string());
            }
            *name = name.replace("{sublayer}", &key.sublayer.to_string());
            if let Some(index) = key.role.index() {
                *name = name.replace("{expert}", &index.to_string());
            }
        }
        Some(source)
    }

    /// The name that a stored name means, after [`WeightMap::renamed_endings`].
    pub fn meant_name(&self, stored: &str) -> String {
        for (from, to) in &self.renamed_endings {
            if let Some(stem) = stored.strip_suffix(from) {
                return format!("{stem}{to}");
            }
        }
        stored.to_string()
    }

    /// Is a tensor of this name known to be of no use here?
    pub fn is_ignored(&self, name: &str, prefix: &str) -> bool {
        self.ignored.iter().any(|pattern| matches_pattern(&pattern.replace("{prefix}", prefix), name))
    }
}

/// Does `name` match, where `{layer}` stands for digits and a trailing `*` for anything?
fn matches_pattern(pattern: &str, name: &str) -> bool {
    if let Some((head, tail)) = pattern.split_once("{layer}") {
        let Some(rest) = name.strip_prefix(head) else { return false };
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        return digits > 0 && matches_pattern(tail, &rest[digits..]);
    }
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Is this key a bias? Loaders treat a missing bias like any other missing tensor: the spec says whether it exists.
impl TensorKey {
    /// Is it the bias of its role?
    pub fn is_bias(self) -> bool {
        self.part == Part::Bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> WeightMap {
        let mut map = WeightMap { prefixes: vec!["transformer.", ""], ..WeightMap::default() };
        let mut stack = StackMap::default();
        stack
            .module_with(
                TensorRole::AttnK,
                "{prefix}h.{layer}.attn.c_attn",
                &[LoadOp::Transpose, LoadOp::TakeRows { groups: 1, block: 96, start: 32 }],
            )
            .module(TensorRole::ExpertUp(0), "{prefix}h.{layer}.experts.{expert}.up");
        map.stacks.push(stack);
        map.ignored = vec!["{prefix}h.{layer}.attn.masked_bias".into(), "vision.*".into()];
        map
    }

    #[test]
    fn names_are_filled_in() {
        let place = Place::Layer { stack: 0, layer: 7 };
        let source = map().source(place, TensorRole::ExpertUp(3).weight(), "transformer.").unwrap();
        assert_eq!(source.names, ["transformer.h.7.experts.3.up.weight"]);
        assert!(map().source(place, TensorRole::AttnQ.weight(), "").is_none());
    }

    #[test]
    fn stored_shapes_are_the_ops_undone() {
        let place = Place::Layer { stack: 0, layer: 0 };
        let weight = map().source(place, TensorRole::AttnK.weight(), "").unwrap();
        assert_eq!(weight.stored_shape(&[32, 32]), [32, 96]);
        let bias = map().source(place, TensorRole::AttnK.bias(), "").unwrap();
        assert_eq!(bias.stored_shape(&[32]), [96]);
        assert_eq!(LoadOp::SelectExpert { count: 4 }.stored_shape(vec![48, 32]), [4, 48, 32]);
        assert_eq!(LoadOp::DropAxis(1).stored_shape(vec![64, 4]), [64, 1, 4]);
        assert_eq!(LoadOp::JoinLast { size: 3 }.stored_shape(vec![64, 96]), [64, 32, 3]);
    }

    #[test]
    fn layers_that_share_their_weights_have_one_name_and_keep_them() {
        let mut map = map();
        map.stacks[0].module(TensorRole::TokenEmbedding, "wte").share_layers(vec!["0".into(), "0".into()]);
        let source = |place, role: TensorRole| map.source(place, role.weight(), "").unwrap();
        for (layer, name) in [(0, "0"), (1, "0"), (2, "2")] {
            let source = source(Place::Layer { stack: 0, layer }, TensorRole::AttnK);
            assert_eq!(source.names, [format!("h.{name}.attn.c_attn.weight")]);
            assert_eq!(source.residency, Residency::Pinned);
        }
        let embedding = source(Place::Embedding { stack: 0 }, TensorRole::TokenEmbedding);
        assert_eq!(embedding.residency, Residency::PerLayer);
    }

    #[test]
    fn a_step_that_is_added_comes_last() {
        let mut map = map();
        map.stacks[0]
            .then(TensorRole::AttnK.weight(), LoadOp::Ternary)
            .then(TensorRole::AttnQ.weight(), LoadOp::AddOne);
        let place = Place::Layer { stack: 0, layer: 0 };
        let source = map.source(place, TensorRole::AttnK.weight(), "").unwrap();
        assert_eq!((source.ops.len(), source.ops[2]), (3, LoadOp::Ternary));
        assert!(map.source(place, TensorRole::AttnQ.weight(), "").is_none());
    }

    #[test]
    fn ignored_names_are_exact_but_for_layers_and_a_trailing_star() {
        let map = map();
        assert!(map.is_ignored("transformer.h.12.attn.masked_bias", "transformer."));
        assert!(map.is_ignored("vision.blocks.0.weight", ""));
        assert!(!map.is_ignored("transformer.h.x.attn.masked_bias", "transformer."));
        assert!(!map.is_ignored("transformer.h.12.attn.masked_bias.extra", "transformer."));
    }
}

//! What the registry knows of an architecture.

use serde::Serialize;
use sli_core::{Family, ModelSpec, Result, WeightMap};

use crate::check::check;
use crate::config::HfConfig;
use crate::quantization::fp8_block;
use crate::ternary::make_ternary;

/// An architecture: the names by which configs call it, and how such a config becomes a spec.
#[derive(Clone, Copy, Debug)]
pub struct Architecture {
    /// A short name, unique in a registry.
    pub name: &'static str,
    /// Which family it belongs to.
    pub family: Family,
    /// What configs say as `model_type`.
    pub model_types: &'static [&'static str],
    /// What configs say in `architectures`, the classes with a head first.
    pub architectures: &'static [&'static str],
    /// Released models.
    pub known_models: &'static [KnownModel],
    /// The mathematics. Need not fill in [`ModelSpec::architecture`] and [`ModelSpec::family`].
    pub spec: fn(&HfConfig) -> Result<ModelSpec>,
    /// Where the weights lie in a checkpoint of a model with this spec.
    pub weights: fn(&HfConfig, &ModelSpec) -> Result<WeightMap>,
}

/// A released model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct KnownModel {
    /// What people call it.
    pub name: &'static str,
    /// Its name on the hub, or that of an example.
    pub id: &'static str,
    /// What sets it apart.
    pub notes: &'static str,
}

impl KnownModel {
    /// A model by name, hub id and notes.
    pub const fn new(name: &'static str, id: &'static str, notes: &'static str) -> Self {
        Self { name, id, notes }
    }
}

impl Architecture {
    /// The spec of the model that `config` describes, with its sizes checked against each other, and its weights.
    ///
    /// # Errors
    /// When a key is missing or wrong, or when the sizes make no model.
    pub fn describe(&self, config: &HfConfig) -> Result<(ModelSpec, WeightMap)> {
        let mut spec = (self.spec)(config)?;
        spec.architecture = self.name.into();
        spec.family = self.family;
        check(&spec, config)?;
        let mut weights = (self.weights)(config, &spec)?;
        weights.fp8_block = fp8_block(config)?;
        make_ternary(&mut spec, &mut weights, config)?;
        Ok((spec, weights))
    }
}

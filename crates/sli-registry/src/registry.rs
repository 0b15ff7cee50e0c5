//! Finding the architecture of a config.

use std::path::Path;

use sli_core::{Family, ModelSpec, Result, SliError, WeightMap};

use crate::arch::ARCHITECTURES;
use crate::architecture::{Architecture, KnownModel};
use crate::config::HfConfig;
use crate::names;

/// The architectures that a program knows: the built-in ones and those that it registers.
///
/// ```
/// use sli_registry::{Architecture, ArchitectureRegistry, HfConfig};
///
/// // A Llama under another name, with one setting spelled differently.
/// let mut registry = ArchitectureRegistry::new();
/// let llama = *registry.get("llama").unwrap();
/// registry.register(Architecture {
///     name: "alpaca",
///     model_types: &["alpaca"],
///     architectures: &["AlpacaForCausalLM"],
///     known_models: &[],
///     ..llama
/// });
/// let config = HfConfig::parse(r#"{"model_type": "alpaca"}"#, "config.json")?;
/// assert_eq!(registry.detect(&config)?.name, "alpaca");
/// # Ok::<(), sli_core::SliError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ArchitectureRegistry {
    /// Those found first stand first.
    architectures: Vec<Architecture>,
}

impl Default for ArchitectureRegistry {
    fn default() -> Self {
        Self::new()
    }
}

/// A config whose architecture is known.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The architecture.
    pub architecture: Architecture,
    /// The mathematics of the model.
    pub spec: ModelSpec,
    /// Where its weights lie in a checkpoint.
    pub weights: WeightMap,
    /// Keys of the config that the architecture does not know and that may change results: see
    /// [`HfConfig::unread`].
    pub unread: Vec<String>,
}

impl ArchitectureRegistry {
    /// A registry with the built-in architectures.
    pub fn new() -> Self {
        Self { architectures: ARCHITECTURES.to_vec() }
    }

    /// Adds an architecture. Where names are the same, it is found before those that were there.
    pub fn register(&mut self, architecture: Architecture) -> &mut Self {
        self.architectures.insert(0, architecture);
        self
    }

    /// All architectures.
    pub fn architectures(&self) -> &[Architecture] {
        &self.architectures
    }

    /// The architecture of this name.
    pub fn get(&self, name: &str) -> Option<&Architecture> {
        self.architectures.iter().find(|architecture| architecture.name == name)
    }

    /// The families that have architectures here, in the order of the taxonomy.
    pub fn families(&self) -> Vec<Family> {
        let present = |family: &Family| self.architectures.iter().any(|a| a.family == *family);
        Family::ALL.into_iter().filter(present).collect()
    }

    /// The released models of a family.
    pub fn models(&self, family: Family) -> impl Iterator<Item = (&Architecture, &KnownModel)> {
        let of_family = self.architectures.iter().filter(move |architecture| architecture.family == family);
        of_family
            .flat_map(|architecture| architecture.known_models.iter().map(move |model| (architecture, model)))
    }

    /// The architecture that a config names: by its class where that is known, else by its model type.
    ///
    /// # Errors
    /// [`SliError::UnsupportedArchitecture`] when neither is known. So too when the model type is known and the class
    /// is of something else: remote code often borrows the model type of the model that it changes.
    pub fn detect(&self, config: &HfConfig) -> Result<&Architecture> {
        let class = config.architectures().first().copied();
        let by_class = class.and_then(|class| self.find(|a| a.architectures.contains(&class)));
        let by_model_type = || {
            let found = self.find(|a| a.model_types.contains(&config.model_type()))?;
            let is_of =
                |class| found.architectures.iter().any(|known| names::stem(known) == names::stem(class));
            class.is_none_or(is_of).then_some(found)
        };
        by_class.or_else(by_model_type).ok_or_else(|| self.unsupported(config))
    }

    /// The spec and the weights of the model that a config describes.
    ///
    /// # Errors
    /// When its architecture is unknown, or when a setting is missing, wrong or not supported.
    pub fn resolve(&self, config: &HfConfig) -> Result<Resolved> {
        let architecture = *self.detect(config)?;
        let (spec, weights) = architecture.describe(config)?;
        Ok(Resolved { architecture, spec, weights, unread: config.unread() })
    }

    /// The same for a config.json, or the one in a directory.
    ///
    /// # Errors
    /// As [`HfConfig::read`] and [`ArchitectureRegistry::resolve`].
    pub fn resolve_path(&self, path: impl AsRef<Path>) -> Result<Resolved> {
        self.resolve(&HfConfig::read(path)?)
    }

    fn find(&self, matches: impl Fn(&Architecture) -> bool) -> Option<&Architecture> {
        self.architectures.iter().find(|architecture| matches(architecture))
    }

    fn unsupported(&self, config: &HfConfig) -> SliError {
        let mut wanted = config.architectures();
        wanted.push(config.model_type());
        let known = self.architectures.iter().flat_map(|a| a.model_types.iter().chain(a.architectures));
        SliError::UnsupportedArchitecture {
            model_type: config.model_type().into(),
            architectures: config.architectures().into_iter().map(String::from).collect(),
            near: names::near(&wanted, known.copied()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn detect(config: Value) -> Result<&'static str> {
        let config = HfConfig::parse(&config.to_string(), "config.json")?;
        ArchitectureRegistry::new().detect(&config).map(|architecture| architecture.name)
    }

    #[test]
    fn class_first_then_model_type() {
        for (config, name) in [
            (json!({"architectures": ["MistralForCausalLM"], "model_type": "llama"}), "mistral"),
            (json!({"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"}), "llama"),
            (json!({"architectures": ["LLaMAForCausalLM"], "model_type": "llama"}), "llama"),
            (json!({"architectures": ["BertForQuestionAnswering"], "model_type": "bert"}), "bert"),
            (json!({"architectures": [], "model_type": "mamba"}), "mamba"),
            (json!({"architectures": null, "model_type": "mt5"}), "t5"),
            (json!({"architectures": ["T5EncoderModel"]}), "t5"),
        ] {
            assert_eq!(detect(config.clone()).unwrap(), name, "{config}");
        }
    }

    #[test]
    fn borrowed_model_types_are_refused() {
        let error =
            detect(json!({"architectures": ["FlashBertForMaskedLM"], "model_type": "bert"})).unwrap_err();
        assert!(matches!(error, SliError::UnsupportedArchitecture { .. }), "{error}");
    }

    #[test]
    fn unknown_names_bring_near_ones() {
        for config in [json!({}), json!({"model_type": 7, "architectures": "x"}), json!({"model_type": ""})] {
            let error = detect(config).unwrap_err();
            assert!(
                matches!(&error, SliError::UnsupportedArchitecture { near, .. } if near.is_empty()),
                "{error}"
            );
        }
        let error =
            detect(json!({"architectures": ["MistrealForCausalLM"], "model_type": "mistreal"})).unwrap_err();
        let SliError::UnsupportedArchitecture { near, model_type, .. } = &error else { panic!("{error}") };
        assert_eq!((near[0].as_str(), model_type.as_str()), ("mistral", "mistreal"));
    }

    #[test]
    fn what_is_registered_comes_first() {
        let mut registry = ArchitectureRegistry::default();
        let mine = Architecture { name: "mine", known_models: &[], ..*registry.get("llama").unwrap() };
        let config = HfConfig::parse(r#"{"model_type": "llama"}"#, "config.json").unwrap();
        assert_eq!(registry.detect(&config).unwrap().name, "llama");
        assert_eq!(registry.register(mine).detect(&config).unwrap().name, "mine");
    }

    #[test]
    fn names_are_unique() {
        let mut seen = std::collections::BTreeSet::new();
        for architecture in ARCHITECTURES {
            assert!(seen.insert(architecture.name), "{}", architecture.name);
            for name in architecture.architectures {
                assert!(seen.insert(name), "{name}");
            }
        }
        let mut model_types = std::collections::BTreeSet::new();
        assert!(ARCHITECTURES.iter().flat_map(|a| a.model_types).all(|name| model_types.insert(name)));
    }
}

//! What makes two runs the same run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that changes the results of a run, by name: the model's revision, hashes of config and dataset, options.
///
/// ```
/// use sli_cache::Fingerprint;
///
/// let before = Fingerprint::new().with("model", "tiny@abc").with("dtype", "f32");
/// let now = Fingerprint::new().with("model", "tiny@abc").with("dtype", "bf16").with("max_length", 512);
/// assert_eq!(before.differences(&now), ["dtype was f32, is bf16", "max_length was not set, is 512"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// One that says nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this property; a later value for the same name replaces an earlier one.
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.0.insert(name.into(), value.to_string());
        self
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All properties, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// One phrase per property that differs, where `self` is what was and `other` what is, in the order of names.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        let differing = names.into_iter().filter(|name| self.get(name) != other.get(name));
        let value = |of: &Self, name: &str| of.get(name).unwrap_or("not set").to_string();
        differing.map(|name| format!("{name} was {}, is {}", value(self, name), value(other, name))).collect()
    }
}

//! A config.json, read with types, that remembers which of its keys were read.
//!
//! A key that changes the mathematics and that nobody reads gives wrong numbers without a word. So every getter marks
//! its key, and [`HfConfig::unread`] names what is left when a spec has been made.

mod getters;
mod harmless;
mod json;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use sli_core::{Result, SliError};

pub use getters::{MAX_LAYERS, MAX_SIZE};
use json::parse_object;

/// A config.json, or one object inside it.
///
/// Getters take a key of this object, mark it as read, and treat `null` as absent. Sections and copies share what is
/// remembered with the whole.
#[derive(Clone, Debug)]
pub struct HfConfig {
    path: Arc<Path>,
    /// The whole document, as it was read.
    document: Arc<Map<String, Value>>,
    /// The object that getters look at: the document or a section of it, with defaults filled in.
    object: Map<String, Value>,
    /// Where that object lies in the document: empty, or a path that ends in a dot.
    section: String,
    read: Arc<Mutex<BTreeSet<String>>>,
}

impl HfConfig {
    /// Parses a config.json. `path` is for messages only.
    ///
    /// # Errors
    /// When the text is no JSON object. The bare words `Infinity`, `-Infinity` and `NaN`, which Python writes, are
    /// understood.
    pub fn parse(text: &str, path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let document =
            parse_object(text).map_err(|message| SliError::Config { path: path.clone(), message })?;
        Ok(Self {
            path: path.into(),
            object: document.clone(),
            document: Arc::new(document),
            section: String::new(),
            read: Arc::default(),
        })
    }

    /// Reads a config.json, or the one in a directory.
    ///
    /// # Errors
    /// When the file cannot be read or is no JSON object.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join("config.json") } else { path.to_path_buf() };
        let text = std::fs::read_to_string(&path).map_err(SliError::io("cannot read", &path))?;
        Self::parse(&text, path)
    }

    /// The file that this was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `model_type` of the whole document; empty when it has none.
    pub fn model_type(&self) -> &str {
        self.document.get("model_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// `architectures` of the whole document: the class names, usually one.
    pub fn architectures(&self) -> Vec<&str> {
        let names = self.document.get("architectures").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The same object, with `defaults` (a JSON object) for keys that it does not have. A key that is `null` stays
    /// `null`.
    pub fn with_defaults(&self, defaults: Value) -> Self {
        let mut config = self.clone();
        if let Value::Object(defaults) = defaults {
            for (key, value) in defaults {
                config.object.entry(key).or_insert(value);
            }
        }
        config
    }

    /// The same object with `values` (a JSON object) in place of its own, for settings that have another name or
    /// another meaning than where they are read.
    pub fn with(&self, values: Value) -> Self {
        let mut config = self.clone();
        if let Value::Object(mut values) = values {
            config.object.append(&mut values);
        }
        config
    }

    /// An object inside this one; `None` when it is absent.
    ///
    /// # Errors
    /// When the value is something else than an object.
    pub fn section(&self, key: &str) -> Result<Option<Self>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) => {
                let section = format!("{}{key}.", self.section);
                Ok(Some(Self { object: object.clone(), section, ..self.clone() }))
            }
            Some(value) => Err(self.unexpected(key, value, "an object")),
        }
    }

    /// The part that describes the language model: `text_config` of multimodal models, else this object.
    ///
    /// # Errors
    /// When `text_config` is no object.
    pub fn text(&self) -> Result<Self> {
        Ok(self.section("text_config")?.unwrap_or_else(|| self.clone()))
    }

    /// The first of `keys` that is there, else the first of all, for settings with several names. A further name with
    /// the same value counts as read.
    pub fn first_of<'k>(&self, keys: &[&'k str]) -> &'k str {
        let mut present = keys.iter().copied().filter(|key| self.has(key));
        let Some(first) = present.next() else { return keys[0] };
        for again in present.filter(|key| self.object[*key] == self.object[first]) {
            self.mark(again);
        }
        first
    }

    /// Is there a `null`, where that means something else than absence?
    pub fn is_null(&self, key: &str) -> bool {
        self.mark(key);
        self.object.get(key).is_some_and(Value::is_null)
    }

    /// Is there a value that is not `null`? Does not count as reading it.
    pub fn has(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(|value| !value.is_null())
    }

    /// Is the value a list? Does not count as reading it.
    pub fn is_list(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(Value::is_array)
    }

    /// Says that the architecture never uses these keys in inference, so that they are not reported as unread.
    /// A key inside an object is written with a dot: `rope_scaling.mrope_section`.
    pub fn ignore(&self, keys: &[&str]) {
        for key in keys {
            self.mark(key);
        }
    }

    /// The keys of the document that nobody has read, that are not `null`, and that are not known to be harmless,
    /// with dots between the names of nested ones, in the order of the file.
    pub fn unread(&self) -> Vec<String> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unread = Vec::new();
        collect_unread(&self.document, "", &read, &mut unread);
        unread
    }

    /// An error about `key` that says what its value is and what was `expected`.
    pub fn invalid(&self, key: &str, expected: &str) -> SliError {
        match self.object.get(key) {
            Some(value) => self.unexpected(key, value, expected),
            None => self.missing(key, expected),
        }
    }

    /// An error about this file.
    pub fn error(&self, message: impl Into<String>) -> SliError {
        SliError::Config { path: self.path.to_path_buf(), message: message.into() }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.mark(key);
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn mark(&self, key: &str) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.insert(format!("{}{key}", self.section));
    }

    fn missing(&self, key: &str, expected: &str) -> SliError {
        self.error(format!("'{}{key}' is missing, expected {expected}", self.section))
    }

    fn unexpected(&self, key: &str, value: &Value, expected: &str) -> SliError {
        self.error(format!("'{}{key}' is {}, expected {expected}", self.section, shortened(value)))
    }
}

fn shortened(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("...".chars()).collect()
}

/// Objects are looked into where somebody has read a key of theirs; others are named as a whole.
fn collect_unread(
    object: &Map<String, Value>,
    section: &str,
    read: &BTreeSet<String>,
    unread: &mut Vec<String>,
) {
    for (key, value) in object {
        let path = format!("{section}{key}");
        let inside = format!("{path}.");
        let opened = read.range(inside.clone()..).next().is_some_and(|next| next.starts_with(&inside));
        match value {
            Value::Object(object) if opened => collect_unread(object, &inside, read, unread),
            Value::Null => {}
            _ if read.contains(&path) || harmless::is_harmless(key, value) => {}
            _ => unread.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> HfConfig {
        HfConfig::parse(&value.to_string(), "config.json").unwrap()
    }

    #[test]
    fn what_nobody_reads_is_named() {
        let c = config(json!({
            "hidden_size": 8, "secret_scale": 2.0, "use_cache": true, "nothing": null,
            "rope_scaling": {"type": "linear", "factor": 2.0, "surprise": 1},
            "vision_config": {"hidden_size": 3}, "text_config": {"dtype": "float32", "other": false}
        }));
        c.usize("hidden_size").unwrap();
        let rope = c.section("rope_scaling").unwrap().unwrap();
        rope.str("type").unwrap();
        rope.f64("factor").unwrap();
        c.ignore(&["vision_config"]);
        c.text().unwrap().ignore(&["something"]);
        assert_eq!(c.unread(), ["secret_scale", "rope_scaling.surprise", "text_config.other"]);
    }

    #[test]
    fn aliases_with_one_value_are_read_together() {
        let c = config(json!({"n_layer": 3, "num_hidden_layers": 3, "n_embd": 8, "hidden_size": 9}));
        assert_eq!(c.usize(c.first_of(&["n_layer", "num_hidden_layers"])).unwrap(), 3);
        assert_eq!(c.usize(c.first_of(&["n_embd", "hidden_size"])).unwrap(), 8);
        assert_eq!(c.unread(), ["hidden_size"]);
        let error = c.usize(c.first_of(&["n_head", "heads"])).unwrap_err();
        assert!(error.to_string().contains("'n_head' is missing"), "{error}");
    }
}

//! Golden cases: tiny models and what transformers computes for them (xtask/golden/README.md).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::golden_weights::write_checkpoint;
use crate::tensors::{Values, read_file, read_folder};

/// A folder below tests/golden.
#[derive(Clone, Debug)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// meta.json.
    pub meta: Meta,
    folder: PathBuf,
}

/// What a case says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Meta {
    /// One of the twelve families.
    pub family: String,
    /// `model_type` of its config.
    pub model_type: String,
    /// The class that computed the expectation.
    pub architecture: String,
    /// No value may be off by more than this times the largest magnitude of its tensor.
    pub tolerance: f64,
}

/// How a config is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As transformers 5 writes it.
    Current,
    /// As released repositories carry it.
    Legacy,
}

impl Spelling {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Current, Self::Legacy];

    fn file(self) -> &'static str {
        match self {
            Self::Current => "config.json",
            Self::Legacy => "config_legacy.json",
        }
    }
}

/// All cases, by name.
///
/// # Panics
/// When the folder cannot be read.
pub fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let entries = std::fs::read_dir(&root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut folders: Vec<_> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.into_iter().map(Case::open).collect()
}

/// The case of this name.
///
/// # Panics
/// When there is none.
pub fn case(name: &str) -> Case {
    Case::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name))
}

impl Case {
    fn open(folder: PathBuf) -> Self {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let meta = serde_json::from_str(&read_text(&folder.join("meta.json")))
            .unwrap_or_else(|e| panic!("{}/meta.json: {e}", folder.display()));
        Self { name, meta, folder }
    }

    /// The config as text.
    pub fn config(&self, spelling: Spelling) -> String {
        read_text(&self.folder.join(spelling.file()))
    }

    /// A model directory with this config and with the weights that belong to the tensors' names.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn model(&self, spelling: Spelling) -> TempDir {
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("config.json"), self.config(spelling)).expect("config.json");
        write_checkpoint(dir.path(), &self.folder.join("tensors.json")).expect("weights");
        dir
    }

    /// The inputs as JSON records.
    pub fn records(&self) -> Vec<Value> {
        let expected = self.expected();
        let column = |name: &str, offsets: &str| {
            let (values, offsets) = (expected.get(name)?.indices(), expected[offsets].indices());
            Some(offsets.windows(2).map(|pair| values[pair[0]..pair[1]].to_vec()).collect::<Vec<_>>())
        };
        let columns: Vec<_> = [
            ("input_ids", "offsets"),
            ("token_type_ids", "offsets"),
            ("decoder_input_ids", "decoder_offsets"),
        ]
        .into_iter()
        .filter_map(|(name, offsets)| Some((name, column(name, offsets)?)))
        .collect();
        let samples = columns[0].1.len();
        (0..samples)
            .map(|i| {
                Value::Object(columns.iter().map(|(name, rows)| (name.to_string(), json!(rows[i]))).collect())
            })
            .collect()
    }

    /// Everything in expected.safetensors.
    pub fn expected(&self) -> BTreeMap<String, Values> {
        read_file(&self.folder.join("expected.safetensors"))
    }

    /// Compares a run's output directory with the expectation: each layer, the final hidden states, and the logits
    /// and scores that are there. The first difference in the order of computation is what is wrong.
    ///
    /// # Errors
    /// A phrase that names the first tensor that differs, and by how much.
    pub fn compare(&self, output: &Path) -> Result<(), String> {
        let expected = self.expected();
        let mut hidden: Vec<_> =
            expected.keys().filter(|name| is_hidden(name)).map(|name| (order(name), name.clone())).collect();
        hidden.sort();
        for (_, name) in &hidden {
            self.compare_one(
                name,
                &read_folder(&output.join("hidden").join(name), "hidden_states"),
                &expected[name],
            )?;
        }
        for (name, folder) in [("logits", "logits"), ("token_log_likelihood", "scores")] {
            if let Some(expected) = expected.get(name).filter(|_| output.join(folder).exists()) {
                self.compare_one(name, &read_folder(&output.join(folder), name), expected)?;
            }
        }
        if hidden.is_empty() { Err("nothing was compared".into()) } else { Ok(()) }
    }

    fn compare_one(&self, name: &str, found: &Values, expected: &Values) -> Result<(), String> {
        if found.shape != expected.shape {
            return Err(format!("{name} has shape {:?}, expected {:?}", found.shape, expected.shape));
        }
        let scale = expected.values.iter().fold(0.0f64, |most, v| most.max(v.abs()));
        let limit = self.meta.tolerance * scale;
        let off = found.values.iter().zip(&expected.values).map(|(a, b)| (a - b).abs());
        let worst = off.fold(0.0f64, |most, off| if off.is_nan() { f64::NAN } else { most.max(off) });
        if worst <= limit {
            Ok(())
        } else {
            Err(format!("{name} is off by {worst:.3e}, allowed are {limit:.3e}"))
        }
    }
}

fn is_hidden(name: &str) -> bool {
    let name = name.trim_start_matches("encoder_").trim_start_matches("decoder_");
    name == "embedding" || name == "final" || name.starts_with("layer_")
}

/// Encoder before decoder, embedding before layers before final.
fn order(name: &str) -> (bool, u8) {
    let kind = if name.ends_with("embedding") { 0 } else { 1 + u8::from(name.ends_with("final")) };
    (name.starts_with("decoder_"), kind)
}

fn read_text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

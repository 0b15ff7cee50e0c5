//! What a user may call a model.

mod common;

use std::fs;
use std::path::Path;

use common::{counted, write};
use sli_core::{SliError, TensorSource};
use sli_weights::{HubOptions, UniversalWeightLoader};
use tempfile::tempdir;

fn write_model(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("config.json"), "{}").unwrap();
    write(&directory.join("model.safetensors"), &[counted("x", &[2], 0.0)]);
}

fn open(model: &str) -> Result<UniversalWeightLoader, SliError> {
    UniversalWeightLoader::open(model, &HubOptions::default())
}

#[test]
fn a_directory_is_used_as_it_is() {
    let directory = tempdir().unwrap();
    write_model(directory.path());
    let loader = open(directory.path().to_str().unwrap()).unwrap();
    assert_eq!(loader.checkpoint().unwrap().names(), ["x"]);
    assert!(loader.config_path().is_file());
    loader.clear_shards().unwrap();
    assert!(loader.config_path().is_file(), "a user's directory is left alone");
}

#[test]
fn what_is_no_model_is_said() {
    let directory = tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    assert!(matches!(open(path), Err(SliError::Config { .. })));
    write_model(directory.path());
    for (model, expected) in [
        (format!("{path}/config.json"), "is a file"),
        (format!("{path}/nowhere"), "no such directory"),
        ("./nowhere".into(), "no such directory"),
        ("nowhere".into(), "no such directory"),
        ("../nowhere".into(), "no such directory"),
        (String::new(), "no such directory"),
    ] {
        let error = open(&model).unwrap_err();
        assert!(matches!(error, SliError::Usage(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[cfg(not(feature = "hub"))]
#[test]
fn without_the_hub_ids_are_refused() {
    let error = open("owner/name@main").unwrap_err();
    assert_eq!(
        error.to_string(),
        "model 'owner/name@main': there is no such directory, and this build knows no hub (feature `hub`)"
    );
}

#[cfg(feature = "hub")]
mod hub {
    use sli_core::WeightError;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A cache with one snapshot.
    fn cache() -> (tempfile::TempDir, HubOptions) {
        let cache = tempdir().unwrap();
        let model = cache.path().join("models--owner--name");
        write_model(&model.join("snapshots").join(COMMIT));
        fs::create_dir_all(model.join("refs")).unwrap();
        fs::write(model.join("refs/main"), COMMIT).unwrap();
        let options = HubOptions { cache_dir: Some(cache.path().into()), revision: None };
        (cache, options)
    }

    #[test]
    fn a_snapshot_in_the_cache_is_found() {
        let (cache, options) = cache();
        for id in ["owner/name".into(), "owner/name@main".into(), format!("owner/name@{COMMIT}")] {
            let loader = UniversalWeightLoader::open(&id, &options).unwrap();
            assert_eq!(loader.checkpoint().unwrap().names(), ["x"]);
        }
        UniversalWeightLoader::open("owner/name", &options).unwrap().clear_shards().unwrap();
        assert!(!cache.path().join("models--owner--name").exists());
    }

    #[test]
    fn without_a_snapshot_the_error_says_what_to_do() {
        let (_cache, options) = cache();
        for id in ["owner-of-nothing/no-model", "owner/name@v2"] {
            let error = UniversalWeightLoader::open(id, &options).unwrap_err();
            assert!(matches!(error, SliError::WeightLoading(WeightError::Hub { .. })), "{error}");
            assert!(error.to_string().contains("hf download"), "{error}");
        }
        let error = UniversalWeightLoader::open("owner/name@../../x", &options).unwrap_err();
        assert!(error.to_string().contains("is no revision"), "{error}");
    }
}

//! From what a user calls a model to a directory with its files.

use std::fs;
use std::path::{Path, PathBuf};

use sli_core::{Result, SliError, WeightError};

use crate::checkpoint::Checkpoint;

/// Where models named by hub id are looked for.
#[derive(Clone, Debug, Default)]
pub struct HubOptions {
    /// Branch, tag or commit; `main` when `None`. `@revision` at the end of an id goes before it.
    pub revision: Option<String>,
    /// A directory of this program's own for downloaded shards, laid out like the hub's cache. Searched before the
    /// cache that is shared with other programs (`HF_HUB_CACHE`, `HF_HOME`).
    pub cache_dir: Option<PathBuf>,
}

/// A model's files, wherever they come from: a directory, or the snapshot of a hub id.
///
/// Nothing is downloaded: an id whose snapshot is in neither cache ends in an error that says what to do.
#[derive(Debug)]
pub struct UniversalWeightLoader {
    directory: PathBuf,
    /// What may be removed again, for a model that lies in this program's own cache.
    shards: Option<PathBuf>,
}

impl UniversalWeightLoader {
    /// Finds a model: a directory, or a hub id `owner/name[@revision]`.
    ///
    /// # Errors
    /// [`SliError::Usage`] for a path that is no directory, [`WeightError::Hub`] for an id that is not to be had,
    /// [`SliError::Config`] when there is no config.json.
    pub fn open(model: &str, options: &HubOptions) -> Result<Self> {
        let path = Path::new(model);
        let loader = if path.is_dir() {
            Self { directory: path.into(), shards: None }
        } else if path.exists() {
            return Err(SliError::Usage(format!("{model} is a file: name the directory that it is in")));
        } else {
            let id =
                HubId::parse(model).ok_or_else(|| SliError::Usage(format!("{model}: no such directory")))?;
            from_hub(&id, options)?
        };
        let path = loader.config_path();
        if !path.is_file() {
            return Err(SliError::Config { path, message: "there is no such file: is this a model?".into() });
        }
        Ok(loader)
    }

    /// The directory with the model's files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The model's config.json.
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// Opens the weight files and checks their headers.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        Checkpoint::open(&self.directory)
    }

    /// Removes the model from this program's own cache ([`HubOptions::cache_dir`]). Directories that a user named and
    /// the cache that is shared with other programs are left alone.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn clear_shards(&self) -> Result<()> {
        match &self.shards {
            Some(shards) if shards.exists() => {
                fs::remove_dir_all(shards).map_err(SliError::io("cannot remove", shards))
            }
            _ => Ok(()),
        }
    }
}

/// `owner/name[@revision]`.
struct HubId<'a> {
    owner: &'a str,
    name: &'a str,
    revision: Option<&'a str>,
}

impl<'a> HubId<'a> {
    /// `None` for text that can only be a path.
    fn parse(model: &'a str) -> Option<Self> {
        let (id, revision) =
            model.split_once('@').map_or((model, None), |(id, revision)| (id, Some(revision)));
        let (owner, name) = id.split_once('/')?;
        let is_word = |text: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !text.is_empty() && !text.starts_with('.') && text.chars().all(allowed)
        };
        (is_word(owner) && is_word(name)).then_some(Self { owner, name, revision })
    }
}

#[cfg(feature = "hub")]
fn from_hub(id: &HubId, options: &HubOptions) -> Result<UniversalWeightLoader> {
    use hf_hub::{HFClient, HFError};

    let HubId { owner, name, revision } = *id;
    let revision = revision.or(options.revision.as_deref()).unwrap_or("main");
    let failed = |message: String| WeightError::Hub { id: format!("{owner}/{name}"), message };
    // A revision names a file of the cache.
    if revision.is_empty() || revision.split('/').any(|part| part.starts_with('.')) {
        return Err(failed(format!("'{revision}' is no revision")).into());
    }
    let own_cache = options.cache_dir.clone();
    for cache in own_cache.iter().map(Some).chain([None]) {
        let client = cache.map_or(HFClient::builder(), |directory| HFClient::builder().cache_dir(directory));
        let snapshot = client.build_sync().and_then(|client| {
            client.model(owner, name).snapshot_download().revision(revision).local_files_only(true).send()
        });
        match snapshot {
            Ok(directory) => {
                let shards = cache.map(|cache| cache.join(format!("models--{owner}--{name}")));
                return Ok(UniversalWeightLoader { directory, shards });
            }
            Err(HFError::LocalEntryNotFound { .. }) => {}
            Err(error) => return Err(failed(error.to_string()).into()),
        }
    }
    let message = format!(
        "there is no such directory, and revision '{revision}' is in no local cache: fetch it with `hf download \
         {owner}/{name}`, or name a directory"
    );
    Err(failed(message).into())
}

#[cfg(not(feature = "hub"))]
fn from_hub(id: &HubId, _options: &HubOptions) -> Result<UniversalWeightLoader> {
    let HubId { owner, name, revision } = *id;
    let id = [Some(format!("{owner}/{name}")), revision.map(|revision| format!("@{revision}"))];
    let message = "there is no such directory, and this build knows no hub (feature `hub`)".into();
    Err(WeightError::Hub { id: id.into_iter().flatten().collect(), message }.into())
}

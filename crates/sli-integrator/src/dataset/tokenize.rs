//! From records to token ids.

use std::path::{Path, PathBuf};

use sli_core::{ModelSpec, Result, SliError};
use tokenizers::Tokenizer;

use crate::dataset::chat::ChatTemplate;
use crate::dataset::read::Dataset;
use crate::dataset::record::{Input, Record, Target};
use crate::dataset::samples::{Sample, Samples};

/// How records become samples.
#[derive(Clone, Debug)]
pub(crate) struct Tokenization<'a> {
    /// Where tokenizer.json lies.
    pub(crate) model_dir: &'a Path,
    /// Vocabulary, positions, start token.
    pub(crate) spec: &'a ModelSpec,
    /// Longer samples are cut.
    pub(crate) max_length: Option<usize>,
    /// Skip bad records and count them, instead of stopping at the first.
    pub(crate) skip_bad: bool,
}

/// The token ids of one record.
struct Tokens {
    input: Vec<u32>,
    decoder_input: Option<Vec<u32>>,
    scored_from: usize,
}

/// Records are tokenized together, this many at a time.
const BATCH: usize = 1024;

impl Tokenization<'_> {
    /// Reads a dataset and tokenizes it.
    ///
    /// # Errors
    /// A bad record (unless they are skipped), an empty dataset, text for a model without a tokenizer.
    pub(crate) fn samples(&self, dataset: &Dataset) -> Result<Samples> {
        let records = dataset.read()?;
        let mut lines = Lines { tokenizer: LazyTokenizer::new(self.model_dir), spec: self.spec };
        let mut out = Builder::new(self.max_length);
        for batch in records.chunks(BATCH) {
            let good: Vec<&Record> = batch.iter().filter_map(|read| read.record.as_ref().ok()).collect();
            let mut tokens = lines.tokenize(&good)?.into_iter();
            for read in batch {
                let tokenized = match &read.record {
                    Ok(record) => {
                        let tokens = tokens.next().unwrap_or_else(|| Err("it was not tokenized".into()));
                        let checked = tokens.and_then(|tokens| self.checked(record, tokens));
                        checked.and_then(|tokens| self.after_prompt(record, tokens)).map(|t| (record, t))
                    }
                    Err(message) => Err(message.clone()),
                };
                match tokenized {
                    Ok((record, tokens)) => out.push(record, tokens),
                    Err(_) if self.skip_bad => out.samples.skipped += 1,
                    Err(message) => return Err(dataset.record_error(read.line, message)),
                }
            }
        }
        out.finish(dataset)
    }

    fn checked(&self, record: &Record, tokens: Tokens) -> Result<Tokens, String> {
        let stacks = &self.spec.stacks;
        check_ids(&tokens.input, stacks[0].embedding.vocab_size, "token id")?;
        if tokens.input.is_empty() {
            return Err("it has no tokens".into());
        }
        if let (Some(ids), Some(stack)) = (&tokens.decoder_input, stacks.get(1)) {
            check_ids(ids, stack.embedding.vocab_size, "decoder token id")?;
        }
        if let Some(types) = &record.token_type_ids {
            let count = stacks[0].embedding.token_types;
            check_ids(types, count.ok_or("this model has no token types")?, "token type")?;
        }
        if let (Some(positions), Some(count)) = (&record.position_ids, stacks[0].position_rows()) {
            check_ids(positions, count, "position")?;
        }
        Ok(tokens)
    }

    /// In models that see a prompt as a whole, only the answer is scored.
    fn after_prompt(&self, record: &Record, mut tokens: Tokens) -> Result<Tokens, String> {
        let Some(prompt) = self.spec.prompt() else { return Ok(tokens) };
        if record.position_ids.is_some() {
            return Err("it has position_ids, but this model makes positions from the tokens".into());
        }
        let kept = tokens.input.len().min(self.max_length.unwrap_or(usize::MAX));
        let span = prompt.find(&tokens.input[..kept])?;
        // The token that starts the answer is given, too.
        tokens.scored_from = tokens.scored_from.max(span.length + 1);
        Ok(tokens)
    }
}

fn check_ids(ids: &[u32], limit: usize, what: &str) -> Result<(), String> {
    match ids.iter().find(|id| **id as usize >= limit) {
        Some(id) => Err(format!("{what} {id} is out of range: the model has {limit}")),
        None => Ok(()),
    }
}

/// The tokenizer is read when the first text comes; datasets of ids need none.
struct LazyTokenizer {
    model_dir: PathBuf,
    tokenizer: Option<Tokenizer>,
    chat: Option<Option<ChatTemplate>>,
}

impl LazyTokenizer {
    fn new(model_dir: &Path) -> Self {
        Self { model_dir: model_dir.into(), tokenizer: None, chat: None }
    }

    fn tokenizer(&mut self) -> Result<&Tokenizer> {
        if self.tokenizer.is_none() {
            let path = self.model_dir.join("tokenizer.json");
            if !path.exists() {
                let message = "there is no tokenizer.json: only records with 'input_ids' can be used".into();
                return Err(SliError::Config { path, message });
            }
            let mut tokenizer = Tokenizer::from_file(&path)
                .map_err(|e| SliError::Config { path: path.clone(), message: e.to_string() })?;
            // What a released tokenizer.json says of padding and truncation is meant for training batches.
            tokenizer.with_padding(None);
            tokenizer.with_truncation(None).map_err(|e| SliError::Config { path, message: e.to_string() })?;
            self.tokenizer = Some(tokenizer);
        }
        self.tokenizer.as_ref().ok_or_else(|| SliError::Usage("no tokenizer".into()))
    }

    fn render(&mut self, messages: &serde_json::Value) -> Result<Result<String, String>> {
        if self.chat.is_none() {
            self.chat = Some(ChatTemplate::open(&self.model_dir)?);
        }
        Ok(match self.chat.as_ref().and_then(Option::as_ref) {
            Some(chat) => chat.render(messages),
            None => Err("it has 'messages', but the model has no chat template".into()),
        })
    }

    fn encode(&mut self, text: &str, special: bool) -> Result<Result<Vec<u32>, String>> {
        let encoding = self.tokenizer()?.encode_fast(text, special);
        Ok(encoding.map(|encoding| encoding.get_ids().to_vec()).map_err(|e| e.to_string()))
    }
}

struct Lines<'a> {
    tokenizer: LazyTokenizer,
    spec: &'a ModelSpec,
}

impl Lines<'_> {
    /// Token ids per record, or what is wrong with it. Plain texts go through the tokenizer together.
    fn tokenize(&mut self, records: &[&Record]) -> Result<Vec<Result<Tokens, String>>> {
        let texts: Vec<&str> = records
            .iter()
            .filter_map(|record| match &record.input {
                Input::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let mut encoded = if texts.is_empty() {
            Vec::new().into_iter()
        } else {
            let encodings = self.tokenizer.tokenizer()?.encode_batch_fast(texts, true);
            encodings.map_err(|e| SliError::Usage(format!("tokenizer: {e}")))?.into_iter()
        };
        records
            .iter()
            .map(|record| {
                let input = match &record.input {
                    Input::Text(_) => match encoded.next() {
                        Some(encoding) => Ok((encoding.get_ids().to_vec(), 1)),
                        None => Err("it was not tokenized".into()),
                    },
                    Input::Ids(ids) => Ok((ids.clone(), 1)),
                    Input::Messages(messages) => match self.tokenizer.render(messages)? {
                        // The template writes the special tokens itself.
                        Ok(text) => self.tokenizer.encode(&text, false)?.map(|ids| (ids, 1)),
                        Err(message) => Err(message),
                    },
                    Input::Continuation { context, continuation } => {
                        self.continuation(context, continuation)?
                    }
                };
                let (input, scored_from) = match input {
                    Ok(input) => input,
                    Err(message) => return Ok(Err(message)),
                };
                let decoder_input = match self.decoder_input(record)? {
                    Ok(ids) => ids,
                    Err(message) => return Ok(Err(message)),
                };
                Ok(Ok(Tokens { input, decoder_input, scored_from }))
            })
            .collect()
    }

    /// The whole text is tokenized at once, as a reader would see it; scoring starts where the context's own tokens
    /// end.
    fn continuation(
        &mut self,
        context: &str,
        continuation: &str,
    ) -> Result<Result<(Vec<u32>, usize), String>> {
        let whole = self.tokenizer.encode(&format!("{context}{continuation}"), true)?;
        let before = self.tokenizer.encode(context, true)?;
        Ok(whole.and_then(|whole| {
            let before = before?;
            let shared = whole.iter().zip(&before).take_while(|(a, b)| a == b).count();
            if shared == whole.len() {
                Err("the continuation adds no token".into())
            } else {
                Ok((whole, shared.max(1)))
            }
        }))
    }

    fn decoder_input(&mut self, record: &Record) -> Result<Result<Option<Vec<u32>>, String>> {
        match &record.target {
            None => Ok(Ok(None)),
            Some(_) if !self.spec.is_encoder_decoder() => {
                Ok(Err("it has a target, but the model has no decoder beside an encoder".into()))
            }
            Some(Target::Ids(ids)) => Ok(Ok(Some(ids.clone()))),
            Some(Target::Text(text)) => {
                let Some(start) = self.spec.decoder_start else {
                    return Ok(Err(
                        "config.json names no decoder_start_token_id: give 'decoder_input_ids'".into()
                    ));
                };
                let ids = self.tokenizer.encode(text, true)?;
                Ok(ids.map(|ids| Some(std::iter::once(start).chain(ids).collect())))
            }
        }
    }
}

/// Collects samples; the optional columns appear with the first record that has them.
struct Builder {
    samples: Samples,
    max_length: usize,
    with_decoder: usize,
}

impl Builder {
    fn new(max_length: Option<usize>) -> Self {
        Self { samples: Samples::default(), max_length: max_length.unwrap_or(usize::MAX), with_decoder: 0 }
    }

    fn push(&mut self, record: &Record, tokens: Tokens) {
        let out = &mut self.samples;
        let (before, kept) = (out.input.num_tokens(), tokens.input.len().min(self.max_length));
        out.input.push(&tokens.input[..kept]);
        let mut truncated = kept < tokens.input.len();

        let types = record.token_type_ids.as_deref().map(|types| &types[..kept]);
        extend_column(&mut out.token_types, types, || vec![0; before], || vec![0; kept]);
        let counted = |lengths: &mut dyn Iterator<Item = usize>| lengths.flat_map(|n| 0..n as u32).collect();
        let positions = record.position_ids.as_deref().map(|positions| &positions[..kept]);
        let earlier = || counted(&mut out.input.lengths().take(out.samples.len()));
        extend_column(&mut out.positions, positions, earlier, || counted(&mut std::iter::once(kept)));

        if let Some(ids) = tokens.decoder_input {
            let kept = ids.len().min(self.max_length);
            truncated |= kept < ids.len();
            out.decoder_input.get_or_insert_default().push(&ids[..kept]);
            self.with_decoder += 1;
        }
        out.samples.push(Sample { id: record.id.clone(), truncated, scored_from: tokens.scored_from });
    }

    fn finish(self, dataset: &Dataset) -> Result<Samples> {
        let count = self.samples.len();
        if count == 0 {
            let skipped = self.samples.skipped;
            let why = if skipped > 0 {
                format!("no sample is left after {skipped} bad ones")
            } else {
                "it is empty".into()
            };
            return Err(dataset.error(why));
        }
        if self.with_decoder != 0 && self.with_decoder != count {
            let message = format!(
                "{} of {count} records have a target: give all of them one, or none",
                self.with_decoder
            );
            return Err(dataset.error(message));
        }
        Ok(self.samples)
    }
}

/// Adds a record's values to a column, which exists once any record has values. Records without get their own
/// default, and those before the first one with values get `earlier`.
fn extend_column(
    column: &mut Option<Vec<u32>>,
    values: Option<&[u32]>,
    earlier: impl FnOnce() -> Vec<u32>,
    default: impl FnOnce() -> Vec<u32>,
) {
    match (column.as_mut(), values) {
        (Some(column), Some(values)) => column.extend_from_slice(values),
        (Some(column), None) => column.extend(default()),
        (None, Some(values)) => *column = Some([earlier(), values.to_vec()].concat()),
        (None, None) => {}
    }
}

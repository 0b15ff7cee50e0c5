//! One record of a dataset, checked.

use serde_json::{Map, Value};

/// What a record gives the model to read.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Text for the model's own tokenizer.
    Text(String),
    /// Token ids, taken as they are.
    Ids(Vec<u32>),
    /// A conversation, rendered with the model's chat template.
    Messages(Value),
    /// Text of which only the second part is scored.
    Continuation {
        /// What comes before.
        context: String,
        /// What is scored.
        continuation: String,
    },
}

/// What an encoder-decoder is to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Text for the model's own tokenizer; the start token is put before it.
    Text(String),
    /// Decoder input ids, taken as they are.
    Ids(Vec<u32>),
}

/// One record: what the model reads, and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What the model reads.
    pub input: Input,
    /// What an encoder-decoder is to write.
    pub target: Option<Target>,
    /// A type per token (BERT's segments).
    pub token_type_ids: Option<Vec<u32>>,
    /// A position per token, where they are not 0, 1, 2, ...
    pub position_ids: Option<Vec<u32>>,
    /// Echoed in samples.jsonl.
    pub id: Option<Value>,
}

impl Record {
    /// A record that is nothing but text.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self {
            input: Input::Text(text.into()),
            target: None,
            token_type_ids: None,
            position_ids: None,
            id: None,
        }
    }

    /// Reads a record from JSON; `text_field` names the field that holds the text.
    ///
    /// # Errors
    /// A phrase that says what is wrong with it.
    pub fn from_json(value: &Value, text_field: &str) -> Result<Self, String> {
        let Value::Object(fields) = value else {
            return Err(format!("a record is a JSON object, not {}", kind(value)));
        };
        refuse_media(fields)?;
        let record = Self {
            input: input(fields, text_field)?,
            target: target(fields)?,
            token_type_ids: ids(fields, "token_type_ids")?,
            position_ids: ids(fields, "position_ids")?,
            id: fields.get("id").cloned(),
        };
        record.check_lengths()?;
        Ok(record)
    }

    fn check_lengths(&self) -> Result<(), String> {
        for (name, values) in [("token_type_ids", &self.token_type_ids), ("position_ids", &self.position_ids)]
        {
            let Some(values) = values else { continue };
            match &self.input {
                Input::Ids(ids) if ids.len() == values.len() => {}
                Input::Ids(ids) => {
                    return Err(format!("{} {name} for {} input_ids", values.len(), ids.len()));
                }
                _ => return Err(format!("{name} need input_ids beside them")),
            }
        }
        Ok(())
    }
}

/// Pictures and sound beside the text, or among a conversation's parts, are refused: a run over the rest would
/// describe another sample.
fn refuse_media(fields: &Map<String, Value>) -> Result<(), String> {
    const MEDIA: [&str; 10] = [
        "image",
        "images",
        "audio",
        "audios",
        "video",
        "videos",
        "pixel_values",
        "pixel_values_videos",
        "input_features",
        "input_audio_features",
    ];
    let present = |name: &&&str| fields.get(**name).is_some_and(|value| !is_empty(value));
    if let Some(name) = MEDIA.iter().find(present) {
        return Err(format!("it has '{name}', but only text is run: pictures and sound are not supported"));
    }
    let messages = fields.get("messages").and_then(Value::as_array);
    let contents = messages.into_iter().flatten().filter_map(|message| message.get("content")?.as_array());
    let mut kinds = contents.flatten().filter_map(|part| part.get("type")?.as_str());
    let is_medium = |kind: &&str| ["image", "audio", "video"].iter().any(|medium| kind.contains(medium));
    match kinds.find(is_medium) {
        Some(kind) => Err(format!(
            "its messages have a part of type '{kind}', but only text is run: pictures and sound are not supported"
        )),
        None => Ok(()),
    }
}

/// Nothing, or a list or a text with nothing in it.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(values) => values.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn input(fields: &Map<String, Value>, text_field: &str) -> Result<Input, String> {
    if let Some(ids) = ids(fields, "input_ids")? {
        return if ids.is_empty() { Err("'input_ids' is empty".into()) } else { Ok(Input::Ids(ids)) };
    }
    if let Some(text) = text(fields, text_field)? {
        return Ok(Input::Text(text));
    }
    match (text(fields, "context")?, text(fields, "continuation")?) {
        (Some(context), Some(continuation)) => return Ok(Input::Continuation { context, continuation }),
        (None, None) => {}
        _ => return Err("'context' and 'continuation' belong together".into()),
    }
    match fields.get("messages") {
        Some(messages @ Value::Array(_)) => Ok(Input::Messages(messages.clone())),
        Some(other) => Err(format!("'messages' must be an array, not {}", kind(other))),
        None => {
            let names: Vec<_> = fields.keys().map(String::as_str).collect();
            Err(format!("it has neither '{text_field}' nor 'input_ids' (its fields: {})", names.join(", ")))
        }
    }
}

fn target(fields: &Map<String, Value>) -> Result<Option<Target>, String> {
    if let Some(ids) = ids(fields, "decoder_input_ids")? {
        return if ids.is_empty() {
            Err("'decoder_input_ids' is empty".into())
        } else {
            Ok(Some(Target::Ids(ids)))
        };
    }
    Ok(text(fields, "target")?.map(Target::Text))
}

fn text(fields: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("'{name}' must be a string, not {}", kind(other))),
    }
}

fn ids(fields: &Map<String, Value>, name: &str) -> Result<Option<Vec<u32>>, String> {
    let Some(value) = fields.get(name) else { return Ok(None) };
    let Value::Array(values) = value else {
        return Err(format!("'{name}' must be an array of integers, not {}", kind(value)));
    };
    let to_id = |value: &Value| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("'{name}' holds {value}, which is no token id"))
    };
    values.iter().map(to_id).collect::<Result<_, _>>().map(Some)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_each_kind_of_input() {
        let read = |value| Record::from_json(&value, "text").unwrap();
        assert_eq!(read(json!({"text": "hello"})).input, Input::Text("hello".into()));
        assert_eq!(read(json!({"input_ids": [1, 2], "text": "ignored"})).input, Input::Ids(vec![1, 2]));
        assert_eq!(read(json!({"text": "a", "target": "b"})).target, Some(Target::Text("b".into())));
        let record = read(json!({"context": "a", "continuation": "b", "id": 7}));
        assert_eq!(record.input, Input::Continuation { context: "a".into(), continuation: "b".into() });
        assert_eq!(record.id, Some(json!(7)));
        // Columns that a dataset has for other samples, and conversations in parts that are all text.
        assert_eq!(read(json!({"text": "a", "images": [], "audio": null})).input, Input::Text("a".into()));
        let messages = json!([{"role": "user", "content": [{"type": "text", "text": "a"}]}]);
        assert_eq!(read(json!({"messages": messages})).input, Input::Messages(messages));
    }

    #[test]
    fn says_what_is_wrong() {
        for (value, phrase) in [
            (json!([1]), "not an array"),
            (json!({"txt": "x"}), "neither 'text' nor 'input_ids'"),
            (json!({"text": 3}), "must be a string, not a number"),
            (json!({"input_ids": [1, -4]}), "holds -4"),
            (json!({"input_ids": [1, 2.5]}), "holds 2.5"),
            (json!({"input_ids": []}), "empty"),
            (json!({"context": "x"}), "belong together"),
            (json!({"input_ids": [1, 2], "token_type_ids": [0]}), "1 token_type_ids for 2 input_ids"),
            (json!({"text": "x", "images": ["cat.png"]}), "has 'images', but only text is run"),
            (json!({"text": "x", "audio": {"path": "a.wav"}}), "has 'audio', but only text is run"),
            (
                json!({"messages": [
                    {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}
                ]}),
                "a part of type 'image_url'",
            ),
        ] {
            let error = Record::from_json(&value, "text").unwrap_err();
            assert!(error.contains(phrase), "{value}: {error}");
        }
    }
}

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
        ] {
            let error = Record::from_json(&value, "text").unwrap_err();
            assert!(error.contains(phrase), "{value}: {error}");
        }
    }
}

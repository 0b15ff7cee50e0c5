//! The JSON that Python writes: with the bare words `Infinity`, `-Infinity` and `NaN`, or, since transformers 5,
//! with an object like `{"__float__": "Infinity"}` in their place.

use serde_json::{Map, Value, json};

const FLOAT_KEY: &str = "__float__";
const BARE_WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// Parses a JSON object; the error is for a person.
pub(crate) fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    let parsed = serde_json::from_str(&with_objects_for_bare_words(text));
    match parsed.map_err(|error| format!("is not valid JSON: {error}"))? {
        Value::Object(object) => Ok(object),
        _ => Err("is not a JSON object".into()),
    }
}

/// A number, infinite ones included.
pub(crate) fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Object(object) if object.len() == 1 => match object.get(FLOAT_KEY)?.as_str()? {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            _ => None,
        },
        _ => None,
    }
}

fn with_objects_for_bare_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(c) = rest.chars().next() {
        if !in_string && let Some(word) = BARE_WORDS.into_iter().find(|word| rest.starts_with(word)) {
            out += &json!({ FLOAT_KEY: word }).to_string();
            rest = &rest[word.len()..];
            continue;
        }
        let escape = in_string && c == '\\';
        in_string ^= c == '"';
        // An escaped character goes along with its backslash, so that \" does not end the string.
        let taken = rest.chars().take(1 + usize::from(escape)).map(char::len_utf8).sum();
        out += &rest[..taken];
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_words_become_objects_outside_strings() {
        let object =
            parse_object(r#"{"a": [0.0, Infinity], "b": -Infinity, "c": "an \"Infinity\" é", "d": NaN}"#);
        let object = object.unwrap();
        assert_eq!(as_float(&object["a"][1]), Some(f64::INFINITY));
        assert_eq!(as_float(&object["b"]), Some(f64::NEG_INFINITY));
        assert_eq!(object["c"], "an \"Infinity\" é");
        assert!(as_float(&object["d"]).unwrap().is_nan());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[1]", "{", "{\"a\": Infinit}", "{\"a\": \"\\", &"[".repeat(100_000)] {
            assert!(parse_object(text).is_err(), "{}", text.chars().take(20).collect::<String>());
        }
    }
}

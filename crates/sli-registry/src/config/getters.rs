//! Typed getters: what a key must hold, with an error that says what it holds instead.

use std::ops::RangeInclusive;

use serde_json::Value;
use sli_core::Result;

use super::HfConfig;
use super::json::as_float;

/// The largest number that any size in a config may have. Products of two of them fit in 64 bits with room to spare.
pub const MAX_SIZE: usize = 1 << 28;

/// The largest number of layers that a config may ask for.
pub const MAX_LAYERS: usize = 10_000;

/// Typed values of keys.
impl HfConfig {
    /// A size: an integer from 1 to [`MAX_SIZE`].
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.optional_usize(key)?.ok_or_else(|| self.missing(key, "an integer"))
    }

    /// A size, or `default` when it is absent.
    ///
    /// # Errors
    /// When it is something else than an integer from 1 to [`MAX_SIZE`].
    pub fn usize_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.optional_usize(key)?.unwrap_or(default))
    }

    /// A size that may be absent.
    ///
    /// # Errors
    /// When it is something else than an integer from 1 to [`MAX_SIZE`].
    pub fn optional_usize(&self, key: &str) -> Result<Option<usize>> {
        self.integer(key, 1..=MAX_SIZE)
    }

    /// A number that may be zero, or `default` when it is absent.
    ///
    /// # Errors
    /// When it is something else than an integer from 0 to [`MAX_SIZE`].
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        Ok(self.integer(key, 0..=MAX_SIZE)?.unwrap_or(default))
    }

    /// An index that may be absent, or -1 for the last one; `None` for both.
    ///
    /// # Errors
    /// When it is something else than an integer from -1 to [`MAX_SIZE`].
    pub fn optional_index(&self, key: &str) -> Result<Option<usize>> {
        if self.get(key).is_some_and(|value| value.as_i64() == Some(-1)) {
            return Ok(None);
        }
        self.integer(key, 0..=MAX_SIZE)
    }

    /// A number of layers: an integer from 1 to [`MAX_LAYERS`].
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn layers(&self, key: &str) -> Result<usize> {
        self.integer(key, 1..=MAX_LAYERS)?.ok_or_else(|| self.missing(key, "an integer"))
    }

    /// A token id that may be absent. Of a list of ids, the first.
    ///
    /// # Errors
    /// When it is something else than an integer from 0 on.
    pub fn token_id(&self, key: &str) -> Result<Option<u32>> {
        const EXPECTED: &str = "a token id, or a list of them";
        let id = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| self.unexpected(key, value, EXPECTED))
        };
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(ids)) => ids.first().map(id).transpose(),
            Some(value) => id(value).map(Some),
        }
    }

    /// A finite number.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn f64(&self, key: &str) -> Result<f64> {
        self.optional_f64(key)?.ok_or_else(|| self.missing(key, "a number"))
    }

    /// A finite number, or `default` when it is absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn f64_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.optional_f64(key)?.unwrap_or(default))
    }

    /// A finite number that may be absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn optional_f64(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let number = as_float(value).filter(|number| number.is_finite());
        number.map(Some).ok_or_else(|| self.unexpected(key, value, "a finite number"))
    }

    /// A list of numbers, which may be infinite, or `None` when it is absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn f64s(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.list(key, "a list of numbers", |value| as_float(value).filter(|number| !number.is_nan()))
    }

    /// A switch, or `default` when it is absent.
    ///
    /// # Errors
    /// When it is something else than true or false.
    pub fn bool_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(value) => Err(self.unexpected(key, value, "true or false")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.optional_str(key)?.ok_or_else(|| self.missing(key, "a text"))
    }

    /// A text, or `default` when it is absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn str_or<'s>(&'s self, key: &str, default: &'s str) -> Result<&'s str> {
        Ok(self.optional_str(key)?.unwrap_or(default))
    }

    /// A list of texts, or `None` when it is absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn strs(&self, key: &str) -> Result<Option<Vec<String>>> {
        self.list(key, "a list of texts", |value| value.as_str().map(str::to_string))
    }

    /// A list of integers from 0 to [`MAX_SIZE`], or `None` when it is absent.
    ///
    /// # Errors
    /// When it is something else.
    pub fn usizes(&self, key: &str) -> Result<Option<Vec<usize>>> {
        self.list(key, "a list of integers", |value| as_integer(value, &(0..=MAX_SIZE)))
    }

    fn optional_str(&self, key: &str) -> Result<Option<&str>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => Err(self.unexpected(key, value, "a text")),
        }
    }

    fn integer(&self, key: &str, range: RangeInclusive<usize>) -> Result<Option<usize>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let integer = as_integer(value, &range);
        integer.map(Some).ok_or_else(|| {
            let expected = format!("an integer from {} to {}", range.start(), range.end());
            self.unexpected(key, value, &expected)
        })
    }

    fn list<T>(
        &self,
        key: &str,
        expected: &str,
        element: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let list = value.as_array().and_then(|values| values.iter().map(element).collect());
        list.map(Some).ok_or_else(|| self.unexpected(key, value, expected))
    }
}

/// An integer in `range`, also where it is written as 4096.0.
fn as_integer(value: &Value, range: &RangeInclusive<usize>) -> Option<usize> {
    let written_as_float = || value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..1e15).contains(f));
    let integer = value.as_u64().or_else(|| written_as_float().map(|f| f as u64))?;
    usize::try_from(integer).ok().filter(|integer| range.contains(integer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(value: Value) -> HfConfig {
        HfConfig::parse(&value.to_string(), "model/config.json").unwrap()
    }

    fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn errors_name_file_key_value_and_expectation() {
        let c =
            config(json!({"a": -3, "b": 0, "c": 1u64 << 60, "d": "x", "e": 2.5, "f": [1, "y"], "g": 1e300}));
        let expected = format!("expected an integer from 1 to {MAX_SIZE}");
        assert_eq!(message(c.usize("a")), format!("model/config.json: 'a' is -3, {expected}"));
        for key in ["b", "c", "d", "e", "f", "g"] {
            assert!(message(c.usize(key)).ends_with(&expected), "{key}");
        }
        assert_eq!(message(c.usize("h")), "model/config.json: 'h' is missing, expected an integer");
        assert!(message(c.f64("d")).ends_with("'d' is \"x\", expected a finite number"));
        assert!(message(c.bool_or("b", true)).ends_with("'b' is 0, expected true or false"));
        assert!(message(c.usizes("f")).ends_with("'f' is [1,\"y\"], expected a list of integers"));
        assert!(message(c.layers("g")).ends_with(&format!("from 1 to {MAX_LAYERS}")));
    }

    #[test]
    fn null_is_absent() {
        let c = config(json!({"head_dim": null, "n": 4096.0}));
        assert_eq!(c.usize_or("head_dim", 7).unwrap(), 7);
        assert_eq!(c.with_defaults(json!({"head_dim": 8})).optional_usize("head_dim").unwrap(), None);
        assert_eq!(c.with_defaults(json!({"m": 8})).usize("m").unwrap(), 8);
        assert_eq!(c.usize("n").unwrap(), 4096);
        assert!(c.unread().is_empty());
    }

    #[test]
    fn infinite_numbers_are_for_lists_only() {
        let text = r#"{"time_step_limit": [0.0, Infinity], "x": -Infinity, "y": {"__float__": "Infinity"}}"#;
        let c = HfConfig::parse(text, "config.json").unwrap();
        assert_eq!(c.f64s("time_step_limit").unwrap(), Some(vec![0.0, f64::INFINITY]));
        assert!(c.f64("x").is_err() && c.f64("y").is_err());
    }

    #[test]
    fn token_ids_may_be_lists() {
        let c = config(json!({"a": [7, 8], "b": 2, "c": -1, "d": []}));
        assert_eq!(c.token_id("a").unwrap(), Some(7));
        assert_eq!(c.token_id("b").unwrap(), Some(2));
        assert_eq!(c.token_id("d").unwrap(), None);
        assert!(c.token_id("c").is_err());
    }
}

//! Chat templates: from messages to text, as the model's authors meant it.

use std::path::Path;

use minijinja::{Environment, Error, ErrorKind, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde_json::Value;
use sli_core::{Result, SliError};

/// A model's chat template with the special tokens that it may name.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja`, or `chat_template` of tokenizer_config.json. `None` when a model has neither.
    pub(crate) fn open(model_dir: &Path) -> Result<Option<Self>> {
        let config_path = model_dir.join("tokenizer_config.json");
        let config: Value = match std::fs::read_to_string(&config_path) {
            Ok(text) => serde_json::from_str(&text)
                .map_err(|e| SliError::Config { path: config_path, message: format!("not JSON: {e}") })?,
            Err(_) => Value::Null,
        };
        let file = std::fs::read_to_string(model_dir.join("chat_template.jinja")).ok();
        let Some(source) = file.or_else(|| template_of(&config["chat_template"])) else { return Ok(None) };

        let mut environment = Environment::new();
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", source).map_err(|e| SliError::Config {
            path: model_dir.into(),
            message: format!("chat template: {e}"),
        })?;
        Ok(Some(Self {
            environment,
            bos_token: token_of(&config["bos_token"]),
            eos_token: token_of(&config["eos_token"]),
        }))
    }

    /// The text of a conversation. Special tokens stand in it already.
    pub(crate) fn render(&self, messages: &Value) -> Result<String, String> {
        let template = self.environment.get_template("chat").map_err(|e| e.to_string())?;
        let (bos_token, eos_token) = (&self.bos_token, &self.eos_token);
        template
            .render(context! { messages, bos_token, eos_token, add_generation_prompt => false })
            .map_err(|e| format!("chat template: {e}"))
    }
}

/// A template as a string, or the one named `default` of a list.
fn template_of(value: &Value) -> Option<String> {
    match value {
        Value::String(template) => Some(template.clone()),
        Value::Array(named) => {
            let default = named.iter().find(|t| t["name"] == "default").or(named.first())?;
            default["template"].as_str().map(String::from)
        }
        _ => None,
    }
}

/// A token as a string, or as an object with its content.
fn token_of(value: &Value) -> String {
    value.as_str().or_else(|| value["content"].as_str()).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn renders_messages() {
        let dir = tempfile::tempdir().unwrap();
        let template =
            "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m.content.strip() }}\n{% endfor %}";
        let config = json!({"bos_token": {"content": "<s>"}, "chat_template": template});
        std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
        let chat = ChatTemplate::open(dir.path()).unwrap().unwrap();
        let text = chat.render(&json!([{"role": "user", "content": " hi "}])).unwrap();
        assert_eq!(text, "<s>[user] hi\n");
    }

    #[test]
    fn templates_can_refuse() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chat_template.jinja"), "{{ raise_exception('no system role') }}")
            .unwrap();
        let error = ChatTemplate::open(dir.path()).unwrap().unwrap().render(&json!([])).unwrap_err();
        assert!(error.contains("no system role"), "{error}");
    }
}

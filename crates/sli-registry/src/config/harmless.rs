//! Keys of a config.json that change nothing in a forward pass of inference, in any architecture.
//!
//! Before a key is added here: no architecture may use it to compute a hidden state or a logit outside of training.
//! Keys that are harmless in one architecture only are named there, with [`crate::HfConfig::ignore`].

use serde_json::{Value, json};

/// Is `key` harmless wherever it stands, or with this value?
pub(crate) fn is_harmless(key: &str, value: &Value) -> bool {
    HARMLESS.iter().any(|keys| keys.contains(&key)) || unset(key).is_some_and(|unset| equal(value, &unset))
}

/// What transformers before version 5 wrote where nothing was set: it wrote sections whole, with all that belongs to
/// generation and to other kinds of models.
fn unset(key: &str) -> Option<Value> {
    Some(match key {
        "max_length" => json!(20),
        "top_k" => json!(50),
        "min_length" | "diversity_penalty" | "encoder_no_repeat_ngram_size" => json!(0),
        "temperature" | "top_p" | "typical_p" | "repetition_penalty" | "length_penalty" => json!(1),
        "num_beam_groups" | "num_return_sequences" => json!(1),
        "output_scores" | "return_dict_in_generate" | "remove_invalid_values" | "tf_legacy_loss" => {
            json!(false)
        }
        "is_decoder" | "is_encoder_decoder" | "add_cross_attention" | "tie_encoder_decoder" => json!(false),
        "pruned_heads" => json!({}),
        _ => return None,
    })
}

/// Are these the same, 1 and 1.0 included?
fn equal(one: &Value, other: &Value) -> bool {
    one == other || one.as_f64().is_some() && one.as_f64() == other.as_f64()
}

const HARMLESS: [&[&str]; 5] = [PROVENANCE, TRAINING, OUTPUT, TOKENS, TASKS];

/// Where the file comes from and which code or number format it was made for.
const PROVENANCE: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "model_type",
    "pretrained_model_name_or_path",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "trust_remote_code",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_flash_attn",
];

/// What only acts in training: dropout, initial values, auxiliary losses, checkpointing.
const TRAINING: &[&str] = &[
    "activation_dropout",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_dropout_prob",
    "attn_pdrop",
    "classif_dropout",
    "classifier_dropout",
    "decoder_layerdrop",
    "dropout",
    "dropout_rate",
    "emb_dropout_prob",
    "emb_pdrop",
    "embd_pdrop",
    "embed_dropout",
    "embedding_dropout",
    "encoder_layerdrop",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "ignore_index",
    "init_std",
    "initializer_factor",
    "initializer_range",
    "layerdrop",
    "qa_dropout",
    "resid_dropout",
    "resid_pdrop",
    "residual_dropout",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "seq_classif_dropout",
];

/// What a call returns besides the result, and how its work is cut up.
const OUTPUT: &[&str] = &[
    "cache_implementation",
    "chunk_size_feed_forward",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_router_logits",
    "return_dict",
    "use_cache",
];

/// Special tokens. Architectures in which the id of one moves positions or starts a decoder read it.
const TOKENS: &[&str] = &[
    "bos_token",
    "bos_token_id",
    "cls_token_id",
    "decoder_start_token_id",
    "eos_token",
    "eos_token_id",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "mask_token",
    "mask_token_id",
    "pad_token",
    "pad_token_id",
    "sep_token_id",
    "unk_token_id",
];

/// What belongs to a task on top of the model, or to generation.
const TASKS: &[&str] = &[
    "do_sample",
    "early_stopping",
    "finetuning_task",
    "id2label",
    "label2id",
    "no_repeat_ngram_size",
    "num_beams",
    "num_labels",
    "_num_labels",
    "prefix",
    "problem_type",
    "task_specific_params",
];

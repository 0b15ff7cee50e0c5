//! Rules of single architectures that a snapshot cannot show: what is refused, and what is said about it.

use serde_json::{Value, json};
use sli_core::{BlockSpec, KeyValues, Mask, Mixer, Part, PositionSpec, Result, SliError, TensorRole};
use sli_registry::{ArchitectureRegistry, HfConfig, Resolved};

/// A small model of each architecture, with `changes` applied.
fn resolve(class: &str, changes: Value) -> Result<Resolved> {
    let mut config = json!({
        "architectures": [class], "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 64,
        "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64,
        "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4,
        "num_local_experts": 4, "num_experts_per_tok": 2
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    ArchitectureRegistry::new().resolve(&HfConfig::parse(&config.to_string(), "config.json")?)
}

fn message(class: &str, changes: Value) -> String {
    resolve(class, changes).unwrap_err().to_string()
}

#[test]
fn what_is_not_supported_is_named() {
    for (class, changes, says) in [
        (
            "BertForMaskedLM",
            json!({"position_embedding_type": "relative_key"}),
            "'position_embedding_type' is",
        ),
        ("BertForMaskedLM", json!({"is_decoder": true}), "'is_decoder' is true"),
        ("JinaBertForMaskedLM", json!({}), "'position_embedding_type' is missing, expected alibi"),
        (
            "JinaBertForMaskedLM",
            json!({"position_embedding_type": "alibi", "feed_forward_type": "original"}),
            "'feed_forward_type' is \"original\"",
        ),
        ("LongformerForMaskedLM", json!({"attention_window": [4, 4]}), "'attention_window' is [4,4]"),
        ("LongformerForMaskedLM", json!({"attention_window": 5}), "'attention_window' is 5"),
        ("DebertaForMaskedLM", json!({"pos_att_type": "c2p|p2p"}), "'pos_att_type' is \"c2p|p2p\""),
        ("DebertaForMaskedLM", json!({"embedding_size": 16}), "'embedding_size' is 16"),
        ("DebertaV2ForMaskedLM", json!({"conv_kernel_size": 2}), "over 2 tokens has no middle"),
        (
            "DebertaV2ForMaskedLM",
            json!({"relative_attention": true, "pos_att_type": "c2p", "position_buckets": 128}),
            "128 buckets do not divide distances up to 64",
        ),
        ("GPT2LMHeadModel", json!({"add_cross_attention": true}), "'add_cross_attention' is true"),
        ("MambaForCausalLM", json!({"rms_norm": false}), "'rms_norm' is false"),
        (
            "Mamba2ForCausalLM",
            json!({"hidden_size": null, "d_model": 32, "n_layer": 2, "attn_layer_idx": [1]}),
            "'attn_layer_idx' is [1]",
        ),
        ("NemotronHForCausalLM", json!({"hybrid_override_pattern": "MXM"}), "'hybrid_override_pattern' is"),
        ("Zamba2ForCausalLM", json!({"layers_block_type": ["mamba", "x", "x"]}), "'layers_block_type' is"),
        ("MambaForCausalLM", json!({"time_step_rank": "big"}), "'time_step_rank' is \"big\""),
        (
            "LlamaForCausalLM",
            json!({"hidden_act": "swoosh"}),
            "'hidden_act' is \"swoosh\", expected the name",
        ),
        ("T5ForConditionalGeneration", json!({"feed_forward_proj": "gated-x"}), "'feed_forward_proj' is"),
        ("DogeForCausalLM", json!({"is_moe": true}), "'is_moe' is true"),
        ("RecurrentGemmaForCausalLM", json!({"block_types": ["mamba"]}), "'block_types' is [\"mamba\"]"),
        (
            "LlamaForCausalLM",
            json!({"rope_scaling": {"type": "spiral", "factor": 2}}),
            "'rope_scaling.type' is \"spiral\"",
        ),
    ] {
        let message = message(class, changes);
        assert!(message.starts_with("config.json: ") && message.contains(says), "{message}");
    }
}

#[test]
fn sizes_must_fit_together() {
    for (class, changes, says) in [
        (
            "LlamaForCausalLM",
            json!({"num_key_value_heads": 3}),
            "4 query heads cannot be shared out over 3 key heads",
        ),
        ("DiffLlamaForCausalLM", json!({"num_key_value_heads": 1}), "1 key heads have no halves"),
        (
            "DogeForCausalLM",
            json!({"sliding_window": 9, "keep_window_size": 8}),
            "of a window of 9 keys not only 8 can be seen",
        ),
        (
            "RecurrentGemmaForCausalLM",
            json!({"lru_width": 30}),
            "30 channels cannot be shared out over 4 blocks",
        ),
        (
            "LlamaForCausalLM",
            json!({"num_attention_heads": 5}),
            "a hidden size of 32 cannot be shared out over 5 heads",
        ),
        (
            "LlamaForCausalLM",
            json!({"head_dim": 7}),
            "7 dimensions of a head of 7 cannot be rotated in pairs",
        ),
        ("LlamaForCausalLM", json!({"rms_norm_eps": -1}), "epsilon of -1 is not between 0 and 1"),
        ("LlamaForCausalLM", json!({"rope_theta": 0}), "a rotary base of 0 is not positive"),
        (
            "LlamaForCausalLM",
            json!({"vocab_size": 1 << 28, "hidden_size": 1 << 28}),
            "parameters, at most 1e15",
        ),
        (
            "Qwen2ForCausalLM",
            json!({"layer_types": ["full_attention"]}),
            "'layer_types' has 1 entries for 3 layers",
        ),
        (
            "T5ForConditionalGeneration",
            json!({"relative_attention_num_buckets": 2}),
            "2 buckets do not divide",
        ),
    ] {
        let message = message(class, changes);
        assert!(message.contains(says), "{message}");
    }
    let error = resolve("MixtralForCausalLM", json!({"num_experts_per_tok": 5})).unwrap_err();
    assert!(matches!(error, SliError::MoeConfiguration { .. }), "{error}");
    assert!(error.to_string().contains("5 of 4 experts"), "{error}");
}

#[test]
fn windows_follow_layer_types_where_they_are_given() {
    let types = json!(["sliding_attention", "full_attention", "sliding_attention"]);
    let changes = json!({"layer_types": types, "use_sliding_window": true, "sliding_window": 8});
    let spec = resolve("Qwen3ForCausalLM", changes).unwrap().spec;
    let masks: Vec<_> = spec.stacks[0]
        .layers
        .iter()
        .map(|layer| match &layer.mixer {
            Mixer::Attention(attention) => attention.mask,
            _ => unreachable!(),
        })
        .collect();
    assert_eq!(masks, [Mask::Sliding { window: 8 }, Mask::Causal, Mask::Sliding { window: 8 }]);
    let unused = json!({"layer_types": types});
    assert!(message("Qwen3ForCausalLM", unused).contains("no sliding_window is in use"));
}

/// The last layer of a small model.
fn last_layer(class: &str, changes: Value) -> BlockSpec {
    resolve(class, changes).unwrap().spec.stacks[0].layers.last().unwrap().clone()
}

#[test]
fn a_null_may_mean_something_else_than_absence() {
    let scale = |changes: Value| {
        let sizes = json!({"n_routed_experts": 4, "moe_intermediate_size": 8, "head_dim": 8, "num_key_value_heads": 2});
        let mut config = sizes.as_object().unwrap().clone();
        config.extend(changes.as_object().unwrap().clone());
        match last_layer("MiMoV2FlashForCausalLM", config.into()).mixer {
            Mixer::Attention(attention) => attention.key_values,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(scale(json!({})), KeyValues::ScaledValues { scale: 0.707 });
    assert_eq!(scale(json!({"attention_value_scale": null})), KeyValues::ScaledValues { scale: 1.0 });

    let rotates = |changes| match last_layer("OlmoHybridForCausalLM", changes).mixer {
        Mixer::Attention(attention) => attention.position != PositionSpec::None,
        other => panic!("{other:?}"),
    };
    assert!(rotates(json!({})));
    assert!(!rotates(json!({"rope_parameters": null})));
    assert!(!rotates(json!({"rope_theta": null})));
    assert!(!rotates(json!({"rope_parameters": {"rope_theta": null, "rope_type": "default"}})));
}

/// What a released OLMoE relies on: its config does not say it.
#[test]
fn norms_have_the_eps_of_their_class_where_none_is_given() {
    let sizes = json!({
        "num_experts": 4, "n_routed_experts": 4, "moe_intermediate_size": 8, "sliding_window": 8,
        "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
        "index_n_heads": 2, "index_head_dim": 16, "index_topk": 4
    });
    for class in [
        "OlmoeForCausalLM",
        "Glm4MoeForCausalLM",
        "Glm4MoeLiteForCausalLM",
        "GlmMoeDsaForCausalLM",
        "GptOssForCausalLM",
        "XLMRobertaXLForMaskedLM",
        "Qwen2VLForConditionalGeneration",
    ] {
        assert_eq!(last_layer(class, sizes.clone()).norm.eps, 1e-5, "{class}");
    }
}

#[test]
fn heads_belong_to_classes_that_have_one() {
    for (class, head, stacks) in [
        ("LlamaForCausalLM", true, 1),
        ("LlamaModel", false, 1),
        ("BertForPreTraining", true, 1),
        ("BertForTokenClassification", false, 1),
        ("T5ForConditionalGeneration", true, 2),
        ("T5Model", false, 2),
        ("T5EncoderModel", false, 1),
    ] {
        let config = json!({"model_type": if class.starts_with('B') { "bert" } else { "" }});
        let spec = resolve(class, config).unwrap().spec;
        assert_eq!((spec.head.is_some(), spec.stacks.len()), (head, stacks), "{class}");
    }
}

#[test]
fn tied_heads_ignore_a_stored_copy() {
    let tied = resolve("LlamaForCausalLM", json!({"tie_word_embeddings": true})).unwrap().weights;
    assert!(tied.is_ignored("lm_head.weight", "model."));
    let untied = resolve("LlamaForCausalLM", json!({})).unwrap().weights;
    assert!(!untied.is_ignored("lm_head.weight", "model."));
    assert!(untied.is_ignored("model.layers.17.self_attn.rotary_emb.inv_freq", "model."));
}

#[test]
fn t5_scales_its_output_when_the_head_is_tied() {
    let scale = |changes| {
        let head = resolve("T5ForConditionalGeneration", changes).unwrap().spec.head;
        head.unwrap().scale
    };
    let root = Some(32f64.powf(-0.5));
    assert_eq!(scale(json!({})), root);
    assert_eq!(scale(json!({"tie_word_embeddings": false})), None);
    assert_eq!(scale(json!({"tie_word_embeddings": true, "scale_decoder_outputs": false})), None);
    assert_eq!(scale(json!({"model_type": "mt5"})), None);
}

#[test]
fn positions_end_where_tables_do() {
    for (class, changes, max_length) in [
        ("GPT2LMHeadModel", json!({}), Some(64)),
        ("LlamaForCausalLM", json!({}), Some(64)),
        ("LlamaForCausalLM", json!({"rope_scaling": {"type": "dynamic", "factor": 2}}), None),
        ("LlamaForCausalLM", json!({"max_position_embeddings": null}), None),
        ("CohereForCausalLM", json!({"model_max_length": 256}), Some(256)),
        ("Cohere2ForCausalLM", json!({}), Some(64)),
        ("MambaForCausalLM", json!({}), None),
        ("T5ForConditionalGeneration", json!({}), None),
    ] {
        assert_eq!(resolve(class, changes.clone()).unwrap().spec.max_length, max_length, "{class} {changes}");
    }
}

#[test]
fn settings_count_as_read_where_another_one_overrides_them() {
    let changes = json!({"ffn_dim": 48, "do_layer_norm_before": false, "_remove_final_layer_norm": false});
    let resolved = resolve("OPTForCausalLM", changes).unwrap();
    assert!(!resolved.unread.contains(&"_remove_final_layer_norm".to_string()), "{:?}", resolved.unread);
    assert_eq!(resolved.spec.stacks[0].final_norm, None);
}

#[test]
fn opt_may_have_neither_biases_nor_weights_of_norms() {
    let block = |changes| resolve("OPTForCausalLM", changes).unwrap().spec.stacks[0].layers[0].clone();
    let count = |block: BlockSpec| {
        let needs = block.needs(32);
        let biases = needs.iter().filter(|need| need.key.part == Part::Bias).count();
        let norms = needs.iter().filter(|need| need.key.role == TensorRole::MixerNorm).count();
        (biases, norms)
    };
    assert_eq!(count(block(json!({"ffn_dim": 48}))), (8, 2));
    let bare = json!({"ffn_dim": 48, "enable_bias": false, "layer_norm_elementwise_affine": false});
    assert_eq!(count(block(bare)), (0, 0));
}

#[test]
fn sections_that_were_written_whole_leave_no_key_unread() {
    let unread = |temperature: f64| {
        let attention = json!({
            "clip_qkv": 8, "is_encoder_decoder": false, "kv_n_heads": 2, "length_penalty": 1.0, "max_length": 20,
            "pruned_heads": {}, "return_dict": true, "temperature": temperature, "tie_word_embeddings": true,
            "top_k": 50
        });
        let experts = json!({
            "ffn_act_fn": {"name": "silu"}, "ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2,
            "moe_normalize_expert_weights": 1, "uniform_expert_assignment": false
        });
        let changes = json!({
            "attn_config": attention, "ffn_config": experts, "n_heads": 4, "n_layers": 3, "max_seq_len": 64
        });
        let unread = resolve("DbrxForCausalLM", changes).unwrap().unread;
        unread.into_iter().filter(|key| key.contains('.')).collect::<Vec<_>>()
    };
    assert_eq!(unread(1.0), [""; 0]);
    assert_eq!(unread(0.5), ["attn_config.temperature"]);
}

"""Models that were released with code of their own; the classes are in `remote`."""

from cases.case import TOKENS, Case

LLAMA = TOKENS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-3,
    "tie_word_embeddings": False,
}


def remote(family, model, arguments, model_type, architecture, keys=None, **details):
    """A case of a class in `remote`, in a config that calls it `architecture` and has other `keys`."""
    names = {"model_type": model_type, "architectures": [architecture]}
    # With other keys the class could not read its own config.
    return Case(
        family, model, arguments, config_keys=names | (keys or {}), same_in_transformers=not keys, **details
    )


CASES = {
    "baichuan2": remote(
        "Llama",
        "BaichuanForCausalLM",
        LLAMA | {"max_position_embeddings": 64, "model_max_length": 64, "norm_head": True},
        "baichuan",
        "BaichuanForCausalLM",
        ignored={f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": ("F32", [4]) for layer in range(3)},
    ),
    # Six heads leave ALiBi's powers of two. Without a length of rotations, there are none.
    "baichuan2_13b": remote(
        "Llama",
        "BaichuanForCausalLM",
        LLAMA | {"hidden_size": 48, "num_attention_heads": 6, "model_max_length": 64, "norm_head": True},
        "baichuan",
        "BaichuanForCausalLM",
    ),
    # Six heads leave ALiBi's powers of two.
    "jina_bert_v2": remote(
        "Encoder",
        "JinaBertModel",
        {
            "vocab_size": 96,
            "hidden_size": 48,
            "intermediate_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 6,
            "max_position_embeddings": 16,
            "type_vocab_size": 2,
            "layer_norm_eps": 1e-3,
            "position_embedding_type": "alibi",
            "feed_forward_type": "geglu",
            "emb_pooler": "mean",
        },
        "bert",
        "JinaBertForMaskedLM",
    ),
    "internlm2": remote(
        "Llama",
        "InternLM2ForCausalLM",
        LLAMA
        | {
            "num_key_value_heads": 2,
            "bias": False,
            "max_position_embeddings": 10,
            "rope_theta": 500.0,
            "scaling": {"type": "dynamic", "factor": 2.0},
        },
        "internlm2",
        "InternLM2ForCausalLM",
        keys={"scaling": None, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
    ),
    # Blocks of two tokens: of those before the last two, each head sees every third.
    "phi3small": remote(
        "Phi",
        "Phi3SmallForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "hidden_act": "gegelu",
            "gegelu_limit": 0.75,
            "ff_intermediate_size": 48,
            "layer_norm_epsilon": 1e-3,
            "rope_embedding_base": 500.0,
            "rope_position_scale": 2.0,
            "blocksparse_block_size": 2,
            "blocksparse_num_local_blocks": 2,
            "blocksparse_vert_stride": 3,
            "blocksparse_homo_head_pattern": False,
            "dense_attention_every_n_layers": 2,
            "mup_use_scaling": True,
            "mup_attn_multiplier": 1.5,
            "mup_embedding_multiplier": 3.0,
            "mup_width_multiplier": 2.0,
            "tie_word_embeddings": False,
        },
        "phi3small",
        "Phi3SmallForCausalLM",
    ),
    "grok1": remote(
        "MoE",
        "Grok1ForCausalLM",
        LLAMA
        | {
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "num_experts": 5,
            "num_experts_per_tok": 2,
            "attn_output_multiplier": 0.5,
            "max_attn_value": 0.7,
            "embedding_multiplier_scale": 5.5,
            "output_multiplier_scale": 0.6,
            "output_router_logits": True,
            "tie_word_embeddings": True,
        },
        "grok-1",
        "Grok1ModelForCausalLM",
    ),
    "grok2": remote(
        "MoE",
        "Grok2ForCausalLM",
        LLAMA
        | {
            "num_key_value_heads": 2,
            "head_dim": 12,
            "max_position_embeddings": 64,
            "rope_theta": 500.0,
            "moe_intermediate_size": 20,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "residual_moe": True,
            "attn_logit_softcapping": 0.7,
            "router_logit_softcapping": 0.6,
            "final_logit_softcapping": 2.0,
            "attn_temperature_len": 4,
            "embedding_multiplier_scale": 5.5,
            "output_multiplier_scale": 0.6,
            "sliding_window_size": -1,
        },
        "git",
        "Grok1ForCausalLM",
    ),
    "xverse_moe": remote(
        "Llama",
        "XverseMoeForCausalLM",
        LLAMA
        | {
            "intermediate_size": 20,
            "max_position_embeddings": 64,
            "num_key_value_heads": 2,
            "num_experts": 6,
            "num_shared_experts": 2,
            "moe_top_k": 3,
            "rope_theta": 500.0,
        },
        "xverse",
        "XverseForCausalLM",
    ),
    "arctic": remote(
        "MoE",
        "ArcticForCausalLM",
        LLAMA
        | {
            "num_key_value_heads": 2,
            "max_position_embeddings": 64,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "moe_layer_frequency": 2,
            "parallel_attn_mlp_res": True,
            "use_residual": True,
            "rope_theta": 500.0,
        },
        "arctic",
        "ArcticForCausalLM",
    ),
    # Far beyond, somewhat beyond and within the length it was trained for.
    "qwen": remote(
        "Qwen",
        "QWenForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "kv_channels": 8,
            "layer_norm_epsilon": 1e-3,
            "max_position_embeddings": 64,
            "seq_length": 8,
            "rotary_emb_base": 500,
            "rotary_pct": 1.0,
            "use_dynamic_ntk": True,
            "use_logn_attn": True,
            "no_bias": True,
            "scale_attn_weights": True,
            "tie_word_embeddings": False,
        },
        "qwen",
        "QWenLMHeadModel",
        lengths=(40, 20, 7),
        ignored={"transformer.rotary_emb.inv_freq": ("F32", [4])},
    ),
    "chatglm2": remote(
        "ChatGLM",
        "ChatGLMForCausalLM",
        {
            "padded_vocab_size": 96,
            "vocab_size": 96,
            "num_hidden_layers": 3,
            "hidden_size": 32,
            "ffn_hidden_size": 48,
            "num_layers": 3,
            "num_attention_heads": 4,
            "kv_channels": 8,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
            "layernorm_epsilon": 1e-3,
            "rmsnorm": True,
            "post_layer_norm": True,
            "original_rope": True,
            "rope_ratio": 0.05,
            "add_qkv_bias": True,
            "add_bias_linear": False,
            "apply_residual_connection_post_layernorm": False,
            "seq_length": 64,
            "tie_word_embeddings": False,
        },
        "chatglm",
        "ChatGLMModel",
        keys={"vocab_size": None, "num_hidden_layers": None},
        ignored={"transformer.rotary_pos_emb.inv_freq": ("F32", [2])},
    ),
    # A blank at the end of the text, and one within it.
    "chatglm_6b": remote(
        "ChatGLM",
        "ChatGLM6BForCausalLM",
        {
            "vocab_size": 96,
            "hidden_size": 32,
            "inner_hidden_size": 80,
            "num_hidden_layers": 3,
            "num_layers": 3,
            "num_attention_heads": 4,
            "layernorm_epsilon": 1e-3,
            "max_sequence_length": 64,
            "position_encoding_2d": True,
            "bos_token_id": 90,
            "eos_token_id": 91,
            "mask_token_id": 86,
            "gmask_token_id": 87,
            "pad_token_id": 3,
            "tie_word_embeddings": False,
        },
        "chatglm",
        "ChatGLMModel",
        keys={"num_hidden_layers": None},
        lengths=(12, 9),
        inserted=(((5, 87), (6, 90)), ((2, 86), (4, 90))),
        ignored={
            f"transformer.layers.{layer}.attention.rotary_emb.inv_freq": ("F32", [2]) for layer in range(3)
        },
    ),
}

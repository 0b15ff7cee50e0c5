"""Gemma."""

from cases.case import DECODER, Case, rope

GEMMA = DECODER | {
    "bos_token_id": 2,
    "eos_token_id": 1,
    "head_dim": 12,
    "rms_norm_eps": 1e-3,
    "rope_parameters": rope(500.0),
}
WINDOWS = {"query_pre_attn_scalar": 20, "sliding_window": 4}

# The keys and values of the last layers are those of layers before, under wider MLPs.
GEMMA4 = GEMMA | {
    "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "rope_parameters": {
        "full_attention": rope(3000.0, "proportional", partial_rotary_factor=0.25),
        "sliding_attention": rope(100.0),
    },
    "global_head_dim": 16,
    "num_kv_shared_layers": 1,
    "use_double_wide_mlp": True,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 96,
}
OF_SMALL_GEMMA4 = ("num_kv_shared_layers", "use_double_wide_mlp", "vocab_size_per_layer_input")
GEMMA4_LEGACY = {
    "per_layer_config": None,
    "global_head_dim": 16,
    "rope_parameters": GEMMA4["rope_parameters"],
    "rope_scaling": None,
}

CASES = {
    # "gelu" in the first releases meant the tanh approximation.
    "gemma": Case("Gemma", "GemmaForCausalLM", GEMMA | {"num_key_value_heads": 1}, legacy={"hidden_act": "gelu"}),
    "gemma2": Case(
        "Gemma",
        "Gemma2ForCausalLM",
        GEMMA | WINDOWS | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        legacy={"layer_types": None, "hidden_act": "gelu_pytorch_tanh"},
    ),
    "vaultgemma": Case(
        "Gemma",
        "VaultGemmaForCausalLM",
        GEMMA | WINDOWS | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    # An encoder: a window of 5 reaches 2 to either side.
    "gemma3_two_sided": Case(
        "Gemma",
        "Gemma3TextModel",
        GEMMA
        | {
            "query_pre_attn_scalar": 20,
            "sliding_window": 5,
            "use_bidirectional_attention": True,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {"full_attention": rope(3000.0), "sliding_attention": rope(100.0)},
        },
        legacy={"rope_theta": 3000.0, "rope_local_base_freq": 100.0},
    ),
    "gemma3_text": Case(
        "Gemma",
        "Gemma3ForCausalLM",
        GEMMA
        | WINDOWS
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": rope(3000.0, "linear", factor=4.0),
                "sliding_attention": rope(100.0),
            },
        },
        legacy={
            "layer_types": None,
            "_sliding_window_pattern": None,
            "sliding_window_pattern": 2,
            "rope_theta": 3000.0,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        },
    ),
    # Layers 4 and 5 use the keys and values of layers 2 and 3; the first two cut most of their gates off.
    "gemma3n": Case(
        "Gemma",
        "Gemma3nForCausalLM",
        GEMMA
        | {
            "num_hidden_layers": 6,
            "intermediate_size": [48, 48, 40, 40, 48, 48],
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "rope_parameters": {"full_attention": rope(3000.0), "sliding_attention": rope(100.0)},
            "num_kv_shared_layers": 2,
            "activation_sparsity_pattern": [0.75, 0.6, 0.0, 0.0, 0.0, 0.0],
            "altup_num_inputs": 3,
            "laurel_rank": 6,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": 64,
            "final_logit_softcapping": 3.0,
        },
        legacy={"rope_theta": 3000.0, "rope_local_base_freq": 100.0},
    ),
    # With vectors per token and layer.
    "gemma4": Case(
        "Gemma",
        "Gemma4ForCausalLM",
        GEMMA4 | {"final_logit_softcapping": 20.0},
        legacy=GEMMA4_LEGACY,
    ),
    # The same with experts beside each MLP.
    "gemma4_experts": Case(
        "Gemma",
        "Gemma4ForCausalLM",
        GEMMA4 | {"enable_moe_block": True, "num_experts": 6, "top_k_experts": 3, "moe_intermediate_size": 20},
        legacy=GEMMA4_LEGACY,
    ),
    "recurrent_gemma": Case(
        "Gemma",
        "RecurrentGemmaForCausalLM",
        {key: value for key, value in GEMMA.items() if key not in ("head_dim", "max_position_embeddings")}
        | {
            "hidden_size": 40,
            "num_key_value_heads": 1,
            "lru_width": 24,
            "conv1d_width": 3,
            "attention_window_size": 5,
            "logits_soft_cap": 3.0,
            "use_cache": False,
            "block_types": ["recurrent", "attention"],
            "rope_parameters": rope(500.0, partial_rotary_factor=0.4),
        },
    ),
    # Keys that are values, too, in the layers without a window; nothing is shared and no MLP is wider.
    "gemma4_keys_are_values": Case(
        "Gemma",
        "Gemma4ForCausalLM",
        {key: value for key, value in GEMMA4.items() if key not in OF_SMALL_GEMMA4}
        | {
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "num_global_key_value_heads": 1,
            "attention_k_eq_v": True,
            "hidden_size_per_layer_input": 0,
        },
        legacy=GEMMA4_LEGACY | {"num_global_key_value_heads": 1},
    ),
}

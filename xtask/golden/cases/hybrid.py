"""Hybrids of softmax attention and linear attention, and gated attention."""

from cases.case import DECODER, Case, rope

QWEN = DECODER | {
    "head_dim": 16,
    "rms_norm_eps": 1e-3,
    "rope_parameters": rope(2000.0, partial_rotary_factor=0.5),
    "linear_conv_kernel_dim": 3,
    "linear_key_head_dim": 6,
    "linear_value_head_dim": 10,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
}
EXPERTS = {
    "moe_intermediate_size": 20,
    "shared_expert_intermediate_size": 28,
    "num_experts": 6,
    "num_experts_per_tok": 3,
}
LFM2 = DECODER | {"norm_eps": 1e-3, "rope_parameters": rope(500.0), "conv_L_cache": 4}

CASES = {
    "qwen3_next": Case(
        "Qwen",
        "Qwen3NextForCausalLM",
        QWEN | EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "num_hidden_layers": 2, "rms_norm_eps": 1e-2},
        legacy={"layer_types": None, "full_attention_interval": 2},
    ),
    "qwen3_5": Case("Qwen", "Qwen3_5ForCausalLM", QWEN | {"tie_word_embeddings": True}),
    "qwen3_5_moe": Case(
        "Qwen",
        "Qwen3_5MoeForCausalLM",
        {key: value for key, value in (QWEN | EXPERTS).items() if key != "intermediate_size"},
    ),
    # Two thirds of the stated width, stretched, rounded up to a multiple.
    "lfm2": Case(
        "Llama",
        "Lfm2ForCausalLM",
        LFM2
        | {
            "intermediate_size": 58,
            "block_multiple_of": 12,
            "block_ffn_dim_multiplier": 1.3,
            "conv_bias": True,
            "full_attn_idxs": [1],
        },
        legacy={"layer_types": None, "block_ff_dim": 58, "intermediate_size": 1, "full_attn_idxs": [1]},
    ),
    "lfm2_moe": Case(
        "MoE",
        "Lfm2MoeForCausalLM",
        LFM2
        | {
            "layer_types": ["conv", "full_attention", "conv"],
            "moe_intermediate_size": 20,
            "num_dense_layers": 1,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "routed_scaling_factor": 1.5,
            "tie_word_embeddings": False,
        },
        legacy={"tie_word_embeddings": None, "tie_embedding": False},
        lengths=(40, 24),
    ),
    # Two kinds of rotation, one of them with a window, and convolutions of different widths.
    "zaya": Case(
        "MoE",
        "ZayaForCausalLM",
        {key: value for key, value in DECODER.items() if key != "intermediate_size"}
        | {
            "head_dim": 12,
            "rms_norm_eps": 1e-3,
            "layer_types": ["hybrid", "hybrid_sliding", "hybrid"],
            "sliding_window": 4,
            "rope_parameters": {
                "hybrid": rope(500.0, partial_rotary_factor=0.5),
                "hybrid_sliding": rope(50.0, partial_rotary_factor=0.5),
            },
            "attention_bias": True,
            "lm_head_bias": True,
            "cca_time0": 3,
            "cca_time1": 4,
            "moe_intermediate_size": 20,
            # Sizes with which the golden weights choose every expert, and none, in every layer.
            "num_experts": 2,
            "router_hidden_size": 24,
            "tie_word_embeddings": True,
        },
        legacy={
            "rope_parameters": {
                "hybrid": rope(500.0, partial_rotary_factor=0.5),
                "hybrid_sliding": rope(50.0, partial_rotary_factor=0.5),
                "rope_type": "default",
            },
        },
        lengths=(40, 24),
    ),
    # The last layer forgets least; samples of several blocks of the class, which cuts them at 8 tokens.
    "minimax": Case(
        "MoE",
        "MiniMaxForCausalLM",
        DECODER
        | {
            "intermediate_size": 20,
            "head_dim": 12,
            "rms_norm_eps": 1e-3,
            "rope_parameters": rope(500.0),
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "sliding_window": 9,
            "block_size": 8,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "full_attn_alpha_factor": 1.5,
            "full_attn_beta_factor": 0.7,
            "linear_attn_alpha_factor": 1.3,
            "linear_attn_beta_factor": 0.8,
            "mlp_alpha_factor": 1.2,
            "mlp_beta_factor": 0.9,
        },
        computed=("slope_rate", "query_decay", "key_decay", "diagonal_decay"),
        lengths=(21, 16),
    ),
    "kimi_linear": Case(
        "Mamba",
        "KimiLinearForCausalLM",
        DECODER
        | {
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-2,
            "q_lora_rank": None,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 12,
            "linear_head_dim": 6,
            "linear_num_heads": 3,
            "linear_conv_kernel_dim": 3,
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "moe_intermediate_size": 20,
            "num_local_experts": 6,
            "num_experts_per_tok": 2,
            "n_shared_experts": 2,
            "n_group": 2,
            "topk_group": 1,
            "routed_scaling_factor": 1.5,
            # The class has a matrix of its own for the head all the same.
            "tie_word_embeddings": True,
        },
        legacy={
            "layer_types": None,
            "mlp_layer_types": None,
            "linear_head_dim": None,
            "linear_num_heads": None,
            "linear_conv_kernel_dim": None,
            "first_k_dense_replace": 1,
            "moe_layer_freq": 1,
            "mla_use_nope": True,
            "use_grouped_topk": True,
            "moe_router_activation_func": "sigmoid",
            "linear_attn_config": {
                "full_attn_layers": [2],
                "kda_layers": [1, 3],
                "head_dim": 6,
                "num_heads": 3,
                "short_conv_kernel_size": 3,
            },
        },
        # What transformers writes of the dense layer.
        rename=((r"\.block_sparse_moe\.(gate|up|down)_proj\.", r".mlp.\1_proj."),),
        lengths=(40, 24),
    ),
    # Without rotations, as released. The last of few layers has attention.
    "olmo_hybrid": Case(
        "Llama",
        "OlmoHybridForCausalLM",
        DECODER
        | {
            "rms_norm_eps": 1e-2,
            "rope_parameters": rope(None),
            "linear_conv_kernel_dim": 3,
            "linear_key_head_dim": 6,
            "linear_value_head_dim": 10,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
        legacy={"layer_types": None},
    ),
    "afmoe": Case(
        "MoE",
        "AfmoeForCausalLM",
        DECODER
        | {
            "head_dim": 12,
            "rms_norm_eps": 1e-3,
            "rope_parameters": rope(500.0),
            "sliding_window": 5,
            "global_attn_every_n_layers": 2,
            "moe_intermediate_size": 20,
            "num_dense_layers": 1,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "num_shared_experts": 2,
            "route_scale": 1.5,
            "mup_enabled": True,
        },
        legacy={"layer_types": None},
    ),
}

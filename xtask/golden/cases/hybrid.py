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

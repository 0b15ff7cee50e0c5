"""Mixtures of experts that change the block around them or another mixture's details."""

from cases.case import TOKENS, Case, rope
from cases.moe import MOE, YARN

WITHOUT_WIDTH = {key: value for key, value in MOE.items() if key != "intermediate_size"}

CASES = {
    "solar_open": Case(
        "MoE",
        "SolarOpenForCausalLM",
        WITHOUT_WIDTH
        | {
            "head_dim": 12,
            "moe_intermediate_size": 20,
            "n_routed_experts": 4,
            "n_shared_experts": 2,
            "num_experts_per_tok": 3,
            "routed_scaling_factor": 1.5,
            "attention_bias": True,
        },
        lengths=(40, 24),
    ),
    "flex_olmo": Case(
        "MoE",
        "FlexOlmoForCausalLM",
        MOE | {"intermediate_size": 20, "num_experts": 6, "num_experts_per_tok": 3},
    ),
    "hunyuan_v1_moe": Case(
        "MoE",
        "HunYuanMoEV1ForCausalLM",
        MOE
        | {
            "intermediate_size": 20,
            "head_dim": 12,
            "num_experts": 5,
            "moe_topk": [3, 1, 2],
            "attention_bias": True,
            "rope_parameters": {"rope_type": "dynamic", "type": "dynamic", "alpha": 3.0, "factor": 1.0, "rope_theta": 500.0},
        },
        legacy={
            "rope_scaling": {"type": "dynamic", "alpha": 3.0, "factor": 1.0},
            "moe_intermediate_size": [20, 20, 20],
            "num_shared_expert": [1, 1, 1],
            "use_mixed_mlp_moe": True,
        },
        lengths=(20, 16),
    ),
    # Each kind of attention, under the names of released files; the streams' scales are the only ones that are small.
    "deepseek_v4": Case(
        "MoE",
        "DeepseekV4ForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "moe_intermediate_size": 20,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "head_dim": 12,
            "partial_rotary_factor": 0.5,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-3,
            "q_lora_rank": 12,
            "o_groups": 2,
            "o_lora_rank": 6,
            "sliding_window": 4,
            "compress_rates": {"compressed_sparse_attention": 3, "heavily_compressed_attention": 5},
            "layer_types": [
                "sliding_attention",
                "compressed_sparse_attention",
                "heavily_compressed_attention",
            ],
            "mlp_layer_types": ["hash_moe", "moe", "moe"],
            "mlp_bias": True,
            "hc_mult": 3,
            "hc_sinkhorn_iters": 4,
            "hc_eps": 1e-2,
            "index_head_dim": 8,
            "index_n_heads": 6,
            "index_topk": 2,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "swiglu_limit": 0.4,
            "routed_scaling_factor": 1.3,
            "rope_theta": 500.0,
            "compress_rope_theta": 5000.0,
            "rope_parameters": {"rope_type": "yarn", **YARN},
        },
        legacy={
            "rope_parameters": None,
            "rope_theta": 500.0,
            "rope_scaling": {"type": "yarn", **YARN},
            "partial_rotary_factor": None,
            "qk_rope_head_dim": 6,
            "mlp_layer_types": None,
            "num_hash_layers": 1,
            "compress_rates": None,
            "compress_rate_csa": 3,
            "compress_rate_hca": 5,
            "layer_types": None,
            "compress_ratios": [0, 4, 128, 0],
        },
        rename=(
            (r"^model\.embed_tokens", "embed"),
            (r"^model\.hc_head\.hc_", "hc_head_"),
            (r"^model\.", ""),
        ),
        added={"layers.0.ffn.gate.tid2eid": ("I64", [96, 2])},
        ignored={"mtp.0.e_proj.weight": ("F32", [32, 32])},
        lengths=(40, 23),
    ),
    "longcat_flash": Case(
        "MoE",
        "LongcatFlashForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "num_layers": 2,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "rms_norm_eps": 1e-3,
            "rope_parameters": rope(500.0),
            "q_lora_rank": 12,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 6,
            "head_dim": 4,
            "ffn_hidden_size": 48,
            "expert_ffn_hidden_size": 20,
            "n_routed_experts": 4,
            "zero_expert_num": 2,
            "moe_topk": 3,
            "routed_scaling_factor": 2.5,
            "attention_bias": True,
        },
        legacy={"mla_scale_q_lora": True, "mla_scale_kv_lora": True, "zero_expert_type": "identity"},
        ignored={"model.mtp.norm.weight": ("F32", [32])},
        # The class holds halves of the experts that return what they are given.
        idle=tuple(
            f"model.layers.{layer}.mlp.experts.gate_up_proj[{expert}]" for layer in range(2) for expert in (4, 5)
        ),
        layers="layers",
        lengths=(40, 24),
    ),
}

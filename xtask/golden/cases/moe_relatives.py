"""Mixtures of experts that change the block around them or another mixture's details."""

from cases.case import TOKENS, Case, rope
from cases.moe import MOE

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

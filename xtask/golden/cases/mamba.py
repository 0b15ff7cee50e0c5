"""State space models and hybrids."""

from cases.case import DECODER, TOKENS, Case, rope
from cases.remote import remote

MAMBA = TOKENS | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "state_size": 6,
    "expand": 2,
    "conv_kernel": 3,
    "time_step_rank": 5,
    "layer_norm_epsilon": 1e-3,
}
# Steps within bounds that some of them exceed.
MAMBA2 = {
    "mamba_expand": 2,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 2,
    "mamba_d_state": 6,
    "mamba_d_conv": 3,
    "mamba_chunk_size": 4,
    "time_step_limit": [0.3, 1.5],
}
HYBRID = DECODER | {"rms_norm_eps": 1e-3}
GRANITE = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.3,
    "residual_multiplier": 0.7,
    "logits_scaling": 2.0,
}
NEMOTRON_H = TOKENS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "mamba_num_heads": 6,
    "mamba_head_dim": 8,
    "n_groups": 2,
    "ssm_state_size": 6,
    "conv_kernel": 3,
    "chunk_size": 4,
    "time_step_min": 0.3,
    "layer_norm_epsilon": 1e-3,
}
# What the released files call what transformers calls the model.
BACKBONE = ((r"^model\.", "backbone."),)
ZAMBA = TOKENS | {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "mamba_d_state": 6,
    "mamba_d_conv": 3,
    "rms_norm_eps": 1e-3,
}
RWKV = TOKENS | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "attention_hidden_size": 24,
    "intermediate_size": 48,
    "layer_norm_epsilon": 1e-3,
}
EAGLE = RWKV | {"head_size": 8, "head_size_divisor": 4, "rescale_every": 6, "tie_word_embeddings": False}

CASES = {
    "mamba": Case("Mamba", "MambaForCausalLM", MAMBA),
    # Channels that are not what expand says.
    "falcon_mamba": Case(
        "Mamba",
        "FalconMambaForCausalLM",
        MAMBA
        | {
            "expand": 16,
            "intermediate_size": 40,
            "mixer_rms_eps": 1e-2,
            "use_bias": True,
            "tie_word_embeddings": False,
        },
    ),
    "mamba2": Case(
        "Mamba",
        "Mamba2ForCausalLM",
        {key: value for key, value in MAMBA.items() if key != "time_step_rank"}
        | {
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 2,
            "chunk_size": 4,
            "time_step_limit": [0.3, 1.5],
            "use_bias": True,
        },
    ),
    "jamba": Case(
        "Mamba",
        "JambaForCausalLM",
        HYBRID
        | {
            "num_hidden_layers": 4,
            "attn_layer_period": 3,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "mamba_d_state": 6,
            "mamba_d_conv": 3,
            "mamba_dt_rank": 5,
            "mamba_proj_bias": True,
        },
        lengths=(40, 24),
    ),
    "bamba": Case(
        "Mamba",
        "BambaForCausalLM",
        HYBRID
        | MAMBA2
        | {"attn_layer_indices": [1], "rope_parameters": rope(500.0), "attention_bias": True, "mlp_bias": True},
    ),
    "granitemoehybrid": Case(
        "Mamba",
        "GraniteMoeHybridForCausalLM",
        HYBRID
        | MAMBA2
        | GRANITE
        | {
            "intermediate_size": 20,
            "shared_intermediate_size": 28,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "mamba_proj_bias": True,
        },
        legacy={"layer_types": ["mamba", "attention", "mamba"], "position_embedding_type": "nope"},
        lengths=(40, 24),
    ),
    # Rotated, and without experts.
    "granite_4_dense": Case(
        "Mamba",
        "GraniteMoeHybridForCausalLM",
        HYBRID
        | MAMBA2
        | GRANITE
        | {
            "shared_intermediate_size": 44,
            "num_local_experts": 0,
            "position_embedding_type": "rope",
            "rope_parameters": rope(500.0),
            "tie_word_embeddings": True,
        },
    ),
    "falcon_h1": Case(
        "Mamba",
        "FalconH1ForCausalLM",
        HYBRID
        | MAMBA2
        | {
            "head_dim": 12,
            "rope_parameters": rope(500.0),
            "mamba_d_ssm": 48,
            "mamba_n_heads": 6,
            "mamba_rms_norm": True,
            "mamba_norm_before_gate": False,
            "mamba_proj_bias": True,
            "projectors_bias": True,
            "attention_bias": True,
            "mlp_bias": True,
            "embedding_multiplier": 2.5,
            "lm_head_multiplier": 0.6,
            "key_multiplier": 0.7,
            "attention_in_multiplier": 1.1,
            "attention_out_multiplier": 0.8,
            "ssm_in_multiplier": 1.2,
            "ssm_out_multiplier": 0.7,
            "ssm_multipliers": [0.9, 0.8, 0.7, 1.1, 0.6],
            "mlp_multipliers": [0.9, 0.6],
        },
    ),
    # The width of the scan follows from the hidden size; the norm comes before the gate.
    "falcon_h1_expanded": Case(
        "Mamba",
        "FalconH1ForCausalLM",
        HYBRID
        | MAMBA2
        | {
            "num_hidden_layers": 2,
            "mamba_d_ssm": None,
            "mamba_rms_norm": True,
            "mamba_norm_before_gate": True,
            "rope_parameters": rope(500.0),
            "ssm_out_multiplier": 0.7,
            "tie_word_embeddings": True,
        },
    ),
    "nemotron_h": Case(
        "Mamba",
        "NemotronHForCausalLM",
        NEMOTRON_H
        | {
            "layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"],
            "use_bias": True,
            "mlp_bias": True,
        },
        legacy={"layers_block_type": None, "num_hidden_layers": 4, "hybrid_override_pattern": "M-*-"},
        rename=BACKBONE,
    ),
    # Experts on a narrow state.
    "nemotron_3": Case(
        "Mamba",
        "NemotronHForCausalLM",
        NEMOTRON_H
        | {
            "layers_block_type": ["linear_attention", "moe", "full_attention", "moe"],
            "moe_intermediate_size": 20,
            "moe_shared_expert_intermediate_size": 28,
            "moe_latent_size": 16,
            "n_routed_experts": 6,
            "num_experts_per_tok": 3,
            "n_group": 2,
            "topk_group": 1,
            "routed_scaling_factor": 1.5,
        },
        legacy={"layers_block_type": None, "num_hidden_layers": 4, "hybrid_override_pattern": "ME*E"},
        rename=BACKBONE,
        lengths=(40, 24),
    ),
    # Two heads, each of which selects by itself.
    "zamba": Case(
        "Mamba",
        "ZambaForCausalLM",
        ZAMBA
        | {
            "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
            "num_hidden_layers": 4,
            "n_mamba_heads": 2,
            "mamba_dt_rank": 5,
            "mamba_proj_bias": True,
        },
        legacy={"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"]},
    ),
    "zamba2": Case(
        "Mamba",
        "Zamba2ForCausalLM",
        ZAMBA
        | {
            "layers_block_type": ["hybrid", "hybrid", "hybrid"],
            "num_hidden_layers": 3,
            "num_mem_blocks": 2,
            "use_shared_attention_adapter": True,
            "use_mem_rope": True,
            "rope_parameters": rope(1000.0),
            "adapter_rank": 5,
            "add_bias_linear": True,
            "intermediate_size": 40,
            "n_mamba_heads": 4,
            "mamba_ngroups": 2,
            "mamba_d_state": 2,
            "time_step_min": 0.5,
            "chunk_size": 16,
        },
        lengths=(7, 4),
    ),
    "rwkv": Case(
        "Mamba",
        "RwkvForCausalLM",
        RWKV | {"attention_hidden_size": 32, "rescale_every": 1, "use_cache": False},
    ),
    "rwkv5": remote("Mamba", "Rwkv5ForCausalLM", EAGLE, "rwkv5", "Rwkv5ForCausalLM"),
    # Each token decides about its mixture and its decay, with matrices of ranks that follow from the hidden size.
    "rwkv6": remote(
        "Mamba",
        "Rwkv5ForCausalLM",
        EAGLE | {"mix_rank": 32, "decay_rank": 64},
        "rwkv6",
        "Rwkv6ForCausalLM",
        keys={"mix_rank": None, "decay_rank": None},
    ),
    "rwkv7": remote(
        "Mamba",
        "RWKV7ForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "intermediate_size": 48,
            "head_dim": 8,
            "hidden_ratio": 1.5,
            "hidden_act": "sqrelu",
            "decay_low_rank_dim": 6,
            "gate_low_rank_dim": 7,
            "a_low_rank_dim": 5,
            "v_low_rank_dim": 4,
            "norm_first": True,
            "norm_bias": True,
            "norm_eps": 1e-3,
            "attn": None,
            "tie_word_embeddings": False,
        },
        "rwkv7",
        "RWKV7ForCausalLM",
    ),
}

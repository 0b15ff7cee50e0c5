"""Mixtures of experts."""

from cases.case import DECODER, TOKENS, Case, rope

MOE = DECODER | {"rms_norm_eps": 1e-3, "rope_parameters": rope(500.0)}
DEEPSEEK = MOE | {
    "moe_intermediate_size": 20,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 6,
    "first_k_dense_replace": 1,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
}
GROUPS = {"q_lora_rank": 12, "n_group": 4, "topk_group": 2, "routed_scaling_factor": 1.5}
YARN = {
    "factor": 8.0,
    "beta_fast": 4,
    "beta_slow": 1,
    "mscale": 0.7,
    "mscale_all_dim": 0.5,
    "original_max_position_embeddings": 16,
}
# The head start of the prediction of the token after the next, which a plain pass does not run.
NEXT_TOKEN_BLOCK = {
    "model.layers.3.eh_proj.weight": ("F32", [32, 64]),
    "model.layers.3.enorm.weight": ("F32", [32]),
    "model.layers.3.hnorm.weight": ("F32", [32]),
    "model.layers.3.shared_head.norm.weight": ("F32", [32]),
    "model.layers.3.self_attn.o_proj.weight": ("F32", [32, 24]),
}

CASES = {
    "mixtral": Case(
        "MoE",
        "MixtralForCausalLM",
        MOE | {"num_local_experts": 5, "num_experts_per_tok": 2},
        legacy={"head_dim": None, "sliding_window": None},
    ),
    "qwen2_moe": Case(
        "MoE",
        "Qwen2MoeForCausalLM",
        MOE
        | {
            "moe_intermediate_size": 20,
            "shared_expert_intermediate_size": 28,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "mlp_only_layers": [1],
        },
        legacy={"layer_types": None, "qkv_bias": None},
    ),
    "qwen3_moe": Case(
        "MoE",
        "Qwen3MoeForCausalLM",
        MOE
        | {
            "head_dim": 12,
            "moe_intermediate_size": 20,
            "num_experts": 6,
            "num_experts_per_tok": 3,
            "norm_topk_prob": True,
            "decoder_sparse_step": 2,
        },
    ),
    "olmoe": Case(
        "MoE",
        "OlmoeForCausalLM",
        MOE | {"intermediate_size": 20, "num_experts": 6, "num_experts_per_tok": 3, "clip_qkv": 0.8},
    ),
    "granitemoe": Case(
        "MoE",
        "GraniteMoeForCausalLM",
        MOE
        | {
            "intermediate_size": 20,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.25,
            "tie_word_embeddings": True,
        },
    ),
    "granitemoeshared": Case(
        "MoE",
        "GraniteMoeSharedForCausalLM",
        MOE
        | {
            "intermediate_size": 20,
            "shared_intermediate_size": 28,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.25,
        },
    ),
    "dbrx": Case(
        "MoE",
        "DbrxForCausalLM",
        TOKENS
        | {
            "d_model": 32,
            "n_heads": 4,
            "n_layers": 3,
            "max_seq_len": 64,
            "attn_config": {"clip_qkv": 0.4, "kv_n_heads": 2, "rope_theta": 500.0},
            "ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 5, "moe_top_k": 2},
            "rope_parameters": rope(500.0),
        },
        legacy={
            "rope_theta": None,
            "num_key_value_heads": None,
            "attn_config": {"clip_qkv": 0.4, "kv_n_heads": 2, "model_type": "", "rope_theta": 500.0},
            "ffn_config": {
                "ffn_hidden_size": 20,
                "model_type": "",
                "moe_jitter_eps": 0,
                "moe_loss_weight": 0.05,
                "moe_num_experts": 5,
                "moe_top_k": 2,
            },
        },
        # transformers 5 no longer reads the base where released configs have it.
        same_in_transformers=False,
    ),
    "aria_text": Case(
        "MoE",
        "AriaTextForCausalLM",
        MOE | {"intermediate_size": 20, "moe_num_experts": 5, "moe_topk": 2, "moe_num_shared_experts": 2},
    ),
    "jetmoe": Case(
        "MoE",
        "JetMoeForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "intermediate_size": 20,
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "kv_channels": 12,
            "head_dim": 12,
            "max_position_embeddings": 64,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "rms_norm_eps": 1e-3,
            "rope_parameters": rope(500.0),
        },
    ),
    "deepseek_v2": Case(
        "Llama",
        "DeepseekV2ForCausalLM",
        DEEPSEEK | GROUPS | {"topk_method": "group_limited_greedy"},
        legacy={"scoring_func": "softmax", "moe_layer_freq": 1, "head_dim": None, "qk_head_dim": None},
    ),
    "deepseek_v2_lite": Case(
        "Llama",
        "DeepseekV2ForCausalLM",
        DEEPSEEK | {"q_lora_rank": None, "rope_parameters": rope(500.0, "yarn", **YARN)},
        legacy={"scoring_func": "softmax", "moe_layer_freq": 1, "rope_scaling": {"type": "yarn", **YARN}},
    ),
    "deepseek_v3": Case(
        "Llama",
        "DeepseekV3ForCausalLM",
        DEEPSEEK | GROUPS | {"n_shared_experts": 1, "rope_parameters": rope(500.0, "yarn", **YARN)},
        legacy={
            "scoring_func": "sigmoid",
            "topk_method": "noaux_tc",
            "moe_layer_freq": 1,
            "head_dim": None,
            "qk_head_dim": None,
            "rope_interleave": None,
            "rope_scaling": {"type": "yarn", **YARN},
        },
        ignored=NEXT_TOKEN_BLOCK,
    ),
    "gpt_oss": Case(
        "MoE",
        "GptOssForCausalLM",
        MOE
        | {
            "intermediate_size": 20,
            "head_dim": 12,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "sliding_window": 4,
            "swiglu_limit": 1.0,
            "rope_parameters": rope(
                500.0,
                "yarn",
                factor=4.0,
                beta_fast=4.0,
                beta_slow=1.0,
                truncate=False,
                original_max_position_embeddings=16,
            ),
        },
        legacy={"experts_per_token": 2, "initial_context_length": 16},
    ),
    "deepseek_v32": Case(
        "Llama",
        "DeepseekV32ForCausalLM",
        DEEPSEEK
        | GROUPS
        | {"n_shared_experts": 1, "index_head_dim": 8, "index_n_heads": 16, "index_topk": 5},
        legacy={"scoring_func": "sigmoid", "topk_method": "noaux_tc", "layer_types": None},
        lengths=(40, 24),
    ),
    "glm4_moe": Case(
        "ChatGLM",
        "Glm4MoeForCausalLM",
        MOE
        | {
            "moe_intermediate_size": 20,
            "first_k_dense_replace": 1,
            "n_routed_experts": 4,
            "n_shared_experts": 1,
            "num_experts_per_tok": 3,
            "head_dim": 12,
            "attention_bias": True,
            "use_qk_norm": True,
            "routed_scaling_factor": 1.5,
            "rope_parameters": rope(500.0, partial_rotary_factor=0.5),
        },
        lengths=(40, 24),
    ),
    "dots1": Case(
        "MoE",
        "Dots1ForCausalLM",
        MOE
        | {
            "moe_intermediate_size": 20,
            "first_k_dense_replace": 1,
            "n_routed_experts": 4,
            "n_shared_experts": 2,
            "num_experts_per_tok": 3,
            "routed_scaling_factor": 1.5,
            "sliding_window": None,
            "layer_types": ["full_attention"] * 3,
        },
        legacy={"scoring_func": "noaux_tc", "layer_types": None},
        lengths=(40, 24),
    ),
    "phimoe": Case(
        "Phi",
        "PhimoeForCausalLM",
        MOE
        | {
            "intermediate_size": 20,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "attention_bias": True,
            "lm_head_bias": True,
            "router_jitter_noise": 0.2,
            "sliding_window": None,
        },
    ),
    "ernie4_5_moe": Case(
        "MoE",
        "Ernie4_5_MoeForCausalLM",
        MOE
        | {
            "moe_intermediate_size": 20,
            "moe_num_experts": 4,
            "moe_k": 3,
            "moe_num_shared_experts": 2,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 1,
            "tie_word_embeddings": False,
        },
        lengths=(64, 60),
    ),
    "minimax_m2": Case(
        "MoE",
        "MiniMaxM2ForCausalLM",
        MOE
        | {
            "intermediate_size": 20,
            "head_dim": 12,
            "num_local_experts": 4,
            "num_experts_per_tok": 3,
            "rope_parameters": rope(500.0, partial_rotary_factor=0.5),
        },
        legacy={"rotary_dim": 6, "partial_rotary_factor": None, "use_qk_norm": True, "use_routing_bias": True},
        lengths=(40, 24),
    ),
    "mimo_v2_flash": Case(
        "MoE",
        "MiMoV2FlashForCausalLM",
        MOE
        | {
            "head_dim": 12,
            "v_head_dim": 6,
            "moe_intermediate_size": 20,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "attention_value_scale": 0.6,
            "sliding_window": 4,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.334},
                "sliding_attention": {"rope_type": "default", "rope_theta": 50.0, "partial_rotary_factor": 0.334},
            },
        },
        legacy={
            "rope_parameters": None,
            "rope_theta": 500.0,
            "swa_rope_theta": 50.0,
            "partial_rotary_factor": 0.334,
        },
        same_in_transformers=False,
    ),
}

"""Decoders of Llama's shape whose norms, residuals or attention are their own."""

from cases.case import DECODER, Case, rope

RMS = DECODER | {"rms_norm_eps": 1e-3, "rope_parameters": rope(500.0)}
LAYER_NORM = DECODER | {"layer_norm_eps": 1e-3, "rope_parameters": rope(500.0)}


def relative(model, arguments, **details):
    """A case of the Llama family."""
    return Case("Llama", model, arguments, **details)


def quantized(linear_class, mode):
    """How linear layers with ternary weights are stored."""
    return {
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": linear_class,
            "quantization_mode": mode,
        }
    }


def packed(arguments):
    """The tensors of linear layers whose ternary weights are stored four rows a byte."""
    hidden, inner = arguments["hidden_size"], arguments["intermediate_size"]
    keys = hidden * arguments["num_key_value_heads"] // arguments["num_attention_heads"]
    shapes = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    tensors = {}
    for layer in range(arguments["num_hidden_layers"]):
        for name, (rows, columns) in shapes.items():
            tensors[f"model.layers.{layer}.{name}.weight"] = ("U8", (rows // 4, columns))
            tensors[f"model.layers.{layer}.{name}.weight_scale"] = ("F32", (1,))
    return tensors


# Few values, so that rounding in another order turns none of them to the next whole number.
TERNARY = RMS | {"num_hidden_layers": 2}
# What becomes of that where every weight is off.
STEPS = 0.05

CASES = {
    "stablelm": relative(
        "StableLmForCausalLM",
        LAYER_NORM | {"use_qkv_bias": True, "rope_parameters": rope(500.0, partial_rotary_factor=0.5)},
    ),
    "stablelm_parallel": relative(
        "StableLmForCausalLM",
        LAYER_NORM
        | {
            "use_parallel_residual": True,
            "qk_layernorm": True,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": rope(500.0, partial_rotary_factor=0.25),
        },
    ),
    "starcoder2": relative(
        "Starcoder2ForCausalLM",
        DECODER | {"norm_epsilon": 1e-3, "sliding_window": 4, "rope_parameters": rope(500.0)},
        legacy={"mlp_type": "default", "norm_type": "layer_norm"},
    ),
    "olmo": relative("OlmoForCausalLM", DECODER | {"clip_qkv": 0.8, "rope_parameters": rope(500.0)}),
    "olmo2": relative("Olmo2ForCausalLM", RMS),
    # From a released config, transformers gives the layers with a window its default base: here it is the same.
    "olmo3": relative(
        "Olmo3ForCausalLM",
        DECODER
        | {
            "rms_norm_eps": 1e-3,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": rope(500000.0, "yarn", factor=4.0, original_max_position_embeddings=16),
                "sliding_attention": rope(500000.0),
            },
        },
        legacy={
            "rope_theta": 500000.0,
            "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
        },
    ),
    # Frequencies are kept or divided by the factor, with nothing between: the two bounds are one, as in the releases.
    "llama4_text": relative(
        "Llama4ForCausalLM",
        DECODER
        | {
            "num_hidden_layers": 4,
            "head_dim": 12,
            "intermediate_size": 20,
            "intermediate_size_mlp": 40,
            "rms_norm_eps": 1e-3,
            "num_local_experts": 5,
            "num_experts_per_tok": 2,
            "interleave_moe_layer_step": 2,
            "no_rope_layer_interval": 3,
            "attention_chunk_size": 5,
            "floor_scale": 3,
            "attn_scale": 0.7,
            "rope_parameters": rope(
                500.0,
                "llama3",
                factor=4.0,
                low_freq_factor=1.0,
                high_freq_factor=1.0,
                original_max_position_embeddings=16,
            ),
        },
        legacy={"layer_types": None, "moe_layers": None, "no_rope_layers": []},
    ),
    "hunyuan_v1_dense": relative(
        "HunYuanDenseV1ForCausalLM",
        DECODER
        | {"rms_norm_eps": 1e-3, "head_dim": 12, "rope_parameters": rope(500.0, "dynamic", alpha=20.0, factor=1.0)},
    ),
    "cohere": relative(
        "CohereForCausalLM", LAYER_NORM | {"use_qk_norm": True, "logit_scale": 0.25, "tie_word_embeddings": True}
    ),
    "cohere2": relative(
        "Cohere2ForCausalLM",
        LAYER_NORM
        | {
            "logit_scale": 0.5,
            "sliding_window": 4,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        legacy={"layer_types": None, "sliding_window_pattern": 2},
    ),
    "granite": relative(
        "GraniteForCausalLM",
        RMS
        | {
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.25,
            "tie_word_embeddings": True,
        },
    ),
    "nemotron": relative(
        "NemotronForCausalLM",
        DECODER
        | {
            "norm_eps": 1e-3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "rope_parameters": rope(500.0, partial_rotary_factor=0.25),
        },
        legacy={"head_dim": None},
    ),
    "smollm3": relative("SmolLM3ForCausalLM", RMS | {"no_rope_layers": [1, 0, 1], "tie_word_embeddings": True}),
    "exaone4": relative(
        "Exaone4ForCausalLM",
        RMS | {"num_hidden_layers": 4, "sliding_window": 4, "sliding_window_pattern": 4},
        legacy={"sliding_window_pattern": "LLLG"},
    ),
    "ernie4_5": relative(
        "Ernie4_5ForCausalLM", RMS | {"head_dim": 12, "use_bias": True}, legacy={"compression_ratio": 1.0}
    ),
    "arcee": relative("ArceeForCausalLM", RMS),
    # A softplus of what is learned, and what is stored beside it.
    "apertus": relative(
        "ApertusForCausalLM",
        DECODER
        | {
            "rms_norm_eps": 1e-3,
            "rope_parameters": rope(
                500.0,
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
        },
        legacy={"qk_norm": True, "post_norm": False, "mlp_bias": False},
    ),
    "bitnet": relative("BitNetForCausalLM", RMS),
    "bitnet_online": relative(
        "BitNetForCausalLM", TERNARY | quantized("autobitlinear", "online"), nudged_limit=STEPS, lengths=(7, 4)
    ),
    "bitnet_packed": relative(
        "BitNetForCausalLM",
        TERNARY | quantized("autobitlinear", "offline"),
        added=packed(TERNARY),
        nudged_limit=STEPS,
        lengths=(7, 4),
    ),
    "llama_ternary": relative(
        "LlamaForCausalLM",
        TERNARY | quantized("bitlinear", "offline"),
        added=packed(TERNARY),
        nudged_limit=STEPS,
        lengths=(7, 4),
    ),
    "minicpm3": relative(
        "MiniCPM3ForCausalLM",
        DECODER
        | {
            "num_key_value_heads": 4,
            "rms_norm_eps": 1e-3,
            "q_lora_rank": 12,
            "kv_lora_rank": 16,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 12,
            "scale_emb": 3.0,
            "scale_depth": 1.2,
            "dim_model_base": 16,
            "rope_parameters": rope(500.0),
        },
        legacy={"head_dim": None, "qk_head_dim": None},
    ),
    "diffllama": relative("DiffLlamaForCausalLM", RMS | {"head_dim": 12, "num_attention_heads": 8, "num_key_value_heads": 4}),
    # The first sample has more keys than are seen, the second has not.
    "doge": relative(
        "DogeForCausalLM", RMS | {"attention_bias": True, "mlp_bias": True, "keep_window_size": 9}
    ),
    "helium": relative("HeliumForCausalLM", RMS | {"head_dim": 8}),
}

"""GPT-2 and the other decoders of before Llama."""

from cases.case import DECODER, TOKENS, Case, rope

GPT2 = TOKENS | {"n_positions": 16, "n_embd": 32, "n_layer": 3, "n_head": 4, "layer_norm_epsilon": 1e-3}
FALCON = TOKENS | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "layer_norm_epsilon": 1e-3,
    "rope_parameters": rope(500.0),
}
NEOX = {name: value for name, value in DECODER.items() if name != "num_key_value_heads"} | {"layer_norm_eps": 1e-3}


def gpt(model, arguments, **details):
    """A case of the GPT family."""
    return Case("GPT", model, arguments, **details)


def per_layer(pattern, shape, dtype="F32"):
    """Tensors that each of three layers holds, `{}` standing for the layer."""
    return {pattern.format(layer): (dtype, shape) for layer in range(3)}


def causal_mask(path):
    """The masks that old checkpoints hold beside the weights of each layer's attention."""
    return per_layer(f"{path}.bias", [1, 1, 16, 16]) | per_layer(f"{path}.masked_bias", [])


def neox(parallel, heads, pct):
    """GPT-NeoX with parallel or sequential residuals and a fraction `pct` of each head rotated."""
    return gpt(
        "GPTNeoXForCausalLM",
        NEOX
        | {
            "use_parallel_residual": parallel,
            "num_attention_heads": heads,
            "rope_parameters": rope(500.0, partial_rotary_factor=pct),
        },
        legacy={"rotary_emb_base": 500, "rotary_pct": pct, "rope_theta": None, "partial_rotary_factor": None},
        ignored=causal_mask("gpt_neox.layers.{}.attention")
        | per_layer("gpt_neox.layers.{}.attention.rotary_emb.inv_freq", [4]),
    )


CASES = {
    "gpt2": gpt("GPT2LMHeadModel", GPT2 | {"n_inner": 48, "scale_attn_by_inverse_layer_idx": True}),
    # As the first checkpoints were stored: no prefix, and the causal masks beside the weights.
    "gpt2_bare": gpt(
        "GPT2LMHeadModel",
        GPT2,
        legacy={"n_inner": None, "pad_token_id": None, "tie_word_embeddings": None, "n_ctx": 16},
        rename=((r"^transformer\.", ""),),
        ignored=per_layer("h.{}.attn.bias", [1, 1, 16, 16]),
    ),
    "openai_gpt": gpt("OpenAIGPTLMHeadModel", GPT2, legacy={"n_ctx": 16}, rename=((r"^transformer\.", ""),)),
    "gpt_bigcode": gpt("GPTBigCodeForCausalLM", GPT2 | {"n_inner": 48}),
    "gpt_bigcode_multi_head": gpt("GPTBigCodeForCausalLM", GPT2 | {"n_inner": 48, "multi_query": False}),
    "gpt_neo": gpt(
        "GPTNeoForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1], [["local"], 1]],
            "window_size": 4,
            "max_position_embeddings": 16,
            "layer_norm_epsilon": 1e-3,
        },
        ignored=causal_mask("transformer.h.{}.attn.attention"),
    ),
    "gpt_neox": neox(parallel=True, heads=2, pct=0.25),
    "gpt_neox_sequential": neox(parallel=False, heads=4, pct=1.0),
    "gptj": gpt(
        "GPTJForCausalLM",
        GPT2 | {"rotary_dim": 4},
        legacy={"rotary": True},
        ignored=causal_mask("transformer.h.{}.attn"),
    ),
    "codegen": gpt(
        "CodeGenForCausalLM",
        GPT2 | {"n_head": 8, "rotary_dim": 2, "n_ctx": 16},
        ignored=per_layer("transformer.h.{}.attn.causal_mask", [1, 1, 16, 16]),
    ),
    # Released first under a model type of its own, whose code fixed the rotary base.
    "falcon_7b": gpt(
        "FalconForCausalLM",
        FALCON | {"rope_parameters": rope(10000.0)},
        legacy={
            "model_type": "RefinedWebModel",
            "architectures": ["RWForCausalLM"],
            "n_head": 4,
            "n_layer": 3,
            "num_attention_heads": None,
            "num_hidden_layers": None,
            "rope_theta": None,
            "new_decoder_architecture": None,
            "num_kv_heads": None,
            "num_ln_in_parallel_attn": None,
            "ffn_hidden_size": None,
            "activation": None,
            "max_position_embeddings": None,
            "tie_word_embeddings": None,
        },
        same_in_transformers=False,
    ),
    "falcon_40b": gpt(
        "FalconForCausalLM",
        FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2, "multi_query": False},
        legacy={"num_ln_in_parallel_attn": None, "ffn_hidden_size": None, "activation": None},
    ),
    "falcon_11b": gpt(
        "FalconForCausalLM",
        FALCON
        | {
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "ffn_hidden_size": 48,
        },
    ),
    "falcon_rw": gpt(
        "FalconForCausalLM",
        FALCON | {"alibi": True, "bias": True, "multi_query": False, "parallel_attn": False},
        legacy={"num_kv_heads": None, "ffn_hidden_size": None, "rope_theta": None},
        # Transformers' eager code adds the bias a second time, with the mask; what it runs by default, and what the
        # model was released with, adds it once.
        attention="sdpa",
    ),
    "gpt_neox_japanese": gpt(
        "GPTNeoXJapaneseForCausalLM",
        TOKENS
        | {
            "hidden_size": 32,
            "intermediate_multiple_size": 2,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "layer_norm_eps": 1e-3,
            "rope_parameters": rope(500.0, partial_rotary_factor=0.5),
        },
        legacy={"rope_theta": None, "partial_rotary_factor": None, "rotary_emb_base": 500.0, "rotary_pct": 0.5},
    ),
    "nanochat": gpt(
        "NanoChatForCausalLM",
        DECODER | {"rms_norm_eps": 1e-3, "final_logit_softcapping": 3.0, "rope_parameters": rope(500.0)},
    ),
    "mpt": gpt(
        "MptForCausalLM",
        TOKENS
        | {
            "d_model": 48,
            "n_heads": 6,
            "n_layers": 2,
            "max_seq_len": 16,
            "layer_norm_epsilon": 1e-3,
            # Transformers leaves `alibi_bias_max` aside; the code that the models were released with does not.
            "attn_config": {"clip_qkv": 0.8},
        },
    ),
    "persimmon": gpt("PersimmonForCausalLM", NEOX | {"rope_parameters": rope(500.0, partial_rotary_factor=0.75)}),
    # Its layers' norms leave layer_norm_epsilon aside.
    "ctrl": gpt(
        "CTRLLMHeadModel",
        TOKENS | {"n_embd": 32, "dff": 48, "n_layer": 3, "n_head": 4, "n_positions": 16, "layer_norm_epsilon": 1e-3},
        legacy={"n_ctx": 16, "tie_word_embeddings": None},
    ),
    # Its norms leave layer_norm_eps aside.
    "biogpt": gpt("BioGptForCausalLM", NEOX | {"max_position_embeddings": 16}),
    "xglm": gpt(
        "XGLMForCausalLM",
        TOKENS
        | {"d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4, "max_position_embeddings": 16},
    ),
}

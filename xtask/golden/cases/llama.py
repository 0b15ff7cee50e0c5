"""Llama and the decoders that differ from it by a detail."""

from cases.case import DECODER, Case, rope

LLAMA = DECODER | {"rms_norm_eps": 1e-3, "rope_parameters": rope(500.0)}
INV_FREQ = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": ("F32", [4]) for layer in range(3)}


def llama(arguments, **details):
    """A Llama that differs by `arguments`."""
    return Case("Llama", "LlamaForCausalLM", LLAMA | arguments, **details)


def mistral(arguments, **details):
    """A Mistral that differs from `LLAMA` by `arguments`."""
    return Case("Llama", "MistralForCausalLM", LLAMA | arguments, **details)


CASES = {
    # The first Llama: no grouped queries, and defaults that its config.json leaves out.
    "llama": llama(
        {"num_key_value_heads": 4, "rope_parameters": rope(10000.0)},
        legacy={"rope_theta": None, "num_key_value_heads": None, "head_dim": None},
        ignored=INV_FREQ,
    ),
    "llama_bias": llama({"attention_bias": True, "mlp_bias": True, "rms_norm_eps": 1e-2}),
    "llama_head_dim": llama({"head_dim": 6, "num_attention_heads": 8, "num_key_value_heads": 4}),
    "llama_rope_llama3": llama(
        {
            "tie_word_embeddings": True,
            "head_dim": 16,
            "rope_parameters": rope(
                100.0,
                "llama3",
                factor=8.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=32,
            ),
        }
    ),
    "llama_rope_linear": llama(
        {"rope_parameters": rope(500.0, "linear", factor=4.0)},
        legacy={"rope_scaling": {"type": "linear", "factor": 4.0}},
    ),
    # Both samples are longer than the context, from where on the frequencies change with the length.
    "llama_rope_dynamic": llama(
        {"max_position_embeddings": 8, "rope_parameters": rope(500.0, "dynamic", factor=3.0)},
        legacy={"rope_scaling": {"type": "dynamic", "factor": 3.0}},
        lengths=(12, 12),
    ),
    "llama_bf16": llama({"dtype": "bfloat16", "hidden_act": "gelu"}, dtype="BF16"),
    "mistral_sliding": mistral({"sliding_window": 4, "rms_norm_eps": 1e-2}, legacy={"head_dim": None}),
    "mistral_full_headdim": mistral({"sliding_window": None, "head_dim": 16, "num_key_value_heads": 1}),
}

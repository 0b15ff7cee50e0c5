"""GPT-2 and the other decoders of before Llama."""

from cases.case import TOKENS, Case

GPT2 = TOKENS | {"n_positions": 16, "n_embd": 32, "n_layer": 3, "n_head": 4, "layer_norm_epsilon": 1e-3}

CASES = {
    "gpt2": Case("GPT", "GPT2LMHeadModel", GPT2 | {"n_inner": 48, "scale_attn_by_inverse_layer_idx": True}),
    # As the first checkpoints were stored: no prefix, and the causal masks beside the weights.
    "gpt2_bare": Case(
        "GPT",
        "GPT2LMHeadModel",
        GPT2,
        legacy={"n_inner": None, "pad_token_id": None, "tie_word_embeddings": None, "n_ctx": 16},
        rename=((r"^transformer\.", ""),),
        ignored={f"h.{layer}.attn.bias": ("F32", [1, 1, 16, 16]) for layer in range(3)},
    ),
}

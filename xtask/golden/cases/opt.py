"""OPT."""

from cases.case import Case

OPT = {
    "vocab_size": 96,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 16,
}
# Keys that transformers added later, at their defaults.
LATER = {"enable_bias": None, "layer_norm_elementwise_affine": None, "tie_word_embeddings": None}

CASES = {
    "opt": Case("OPT", "OPTForCausalLM", OPT, legacy=LATER | {"word_embed_proj_dim": None}),
    # The one released OPT with norms after the residual and a narrower embedding.
    "opt_350m": Case(
        "OPT", "OPTForCausalLM", OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 20}, legacy=LATER
    ),
    "opt_galactica": Case(
        "OPT",
        "OPTForCausalLM",
        OPT | {"activation_function": "gelu", "enable_bias": False, "layer_norm_elementwise_affine": False},
        legacy={"tie_word_embeddings": None},
    ),
}

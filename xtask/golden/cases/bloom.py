"""BLOOM."""

from cases.case import TOKENS, Case

BLOOM = TOKENS | {"hidden_size": 32, "n_layer": 3, "n_head": 4, "layer_norm_epsilon": 1e-3}

CASES = {
    "bloom": Case("BLOOM", "BloomForCausalLM", BLOOM),
    # As the large ones were stored, without prefix and with other keys; six heads leave ALiBi's powers of two.
    "bloom_bare": Case(
        "BLOOM",
        "BloomForCausalLM",
        BLOOM | {"hidden_size": 48, "n_head": 6, "n_layer": 2},
        legacy={"hidden_size": None, "n_embed": 48, "n_head": None, "num_attention_heads": 6, "offset_alibi": 100},
        rename=((r"^transformer\.", ""),),
    ),
}

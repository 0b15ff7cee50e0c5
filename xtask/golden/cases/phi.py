"""Phi."""

from cases.case import DECODER, Case, rope

PHI3 = DECODER | {"rms_norm_eps": 1e-3, "rope_parameters": rope(500.0)}
FACTORS = {"short_factor": [1.0, 1.3, 2.0, 2.5], "long_factor": [1.2, 2.0, 4.0, 9.0]}


def phi3_longrope(original_context, lengths):
    """Phi-3 with two sets of frequencies: one up to `original_context` tokens, the other beyond."""
    return Case(
        "Phi",
        "Phi3ForCausalLM",
        PHI3
        | {
            "original_max_position_embeddings": original_context,
            "rope_parameters": rope(
                500.0, "longrope", original_max_position_embeddings=original_context, **FACTORS
            ),
        },
        legacy={"rope_scaling": {"type": "longrope", **FACTORS}, "partial_rotary_factor": None},
        lengths=lengths,
    )


CASES = {
    "phi": Case(
        "Phi",
        "PhiForCausalLM",
        DECODER | {"layer_norm_eps": 1e-3, "rope_parameters": rope(500.0, partial_rotary_factor=0.75)},
    ),
    "phi3": Case("Phi", "Phi3ForCausalLM", PHI3 | {"sliding_window": 5}, legacy={"attention_bias": False}),
    "phi3_longrope": phi3_longrope(8, (12, 12)),
    "phi3_longrope_short": phi3_longrope(16, (12, 8)),
}

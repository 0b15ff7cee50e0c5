"""Mixtures of experts."""

from cases.case import DECODER, Case, rope

MOE = DECODER | {"rms_norm_eps": 1e-3, "rope_parameters": rope(500.0)}

CASES = {
    "mixtral": Case(
        "MoE",
        "MixtralForCausalLM",
        MOE | {"num_local_experts": 5, "num_experts_per_tok": 2},
        legacy={"head_dim": None, "sliding_window": None},
    ),
}

"""State space models and hybrids."""

from cases.case import TOKENS, Case

MAMBA = TOKENS | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "state_size": 6,
    "expand": 2,
    "conv_kernel": 3,
    "time_step_rank": 5,
    "layer_norm_epsilon": 1e-3,
}

CASES = {"mamba": Case("Mamba", "MambaForCausalLM", MAMBA)}

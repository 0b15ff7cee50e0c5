"""Gemma."""

from cases.case import DECODER, Case, rope

GEMMA = DECODER | {
    "bos_token_id": 2,
    "eos_token_id": 1,
    "head_dim": 12,
    "rms_norm_eps": 1e-3,
    "rope_parameters": rope(500.0),
}
WINDOWS = {"query_pre_attn_scalar": 20, "sliding_window": 4}

CASES = {
    # "gelu" in the first releases meant the tanh approximation.
    "gemma": Case("Gemma", "GemmaForCausalLM", GEMMA | {"num_key_value_heads": 1}, legacy={"hidden_act": "gelu"}),
    "gemma2": Case(
        "Gemma",
        "Gemma2ForCausalLM",
        GEMMA | WINDOWS | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        legacy={"layer_types": None, "hidden_act": "gelu_pytorch_tanh"},
    ),
    "gemma3_text": Case(
        "Gemma",
        "Gemma3ForCausalLM",
        GEMMA
        | WINDOWS
        | {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": rope(3000.0, "linear", factor=4.0),
                "sliding_attention": rope(100.0),
            },
        },
        legacy={
            "layer_types": None,
            "_sliding_window_pattern": None,
            "sliding_window_pattern": 2,
            "rope_theta": 3000.0,
            "rope_local_base_freq": 100.0,
            "rope_scaling": {"rope_type": "linear", "factor": 4.0},
        },
    ),
}

"""Qwen."""

from cases.case import DECODER, Case, rope

QWEN = DECODER | {"rms_norm_eps": 1e-3, "rope_parameters": rope(2000.0)}
NO_WINDOW = {"layer_types": None}

CASES = {
    "qwen2": Case("Qwen", "Qwen2ForCausalLM", QWEN | {"tie_word_embeddings": True}, legacy=NO_WINDOW),
    "qwen3": Case("Qwen", "Qwen3ForCausalLM", QWEN | {"head_dim": 16, "rms_norm_eps": 1e-2}, legacy=NO_WINDOW),
}

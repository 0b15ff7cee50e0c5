"""GLM."""

from cases.case import DECODER, Case, rope

GLM = DECODER | {"head_dim": 8, "rms_norm_eps": 1e-3, "rope_parameters": rope(500.0, partial_rotary_factor=0.5)}

CASES = {
    "glm": Case("ChatGLM", "GlmForCausalLM", GLM),
    "glm4": Case("ChatGLM", "Glm4ForCausalLM", GLM | {"head_dim": 12, "attention_bias": False}),
}

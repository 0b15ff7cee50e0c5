"""Every golden case, by name."""

from cases import encoder, gpt, llama, mamba, moe, qwen, t5

CASES = llama.CASES | qwen.CASES | gpt.CASES | encoder.CASES | t5.CASES | mamba.CASES | moe.CASES

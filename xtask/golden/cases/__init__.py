"""Every golden case, by name."""

from cases import (
    bloom,
    chatglm,
    encoder,
    gemma,
    gpt,
    hybrid,
    llama,
    llama_relatives,
    mamba,
    moe,
    moe_relatives,
    opt,
    phi,
    qwen,
    remote,
    t5,
)

FAMILIES = [
    llama,
    llama_relatives,
    qwen,
    gemma,
    phi,
    chatglm,
    gpt,
    opt,
    bloom,
    moe,
    moe_relatives,
    hybrid,
    mamba,
    encoder,
    t5,
    remote,
]
CASES = {name: case for family in FAMILIES for name, case in family.CASES.items()}

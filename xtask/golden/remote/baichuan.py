"""Baichuan2: Llama with one matrix for queries, keys and values, and a head whose rows have length one.

The 13B model has ALiBi in place of rotations: its config has no `max_position_embeddings`.
"""

import math

import torch
from torch import nn
from torch.nn.functional import normalize, silu

from remote.parts import PreNormLayer, RemoteModel, RMSNorm, Stack, angles, attend, causal, heads, rotate_half


def slopes(count):
    """ALiBi's slope of each head."""
    power = 2 ** math.floor(math.log2(count))
    whole = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    between = [2 ** (-4 * (head + 1) / power) for head in range(0, 2 * power, 2)]
    return torch.tensor((whole + between)[:count])


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.rotates = hasattr(config, "max_position_embeddings")
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.W_pack = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x):
        query, key, value = (heads(part, self.head_dim) for part in self.W_pack(x).chunk(3, -1))
        if not self.rotates:
            bias = slopes(len(query))[:, None, None] * torch.arange(len(x))
            return self.o_proj(attend(query, key, value, causal(len(x)), bias))
        angle = angles(torch.arange(len(x)), self.head_dim, 10000.0)
        query, key = rotate_half(query, angle), rotate_half(key, angle)
        return self.o_proj(attend(query, key, value, causal(len(x))))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class BaichuanForCausalLM(RemoteModel):
    def build(self, config):
        norm = lambda: RMSNorm(config.hidden_size, config.rms_norm_eps)
        layer = lambda _: PreNormLayer(Attention(config), Mlp(config), norm)
        self.model = Stack(config, layer, norm())
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def logits(self, hidden):
        return hidden @ normalize(self.lm_head.weight).T

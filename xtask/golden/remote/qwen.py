"""Qwen, the first version: beyond `seq_length` the base of its rotation grows in steps and its queries by the
logarithm of their position."""

import math

import torch
from torch import nn
from torch.nn.functional import silu

from remote.parts import RemoteModel, RMSNorm, angles, attend, causal, heads, rotate_half


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        inner = config.kv_channels * config.num_attention_heads
        self.c_attn = nn.Linear(config.hidden_size, 3 * inner)
        self.c_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def base(self, tokens):
        """The base of the frequencies for a sample of this length."""
        width, base = self.config.kv_channels, self.config.rotary_emb_base
        if not self.config.use_dynamic_ntk:
            return base
        alpha = 2 ** math.ceil(math.log(tokens / self.config.seq_length, 2) + 1) - 1
        return base * max(alpha, 1) ** (width / (width - 2))

    def logarithms(self, tokens):
        """What each position's query is multiplied by."""
        length = self.config.seq_length
        return [math.log(i, length) if i > length else 1.0 for i in range(1, tokens + 1)]

    def forward(self, x):
        query, key, value = (heads(part, self.config.kv_channels) for part in self.c_attn(x).chunk(3, -1))
        angle = angles(torch.arange(len(x)), self.config.kv_channels, self.base(len(x)))
        query, key = rotate_half(query, angle), rotate_half(key, angle)
        if self.config.use_logn_attn:
            query = query * torch.tensor(self.logarithms(len(x)))[:, None]
        return self.c_proj(attend(query, key, value, causal(len(x))))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        inner = config.intermediate_size // 2
        self.w1 = nn.Linear(config.hidden_size, inner, bias=False)
        self.w2 = nn.Linear(config.hidden_size, inner, bias=False)
        self.c_proj = nn.Linear(inner, config.hidden_size, bias=False)

    def forward(self, x):
        return self.c_proj(self.w1(x) * silu(self.w2(x)))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.attn = Attention(config)
        self.ln_2 = RMSNorm(config.hidden_size, config.layer_norm_epsilon)
        self.mlp = Mlp(config)

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = x + self.attn(self.ln_1(x))
        return (x + self.mlp(self.ln_2(x)))[None]


class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.h = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.ln_f = RMSNorm(config.hidden_size, config.layer_norm_epsilon)

    def forward(self, input_ids):
        x = self.wte(input_ids)
        for layer in self.h:
            x = layer(x)
        return (self.ln_f(x),)


class QWenForCausalLM(RemoteModel):
    def build(self, config):
        self.transformer = Stack(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def stack(self):
        return self.transformer

    def logits(self, hidden):
        return self.lm_head(hidden)

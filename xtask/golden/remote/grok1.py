"""Grok-1: each branch between two norms, capped scores, experts whose weights do not sum to one."""

import torch
from torch import nn
from torch.nn.functional import gelu

from remote.parts import RemoteModel, Stack, angles, causal, heads, mixed, rotate_half


class ScaleNorm(nn.Module):
    """x / rms(x) * scale."""

    def __init__(self, width, eps):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.scale


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.width = config.hidden_size // config.num_attention_heads
        keys = config.num_key_value_heads * self.width
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x):
        query, key, value = (heads(part(x), self.width) for part in (self.q_proj, self.k_proj, self.v_proj))
        angle = angles(torch.arange(len(x)), self.width, 10000.0)
        query, key = rotate_half(query, angle), rotate_half(key, angle)
        shared_by = query.shape[0] // key.shape[0]
        key, value = key.repeat_interleave(shared_by, 0), value.repeat_interleave(shared_by, 0)
        cap = self.config.max_attn_value
        scores = cap * torch.tanh(query @ key.transpose(1, 2) * self.config.attn_output_multiplier / cap)
        weights = scores.masked_fill(~causal(len(x)), float("-inf")).softmax(-1)
        return self.o_proj((weights @ value).transpose(0, 1).flatten(1))


class Expert(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.linear = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.linear_v = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.linear_1 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.linear_1(gelu(self.linear(x), approximate="tanh") * self.linear_v(x))


class Experts(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.chosen = config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(Expert(config) for _ in range(config.num_experts))

    def forward(self, x):
        weights, chosen = self.gate(x).softmax(-1).topk(self.chosen)
        return mixed(self.experts, weights, chosen, x)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attn = Attention(config)
        self.moe_block = Experts(config)
        for name in ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"):
            setattr(self, name, ScaleNorm(config.hidden_size, config.rms_norm_eps))

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = x + self.post_attn_norm(self.attn(self.pre_attn_norm(x)))
        return (x + self.post_moe_norm(self.moe_block(self.pre_moe_norm(x))))[None]


class Grok1ForCausalLM(RemoteModel):
    def build(self, config):
        norm = ScaleNorm(config.hidden_size, config.rms_norm_eps)
        self.model = Stack(config, lambda _: Layer(config), norm, config.embedding_multiplier_scale)

    def logits(self, hidden):
        return hidden @ self.model.embed_tokens.weight.T * self.config.output_multiplier_scale

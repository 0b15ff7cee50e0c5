"""Grok-2: as Grok-1, with a dense network beside the experts, bounds on the router's and the last logits, and scores that
grow with the position beyond a length."""

import math

import torch
from torch import nn
from torch.nn.functional import gelu

from remote.parts import RemoteModel, RMSNorm, Stack, angles, causal, heads, mixed, rotate_half


def bounded(x, cap):
    """Within plus and minus `cap`."""
    return cap * torch.tanh(x / cap)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        queries = config.num_attention_heads * config.head_dim
        keys = config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)

    def forward(self, x):
        config, width = self.config, self.config.head_dim
        query, key, value = (heads(part(x), width) for part in (self.q_proj, self.k_proj, self.v_proj))
        positions = torch.arange(len(x))
        angle = angles(positions, width, config.rope_theta)
        query, key = rotate_half(query, angle), rotate_half(key, angle)
        shared_by = query.shape[0] // key.shape[0]
        key, value = key.repeat_interleave(shared_by, 0), value.repeat_interleave(shared_by, 0)
        scores = bounded(query @ key.transpose(1, 2) / width**0.5, config.attn_logit_softcapping)
        length = config.attn_temperature_len
        growth = [math.log2(i) / math.log2(length) if i > length else 1.0 for i in positions.tolist()]
        scores = scores * torch.tensor(growth).to(scores)[:, None]
        weights = scores.masked_fill(~causal(len(x)), float("-inf")).softmax(-1)
        return self.o_proj((weights @ value).transpose(0, 1).flatten(1))


class Mlp(nn.Module):
    def __init__(self, hidden, inner, names):
        super().__init__()
        self.names = names
        for name, sizes in zip(names, ((hidden, inner), (hidden, inner), (inner, hidden))):
            setattr(self, name, nn.Linear(*sizes, bias=False))

    def forward(self, x):
        gate, up, down = (getattr(self, name) for name in self.names)
        return down(gelu(gate(x), approximate="tanh") * up(x))


class Experts(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
        sizes = config.hidden_size, config.moe_intermediate_size
        self.experts = nn.ModuleList(Mlp(*sizes, ("w1", "w3", "w2")) for _ in range(config.num_local_experts))

    def forward(self, x):
        logits = bounded(self.gate(x), self.config.router_logit_softcapping)
        weights, chosen = logits.softmax(-1).topk(self.config.num_experts_per_tok)
        return mixed(self.experts, weights, chosen, x)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.block_sparse_moe = Experts(config)
        names = ("gate_proj", "up_proj", "down_proj")
        self.mlp = Mlp(config.hidden_size, config.intermediate_size, names)
        for name in ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"):
            setattr(self, name, RMSNorm(config.hidden_size, config.rms_norm_eps))

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = x + self.post_attn_norm(self.self_attn(self.pre_attn_norm(x)))
        n = self.pre_moe_norm(x)
        return (x + self.post_moe_norm((self.mlp(n) + self.block_sparse_moe(n)) / 2**0.5))[None]


class Grok2ForCausalLM(RemoteModel):
    def build(self, config):
        norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.model = Stack(config, lambda _: Layer(config), norm, config.embedding_multiplier_scale)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def logits(self, hidden):
        return bounded(self.lm_head(hidden) * self.config.output_multiplier_scale, self.config.final_logit_softcapping)

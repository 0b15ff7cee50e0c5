"""XVERSE with experts: Llama's attention, many small experts, and shared ones that are one wide network."""

import torch
from torch import nn
from torch.nn.functional import silu

from remote.arctic import Attention
from remote.parts import RemoteModel, RMSNorm


class Mlp(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.gate_proj = nn.Linear(hidden, inner, bias=False)
        self.up_proj = nn.Linear(hidden, inner, bias=False)
        self.down_proj = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Experts(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.chosen = config.moe_top_k
        hidden, inner = config.hidden_size, config.intermediate_size
        self.router = nn.Linear(hidden, config.num_experts, bias=False)
        self.experts = nn.ModuleList(Mlp(hidden, inner) for _ in range(config.num_experts))
        self.shared_experts = Mlp(hidden, inner * config.num_shared_experts)

    def forward(self, x):
        weights, chosen = self.router(x).softmax(-1).topk(self.chosen)
        rows = [
            sum(weight * self.experts[int(expert)](row) for weight, expert in zip(weights[i], chosen[i]))
            for i, row in enumerate(x)
        ]
        return torch.stack(rows) + self.shared_experts(x)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = Experts(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = x + self.self_attn(self.input_layernorm(x))
        return (x + self.mlp(self.post_attention_layernorm(x)))[None]


class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, input_ids):
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x)
        return (self.norm(x),)


class XverseMoeForCausalLM(RemoteModel):
    def build(self, config):
        self.model = Stack(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def stack(self):
        return self.model

    def logits(self, hidden):
        return self.lm_head(hidden)

"""Arctic: in layers with experts, these see what the layer sees, and a dense network sees what the attention left."""

import torch
from torch import nn
from torch.nn.functional import silu

from remote.parts import RemoteModel, RMSNorm, Stack, angles, attend, causal, heads, mixed, rotate_half


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
        angle = angles(torch.arange(len(x)), self.width, self.config.rope_theta)
        query, key = rotate_half(query, angle), rotate_half(key, angle)
        return self.o_proj(attend(query, key, value, causal(len(x))))


class Mlp(nn.Module):
    def __init__(self, hidden, inner):
        super().__init__()
        self.w1 = nn.Linear(hidden, inner, bias=False)
        self.w3 = nn.Linear(hidden, inner, bias=False)
        self.w2 = nn.Linear(inner, hidden, bias=False)

    def forward(self, x):
        return self.w2(silu(self.w1(x)) * self.w3(x))


class Experts(nn.Module):
    """Experts, or the one network of a layer without a choice."""

    def __init__(self, config, sparse):
        super().__init__()
        self.chosen = config.num_experts_per_tok
        sizes = config.hidden_size, config.intermediate_size
        self.mlp = None if sparse else Mlp(*sizes)
        if sparse:
            self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
            self.experts = nn.ModuleList(Mlp(*sizes) for _ in range(config.num_local_experts))

    def forward(self, x):
        if self.mlp:
            return self.mlp(x)
        weights, chosen = self.gate(x).softmax(-1).topk(self.chosen)
        weights = weights / weights.sum(-1, keepdim=True)
        return mixed(self.experts, weights, chosen, x)


class Layer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        sparse = (index + 1) % config.moe_layer_frequency == 0
        self.self_attn = Attention(config)
        self.block_sparse_moe = Experts(config, sparse)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.residual_mlp = None
        if sparse and config.parallel_attn_mlp_res:
            self.residual_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
            self.residual_mlp = Mlp(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states):
        x = hidden_states[0]
        y = x + self.self_attn(self.input_layernorm(x))
        if self.residual_mlp is None:
            return (y + self.block_sparse_moe(self.post_attention_layernorm(y)))[None]
        y = y + self.residual_mlp(self.residual_layernorm(y))
        return (y + self.block_sparse_moe(self.post_attention_layernorm(x)))[None]


class ArcticForCausalLM(RemoteModel):
    def build(self, config):
        self.model = Stack(config, lambda layer: Layer(config, layer), RMSNorm(config.hidden_size, config.rms_norm_eps))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def logits(self, hidden):
        return self.lm_head(hidden)

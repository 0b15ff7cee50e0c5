"""Phi-3-small: block-sparse attention in most layers, whose pattern moves on from head to head, a bounded gated MLP whose
gate and linear part take turns, and constants from muP."""

import torch
from torch import nn

from remote.parts import PreNormLayer, RemoteModel, Stack, angles, attend, causal, rotate_half


def block_sparse(config, tokens):
    """Which keys each query of each head sees: [heads, tokens, tokens]."""
    heads, stride = config.num_attention_heads, config.blocksparse_vert_stride
    step = 0 if config.blocksparse_homo_head_pattern else max(1, int(stride / heads))
    block = torch.arange(tokens) // config.blocksparse_block_size
    is_local = block[:, None] - block[None] < config.blocksparse_num_local_blocks
    is_strided = (block[None] + torch.arange(heads)[:, None] * step + 1) % stride == 0
    return causal(tokens) & (is_local | is_strided[:, None])


def gegelu(x, limit):
    gate, linear = x[..., ::2].clamp(max=limit), x[..., 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(1.702 * gate) * (linear + 1)


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        rows = (config.num_attention_heads + 2 * config.num_key_value_heads) * self.head_dim
        self.query_key_value = nn.Linear(config.hidden_size, rows)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.is_dense = (layer + 1) % config.dense_attention_every_n_layers == 0

    def forward(self, x):
        config, tokens = self.config, len(x)
        qkv = self.query_key_value(x).unflatten(-1, (config.num_key_value_heads, -1, self.head_dim))
        qkv = qkv.permute(1, 2, 0, 3)
        query, key, value = qkv[:, :-2].flatten(0, 1), qkv[:, -2], qkv[:, -1]
        positions = torch.arange(tokens) / config.rope_position_scale
        angle = angles(positions, self.head_dim, config.rope_embedding_base)
        query, key = rotate_half(query, angle), rotate_half(key, angle)
        if config.mup_use_scaling:
            # `attend` divides by the root of the width.
            query = query * config.mup_attn_multiplier / self.head_dim**0.5
        visible = causal(tokens) if self.is_dense else block_sparse(config, tokens)
        return self.dense(attend(query, key, value, visible))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.limit = config.gegelu_limit
        self.up_proj = nn.Linear(config.hidden_size, 2 * config.ff_intermediate_size)
        self.down_proj = nn.Linear(config.ff_intermediate_size, config.hidden_size)

    def forward(self, x):
        return self.down_proj(gegelu(self.up_proj(x), self.limit))


class Phi3SmallForCausalLM(RemoteModel):
    def build(self, config):
        norm = lambda: nn.LayerNorm(config.hidden_size, config.layer_norm_epsilon)
        layer = lambda index: PreNormLayer(Attention(config, index), Mlp(config), norm)
        scale = config.mup_embedding_multiplier
        self.model = Stack(config, layer, norm(), scale, "final_layernorm")
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def logits(self, hidden):
        return self.lm_head(hidden) / self.config.mup_width_multiplier

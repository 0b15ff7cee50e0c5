"""InternLM2: Llama whose queries, keys and values are one matrix in which each key head follows its queries, with
dynamic rotary scaling by the sample's length."""

import torch
from torch import nn
from torch.nn.functional import silu

from remote.parts import RemoteModel, RMSNorm, angles, attend, causal, rotate_half


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        rows = (config.num_attention_heads + 2 * config.num_key_value_heads) * self.head_dim
        self.wqkv = nn.Linear(config.hidden_size, rows, bias=config.bias)
        self.wo = nn.Linear(config.hidden_size, config.hidden_size, bias=config.bias)

    def base(self, tokens):
        """The base of the frequencies for a sample of this length."""
        scaling, original = self.config.scaling, self.config.max_position_embeddings
        if tokens <= original:
            return self.config.rope_theta
        stretch = scaling["factor"] * tokens / original - (scaling["factor"] - 1)
        return self.config.rope_theta * stretch ** (self.head_dim / (self.head_dim - 2))

    def forward(self, x):
        groups = self.config.num_key_value_heads
        qkv = self.wqkv(x).unflatten(-1, (groups, -1, self.head_dim)).permute(1, 2, 0, 3)
        query, key, value = qkv[:, :-2].flatten(0, 1), qkv[:, -2], qkv[:, -1]
        angle = angles(torch.arange(len(x)), self.head_dim, self.base(len(x)))
        query, key = rotate_half(query, angle), rotate_half(key, angle)
        return self.wo(attend(query, key, value, causal(len(x))))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w3 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.w2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.w2(silu(self.w1(x)) * self.w3(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention = Attention(config)
        self.feed_forward = Mlp(config)
        self.attention_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn_norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = x + self.attention(self.attention_norm(x))
        return (x + self.feed_forward(self.ffn_norm(x)))[None]


class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.tok_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, input_ids):
        x = self.tok_embeddings(input_ids)
        for layer in self.layers:
            x = layer(x)
        return (self.norm(x),)


class InternLM2ForCausalLM(RemoteModel):
    def build(self, config):
        self.model = Stack(config)
        self.output = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def stack(self):
        return self.model

    def logits(self, hidden):
        return self.output(hidden)

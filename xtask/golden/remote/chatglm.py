"""ChatGLM2, ChatGLM3 and GLM-4-9B: RMS norms, neighbours rotated in the first half of each head, few key heads."""

import torch
from torch import nn
from torch.nn.functional import silu

from remote.parts import RemoteModel, RMSNorm, angles, attend, causal, heads, rotate_neighbours


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.widths = [config.num_attention_heads * config.kv_channels] + 2 * [
            config.multi_query_group_num * config.kv_channels
        ]
        self.query_key_value = nn.Linear(config.hidden_size, sum(self.widths), bias=config.add_qkv_bias)
        self.dense = nn.Linear(self.widths[0], config.hidden_size, bias=False)

    def rotated(self, x):
        width = self.config.kv_channels // 2
        angle = angles(torch.arange(x.shape[1]), width, 10000.0 * self.config.rope_ratio)
        return torch.cat([rotate_neighbours(x[..., :width], angle), x[..., width:]], -1)

    def forward(self, x):
        parts = self.query_key_value(x).split(self.widths, -1)
        query, key, value = (heads(part, self.config.kv_channels) for part in parts)
        return self.dense(attend(self.rotated(query), self.rotated(key), value, causal(len(x))))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, 2 * config.ffn_hidden_size, bias=False)
        self.dense_4h_to_h = nn.Linear(config.ffn_hidden_size, config.hidden_size, bias=False)

    def forward(self, x):
        gate, up = self.dense_h_to_4h(x).chunk(2, -1)
        return self.dense_4h_to_h(silu(gate) * up)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.self_attention = Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = Mlp(config)

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = x + self.self_attention(self.input_layernorm(x))
        return (x + self.mlp(self.post_attention_layernorm(x)))[None]


class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.final_layernorm = RMSNorm(config.hidden_size, config.layernorm_epsilon)


class Embedding(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.padded_vocab_size, config.hidden_size)


class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = Embedding(config)
        self.encoder = Encoder(config)
        self.output_layer = nn.Linear(config.hidden_size, config.padded_vocab_size, bias=False)

    def forward(self, input_ids):
        x = self.embedding.word_embeddings(input_ids)
        for layer in self.encoder.layers:
            x = layer(x)
        return (self.encoder.final_layernorm(x),)


class ChatGLMForCausalLM(RemoteModel):
    def build(self, config):
        self.transformer = Stack(config)

    def stack(self):
        return self.transformer

    def logits(self, hidden):
        return self.transformer.output_layer(hidden)

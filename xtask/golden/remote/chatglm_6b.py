"""ChatGLM-6B: a prompt seen as a whole and an answer that fills its blank, positions of two kinds, and residuals that
start from the scaled output of the norm."""

import torch
from torch import nn
from torch.nn.functional import gelu

from remote.parts import RemoteModel, angles, attend, rotate_half


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.query_key_value = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def rotated(self, x, positions):
        """The first half of a head turns by the place in the text, the second by the place in the answer."""
        width = self.head_dim // 2
        halves = zip(x.chunk(2, -1), positions)
        return torch.cat([rotate_half(half, angles(place, width, 10000.0)) for half, place in halves], -1)

    def forward(self, x, positions, visible):
        qkv = self.query_key_value(x).unflatten(-1, (-1, 3 * self.head_dim)).transpose(0, 1)
        query, key, value = qkv.chunk(3, -1)
        return self.dense(attend(self.rotated(query, positions), self.rotated(key, positions), value, visible))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.inner_hidden_size)
        self.dense_4h_to_h = nn.Linear(config.inner_hidden_size, config.hidden_size)

    def forward(self, x):
        return self.dense_4h_to_h(gelu(self.dense_h_to_4h(x), approximate="tanh"))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.alpha = (2 * config.num_layers) ** 0.5
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.attention = Attention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)
        self.mlp = Mlp(config)

    def forward(self, hidden_states, positions, visible):
        x = self.input_layernorm(hidden_states[0])
        x = x * self.alpha + self.attention(x, positions, visible)
        x = self.post_attention_layernorm(x)
        return (x * self.alpha + self.mlp(x))[None]


class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, config.layernorm_epsilon)

    def structure(self, ids):
        """Positions of both kinds, and which keys each query sees."""
        tokens = len(ids)
        blank = self.config.gmask_token_id if self.config.gmask_token_id in ids else self.config.mask_token_id
        prompt = ids.index(self.config.bos_token_id)
        place = torch.arange(tokens)
        place[prompt:] = ids.index(blank)
        answer = torch.cat([torch.zeros(prompt, dtype=torch.int64), torch.arange(1, tokens - prompt + 1)])
        visible = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        visible[:, :prompt] = True
        return (place, answer), visible

    def forward(self, input_ids):
        positions, visible = self.structure(input_ids[0].tolist())
        x = self.word_embeddings(input_ids)
        for layer in self.layers:
            x = layer(x, positions, visible)
        return (self.final_layernorm(x),)


class ChatGLM6BForCausalLM(RemoteModel):
    def build(self, config):
        self.transformer = Stack(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def stack(self):
        return self.transformer

    def logits(self, hidden):
        return self.lm_head(hidden)

"""JinaBERT, the encoder of Jina Embeddings v2: BERT with a bias by distance and gated MLPs, without a head."""

import torch
from torch import nn
from torch.nn.functional import gelu, relu
from transformers.modeling_outputs import BaseModelOutput

from remote.baichuan import slopes
from remote.parts import RemoteModel, attend, heads


def norm(config):
    return nn.LayerNorm(config.hidden_size, config.layer_norm_eps)


class Module(nn.Module):
    """Modules under these names."""

    def __init__(self, /, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.head_dim = hidden // config.num_attention_heads
        self.activation = {"geglu": gelu, "reglu": relu}[config.feed_forward_type]
        projections = {name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")}
        output = Module(dense=nn.Linear(hidden, hidden), LayerNorm=norm(config))
        self.attention = Module(self=Module(**projections), output=output)
        gated_layers = nn.Linear(hidden, 2 * inner, bias=False)
        self.mlp = Module(gated_layers=gated_layers, wo=nn.Linear(inner, hidden), layernorm=norm(config))

    def forward(self, hidden_states):
        x, own, output = hidden_states[0], getattr(self.attention, "self"), self.attention.output
        query, key, value = (heads(part(x), self.head_dim) for part in (own.query, own.key, own.value))
        positions = torch.arange(len(x))
        bias = -slopes(len(query))[:, None, None] * (positions - positions[:, None]).abs()
        mixed = attend(query, key, value, torch.ones(len(x), len(x), dtype=torch.bool), bias)
        x = output.LayerNorm(x + output.dense(mixed))
        gate, up = self.mlp.gated_layers(x).chunk(2, -1)
        return self.mlp.layernorm(x + self.mlp.wo(self.activation(gate) * up))[None]


class JinaBertModel(RemoteModel):
    def build(self, config):
        self.embeddings = Module(
            word_embeddings=nn.Embedding(config.vocab_size, config.hidden_size),
            token_type_embeddings=nn.Embedding(config.type_vocab_size, config.hidden_size),
            LayerNorm=norm(config),
        )
        self.encoder = Module(layer=nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers)))

    def forward(self, input_ids, token_type_ids):
        embeddings = self.embeddings
        x = embeddings.word_embeddings(input_ids) + embeddings.token_type_embeddings(token_type_ids)
        x = embeddings.LayerNorm(x)
        for layer in self.encoder.layer:
            x = layer(x)
        return BaseModelOutput(last_hidden_state=x)

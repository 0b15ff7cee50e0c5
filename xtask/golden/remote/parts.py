"""What the models of this folder share."""

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class RMSNorm(nn.Module):
    """x / rms(x) * weight."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def angles(positions, width, base):
    """position * base^(-2i / width) for each pair i: [tokens, width / 2]."""
    return positions[:, None] * base ** -(torch.arange(0, width, 2) / width)


def rotate_half(x, angle):
    """Turns dimension i with dimension i + width / 2; x is [heads, tokens, width]."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], -1)


def rotate_neighbours(x, angle):
    """Turns dimension 2i with dimension 2i + 1."""
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = [even * angle.cos() - odd * angle.sin(), odd * angle.cos() + even * angle.sin()]
    return torch.stack(turned, -1).flatten(-2)


def heads(x, width):
    """[tokens, heads * width] -> [heads, tokens, width]."""
    return x.unflatten(-1, (-1, width)).transpose(0, 1)


def attend(query, key, value, visible, bias=0.0):
    """Softmax attention; key heads are shared by equal runs of query heads. -> [tokens, heads * width]."""
    shared_by = query.shape[0] // key.shape[0]
    key, value = key.repeat_interleave(shared_by, 0), value.repeat_interleave(shared_by, 0)
    scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5 + bias
    weights = scores.masked_fill(~visible, float("-inf")).softmax(-1)
    return (weights @ value).transpose(0, 1).flatten(1)


def causal(tokens):
    """Which keys each query sees: [tokens, tokens]."""
    return torch.ones(tokens, tokens, dtype=torch.bool).tril()


def mixed(experts, weights, chosen, x):
    """The outputs of the experts that each row chose, weighted: [tokens, hidden]."""
    rows = [
        sum(weight * experts[int(expert)](row) for weight, expert in zip(weights[i], chosen[i]))
        for i, row in enumerate(x)
    ]
    return torch.stack(rows)


class PreNormLayer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm'(x)), under Llama's names."""

    def __init__(self, attention, mlp, make_norm):
        super().__init__()
        self.self_attn, self.mlp = attention, mlp
        self.input_layernorm, self.post_attention_layernorm = make_norm(), make_norm()

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = x + self.self_attn(self.input_layernorm(x))
        return (x + self.mlp(self.post_attention_layernorm(x)))[None]


class Stack(nn.Module):
    """Embedding, layers and a last norm, under Llama's names; what is embedded may be multiplied."""

    def __init__(self, config, make_layer, norm, scale=1.0, norm_name="norm"):
        super().__init__()
        self.scale, self.norm_name = scale, norm_name
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(make_layer(layer) for layer in range(config.num_hidden_layers))
        setattr(self, norm_name, norm)

    def forward(self, input_ids):
        x = self.embed_tokens(input_ids) * self.scale
        for layer in self.layers:
            x = layer(x)
        return (getattr(self, self.norm_name)(x),)


class RemoteConfig(PreTrainedConfig):
    """A config of any keys; the class is named when one is made."""

    model_type = "remote"

    def __init__(self, **keys):
        model_type = keys.pop("model_type", None)
        super().__init__(**keys)
        if model_type:
            self.model_type = model_type


class RemoteModel(PreTrainedModel):
    """A decoder with a head: subclasses have `build(config)`, which makes `model` (or they have `stack()`), and
    `logits(hidden)`."""

    config_class = RemoteConfig

    def __init__(self, config):
        super().__init__(config)
        self.build(config)
        self.post_init()

    def stack(self):
        return self.model

    def get_decoder(self):
        return self.stack()

    def forward(self, input_ids):
        (hidden,) = self.stack()(input_ids)
        return CausalLMOutput(logits=self.logits(hidden))

    def _init_weights(self, module):
        """Weights come from the checkpoint."""

"""RWKV-5, RWKV-6 and RWKV-7: a state for each head, written and read one token after the other."""

import torch
from torch import nn
from torch.nn.functional import layer_norm, normalize

from remote.parts import RemoteModel


def before(x):
    """The token before each, zeros before the first."""
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def row(width):
    return nn.Parameter(torch.zeros(1, 1, width))


def linear(inputs, outputs, bias=False):
    return nn.Linear(inputs, outputs, bias=bias)


class HeadNorm(nn.Module):
    """A layer norm of each head, with weights for all of them."""

    def __init__(self, heads, width, eps):
        super().__init__()
        self.heads, self.eps = heads, eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        by_head = x.unflatten(-1, (self.heads, -1))
        return layer_norm(by_head, by_head.shape[-1:], eps=self.eps).flatten(-2) * self.weight + self.bias


class Attention(nn.Module):
    """RWKV-5, and RWKV-6 where the config has ranks."""

    def __init__(self, config):
        super().__init__()
        hidden, width, head = config.hidden_size, config.attention_hidden_size, config.head_size
        self.heads, self.divisor = width // head, config.head_size_divisor
        self.dynamic = hasattr(config, "mix_rank")
        if self.dynamic:
            for name in "xwkvrg":
                setattr(self, f"time_maa_{name}", row(hidden))
            self.time_maa_w1 = nn.Parameter(torch.zeros(hidden, 5 * config.mix_rank))
            self.time_maa_w2 = nn.Parameter(torch.zeros(5, config.mix_rank, hidden))
            self.time_decay = row(width)
            self.time_decay_w1 = nn.Parameter(torch.zeros(hidden, config.decay_rank))
            self.time_decay_w2 = nn.Parameter(torch.zeros(config.decay_rank, width))
        else:
            for name in ("key", "value", "receptance", "gate"):
                setattr(self, f"time_mix_{name}", row(hidden))
            self.time_decay = nn.Parameter(torch.zeros(self.heads, head))
        self.time_faaaa = nn.Parameter(torch.zeros(self.heads, head))
        for name in ("key", "value", "receptance", "gate"):
            setattr(self, name, linear(hidden, width))
        self.output = linear(width, hidden)
        self.ln_x = HeadNorm(self.heads, width, 1e-5)

    def mixtures(self, x):
        """What k, v, r and g see, and the decay of each token."""
        past = before(x)
        if not self.dynamic:
            mix = lambda share: x * share[0, 0] + past * (1 - share[0, 0])
            shares = (self.time_mix_key, self.time_mix_value, self.time_mix_receptance, self.time_mix_gate)
            return [mix(share) for share in shares], self.time_decay.flatten().expand(len(x), -1)
        towards = past - x
        narrow = torch.tanh((x + towards * self.time_maa_x[0, 0]) @ self.time_maa_w1).unflatten(-1, (5, -1))
        shares = (self.time_maa_w, self.time_maa_k, self.time_maa_v, self.time_maa_r, self.time_maa_g)
        w, k, v, r, g = (
            x + towards * (share[0, 0] + narrow[:, use] @ self.time_maa_w2[use]) for use, share in enumerate(shares)
        )
        return [k, v, r, g], self.time_decay[0] + torch.tanh(w @ self.time_decay_w1) @ self.time_decay_w2

    def forward(self, x):
        (k, v, r, g), decay = self.mixtures(x)
        by_head = lambda x: x.unflatten(-1, (self.heads, -1))
        key, value, read = by_head(self.key(k)), by_head(self.value(v)), by_head(self.receptance(r))
        left = by_head(torch.exp(-torch.exp(decay)))
        state = x.new_zeros(self.heads, key.shape[-1], key.shape[-1])
        rows = []
        for t in range(len(x)):
            own = key[t, :, :, None] * value[t, :, None, :]
            seen = state + self.time_faaaa[:, :, None] * own
            rows.append((read[t, :, :, None] * seen).sum(1).flatten())
            state = left[t, :, :, None] * state + own
        gate = self.gate(g)
        return self.output(self.ln_x(torch.stack(rows) / self.divisor) * gate * torch.sigmoid(gate))


class FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.names = ("time_maa_k", "time_maa_r") if hasattr(config, "mix_rank") else ("time_mix_key", "time_mix_receptance")
        for name in self.names:
            setattr(self, name, row(hidden))
        self.key, self.receptance, self.value = linear(hidden, inner), linear(hidden, hidden), linear(inner, hidden)

    def forward(self, x):
        past = before(x)
        shares = [getattr(self, name)[0, 0] for name in self.names]
        if self.names[0] == "time_maa_k":
            k, r = (x + (past - x) * share for share in shares)
        else:
            k, r = (x * share + past * (1 - share) for share in shares)
        return torch.sigmoid(self.receptance(r)) * self.value(torch.relu(self.key(k)) ** 2)


class Block(nn.Module):
    def __init__(self, config, first):
        super().__init__()
        norm = lambda: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        if first:
            self.pre_ln = norm()
        self.ln1, self.ln2 = norm(), norm()
        self.attention, self.feed_forward = Attention(config), FeedForward(config)

    def forward(self, hidden_states):
        x = hidden_states[0]
        x = self.pre_ln(x) if hasattr(self, "pre_ln") else x
        x = x + self.attention(self.ln1(x))
        return (x + self.feed_forward(self.ln2(x)))[None]


class Rwkv(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer == 0) for layer in range(config.num_hidden_layers))
        self.ln_out = nn.LayerNorm(config.hidden_size)

    def forward(self, input_ids):
        x = self.embeddings(input_ids)
        for block in self.blocks:
            x = block(x)
        return (self.ln_out(x),)


class Rwkv5ForCausalLM(RemoteModel):
    def build(self, config):
        self.rwkv = Rwkv(config)
        self.head = linear(config.hidden_size, config.vocab_size)

    def stack(self):
        return self.rwkv

    def logits(self, hidden):
        return self.head(hidden)


class LowRank(nn.Module):
    """Two matrices and what is between them, under the names of flash-linear-attention."""

    def __init__(self, hidden, rank, between, bias):
        super().__init__()
        self.lora = nn.Sequential(linear(hidden, rank), between, linear(rank, hidden, bias))

    def forward(self, x):
        return self.lora(x)


class Rwkv7Attention(nn.Module):
    def __init__(self, config, first):
        super().__init__()
        hidden, self.head_dim = config.hidden_size, config.head_dim
        self.heads = hidden // self.head_dim
        for name in "rwkvag":
            setattr(self, f"x_{name}", row(hidden))
        for name in "rkvo":
            setattr(self, f"{name}_proj", linear(hidden, hidden))
        self.w_lora = LowRank(hidden, config.decay_low_rank_dim, nn.Tanh(), True)
        self.a_lora = LowRank(hidden, config.a_low_rank_dim, nn.Identity(), True)
        self.g_lora = LowRank(hidden, config.gate_low_rank_dim, nn.Sigmoid(), False)
        if not first:
            self.v_lora = LowRank(hidden, config.v_low_rank_dim, nn.Identity(), True)
        self.k_k, self.k_a = nn.Parameter(torch.zeros(hidden)), nn.Parameter(torch.zeros(hidden))
        self.r_k = nn.Parameter(torch.zeros(self.heads, self.head_dim))
        self.g_norm = HeadNorm(self.heads, hidden, self.head_dim * config.norm_eps)

    def forward(self, x, first_values):
        towards = before(x) - x
        r, w, k, v, a, g = (x + towards * getattr(self, f"x_{name}")[0, 0] for name in "rwkvag")
        by_head = lambda x: x.unflatten(-1, (self.heads, -1))
        left = by_head(torch.exp(-torch.exp(torch.tensor(-0.5)) * torch.sigmoid(self.w_lora(w))))
        key, values = self.k_proj(k), self.v_proj(v)
        if first_values is None:
            first_values = values
        else:
            values = torch.lerp(values, first_values, torch.sigmoid(self.v_lora(v)))
        rate = torch.sigmoid(self.a_lora(a))
        unit = normalize(by_head(key * self.k_k), dim=-1)
        key = by_head(key * (1 + (rate - 1) * self.k_a))
        value, read, rate = by_head(values), by_head(self.r_proj(r)), by_head(rate)
        state = x.new_zeros(self.heads, self.head_dim, self.head_dim)  # [values, keys]
        rows = []
        for t in range(len(x)):
            found = (state * -unit[t, :, None, :]).sum(-1)
            state = state * left[t, :, None, :] + found[:, :, None] * (unit[t] * rate[t])[:, None, :]
            state = state + value[t, :, :, None] * key[t, :, None, :]
            rows.append((state * read[t, :, None, :]).sum(-1).flatten())
        own = ((read * key * self.r_k).sum(-1, keepdim=True) * value).flatten(-2)
        return self.o_proj((self.g_norm(torch.stack(rows)) + own) * self.g_lora(g)), first_values


class Rwkv7FeedForward(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.x_k = nn.Parameter(torch.zeros(config.hidden_size))
        self.key = linear(config.hidden_size, config.intermediate_size)
        self.value = linear(config.intermediate_size, config.hidden_size)

    def forward(self, x):
        return self.value(torch.relu(self.key(x + (before(x) - x) * self.x_k)) ** 2)


class Rwkv7Layer(nn.Module):
    def __init__(self, config, first):
        super().__init__()
        norm = lambda: nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        if first:
            self.pre_norm = norm()
        self.attn_norm, self.ffn_norm = norm(), norm()
        self.attn, self.ffn = Rwkv7Attention(config, first), Rwkv7FeedForward(config)

    def forward(self, hidden_states, first_values):
        x = hidden_states[0]
        x = self.pre_norm(x) if hasattr(self, "pre_norm") else x
        attended, first_values = self.attn(self.attn_norm(x), first_values)
        x = x + attended
        return (x + self.ffn(self.ffn_norm(x)))[None], first_values


class Rwkv7Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Rwkv7Layer(config, layer == 0) for layer in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)

    def forward(self, input_ids):
        x, first_values = self.embeddings(input_ids), None
        for layer in self.layers:
            x, first_values = layer(x, first_values)
        return (self.norm(x),)


class RWKV7ForCausalLM(RemoteModel):
    def build(self, config):
        self.model = Rwkv7Stack(config)
        self.lm_head = linear(config.hidden_size, config.vocab_size)

    def logits(self, hidden):
        return self.lm_head(hidden)

"""XVERSE with experts: Llama's attention, many small experts, and shared ones that are one wide network."""

from torch import nn
from torch.nn.functional import silu

from remote.arctic import Attention
from remote.parts import PreNormLayer, RemoteModel, RMSNorm, Stack, mixed


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
        return mixed(self.experts, weights, chosen, x) + self.shared_experts(x)


class XverseMoeForCausalLM(RemoteModel):
    def build(self, config):
        norm = lambda: RMSNorm(config.hidden_size, config.rms_norm_eps)
        layer = lambda _: PreNormLayer(Attention(config), Experts(config), norm)
        self.model = Stack(config, layer, norm())
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def logits(self, hidden):
        return self.lm_head(hidden)

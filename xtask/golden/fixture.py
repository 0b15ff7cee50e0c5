"""A few values of the weight function, by which the Rust twin is held to it."""

import torch

from checkpoint import stored_tensor

TENSORS = [
    ("model.norm.weight", "F32", [5]),
    ("bert.embeddings.LayerNorm.gamma", "F32", [3]),
    ("model.layers.0.self_attn.q_proj.bias", "F32", [4]),
    ("model.layers.0.layer_scalar", "F32", []),
    ("backbone.layers.1.mixer.A_log", "F32", [3, 2]),
    ("backbone.layers.1.mixer.conv1d.weight", "F32", [4, 1, 3]),
    ("model.embed_tokens.weight", "F32", [2, 3]),
    ("transformer.wpe.weight", "F32", [2, 3]),
    ("shared.weight", "F32", [2, 3]),
    ("model.layers.0.mlp.shared_expert.up_proj.weight", "F32", [2, 7]),
    ("model.layers.2.mlp.down_proj.weight", "BF16", [3, 24]),
    ("model.layers.2.mlp.experts.down_proj", "F16", [2, 2, 25]),
    ("größe.weight", "BF16", [6]),
    ("embeddings.position_ids", "I64", [1, 4]),
    ("layers.0.ffn.gate.tid2eid", "I64", [3, 2]),
    ("model.layers.0.mlp.up_proj.weight_scale", "F32", [1]),
    ("model.layers.0.mlp.up_proj.weight", "U8", [2, 3]),
]
BITS = {"F32": torch.int32, "BF16": torch.int16, "F16": torch.int16, "I64": torch.int64, "U8": torch.int8}


def fixture():
    """A list of `{name, dtype, shape, bits}`: the stored bits of each element as a signed integer."""
    entries = []
    for name, dtype, shape in TENSORS:
        stored = stored_tensor(name, dtype, shape).reshape(-1)
        entries.append({"name": name, "dtype": dtype, "shape": shape, "bits": stored.view(BITS[dtype]).tolist()})
    return entries

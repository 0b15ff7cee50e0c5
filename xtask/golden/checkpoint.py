"""A tiny model's checkpoint: which tensors a released one holds, and a file with the golden weights in them."""

import re
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from weights import ternary_bytes, weight_values

TORCH_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "I64": torch.int64}


def layout(case, config, directory):
    """Saves a fresh model of `case` and returns its file's `{name: {"dtype", "shape"}}` under released names.

    What transformers holds fused in memory it writes as released checkpoints do, hence the detour over a file.
    """
    model = case.model_class()(config)
    model.save_pretrained(directory)
    tensors = {}
    for path in sorted(Path(directory).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():
                tensors[rename(name, case.rename)] = {
                    "dtype": case.dtype,
                    "shape": file.get_slice(name).get_shape(),
                }
        path.unlink()
    for name, (dtype, shape) in {**case.added, **case.ignored}.items():
        tensors[name] = {"dtype": dtype, "shape": list(shape)}
    return dict(sorted(tensors.items()))


def rename(name, patterns):
    """The name after the first pattern that matches; without one, as it is."""
    for pattern, replacement in patterns:
        if re.search(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def stored_tensor(name, dtype, shape):
    """A tensor as a golden checkpoint stores it: floats rounded to nearest even, integers as `weights.py` says."""
    if dtype == "I64":
        counted = torch.arange(torch.Size(shape).numel()).reshape(shape)
        return counted % 4 if name.endswith("tid2eid") else counted
    if dtype == "U8":
        return torch.from_numpy(ternary_bytes(name, shape))
    return torch.from_numpy(weight_values(name, shape)).to(TORCH_DTYPES[dtype])


def is_computed(case, name):
    """Whether the class makes the tensor itself. Golden weights in its place would change the model."""
    return name.split(".")[-1] in case.computed


def write(case, tensors, directory):
    """Writes `model.safetensors` with the golden weights of `tensors`."""
    stored = {
        name: stored_tensor(name, tensor["dtype"], tensor["shape"])
        for name, tensor in tensors.items()
        if not is_computed(case, name)
    }
    save_file(stored, Path(directory) / "model.safetensors", metadata={"format": "pt"})


def load(case, directory):
    """The model of `directory` in float32 on the plain implementations.

    Raises ValueError unless the file and the model name the same tensors, `case.ignored` apart.
    """
    model, report = case.model_class().from_pretrained(
        directory,
        dtype=torch.float32,
        attn_implementation=case.attention,
        experts_implementation="eager",
        output_loading_info=True,
    )
    unexpected = set(report["unexpected_keys"]) - set(case.ignored)
    missing = [name for name in report["missing_keys"] if not is_computed(case, name)]
    if missing or report["mismatched_keys"] or unexpected:
        raise ValueError(
            f"missing {sorted(missing)}, mismatched {report['mismatched_keys']}, "
            f"unexpected {sorted(unexpected)}"
        )
    return model.eval()

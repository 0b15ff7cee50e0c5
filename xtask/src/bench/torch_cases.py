"""Answers names of benchmark cases with the seconds that torch takes, "-" for what it does not have.

The names and shapes are those of crates/sli-kernels/benches/kernels. `python torch_cases.py THREADS`
"""

import sys
import time

import torch
import torch.nn.functional as F

BUDGET = 0.5
COLD = 256 << 20
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32, "f16": torch.float16}


def linear(weights, inputs, m, n, k):
    """Weights that torch cannot multiply by as they are stored are compared with its bf16 product."""
    dtype = torch.bfloat16 if inputs == "bf16" else torch.float32
    if inputs == "f32" and weights != "f32":
        return None
    size = n * k * dtype.itemsize
    copies = [torch.randn(n, k).to(dtype) for _ in range(-(-COLD // size) if m <= 16 else 1)]
    x = torch.randn(m, k).to(dtype)
    turn = 0

    def call():
        nonlocal turn
        turn += 1
        F.linear(x, copies[turn % len(copies)])

    return call


def attention(inputs, mask, *shape):
    return samples(inputs, mask, 1, *shape)


def samples(inputs, mask, count, tokens, heads, kv_heads, head_dim, value_dim):
    def tensor(heads, width):
        return torch.randn(count, tokens, heads, width).to(DTYPES[inputs]).transpose(1, 2)

    query, key, value = tensor(heads, head_dim), tensor(kv_heads, head_dim), tensor(kv_heads, value_dim)
    options = {"is_causal": mask == "causal", "enable_gqa": heads != kv_heads}
    return lambda: F.scaled_dot_product_attention(query, key, value, **options)


def norm(x, weight, eps=1e-6):
    """As written in the models of transformers."""
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def rms_norm(rows, width):
    x, weight = torch.randn(rows, width), torch.randn(width)
    return lambda: norm(x, weight)


def add_rms_norm(rows, width):
    x, residual, weight = torch.randn(rows, width), torch.randn(rows, width), torch.randn(width)
    return lambda: norm(residual + x, weight)


def layer_norm(rows, width):
    x, weight = torch.randn(rows, width), torch.randn(width)
    return lambda: F.layer_norm(x, (width,), weight, weight, 1e-6)


def gated(name, rows, width):
    gate, up = torch.randn(rows, width), torch.randn(rows, width)
    if name == "silu":
        return lambda: F.silu(gate) * up
    approximate = "tanh" if name == "gelu_tanh" else "none"
    return lambda: F.gelu(gate, approximate=approximate) * up


def rope(rows, heads, head_dim):
    x = torch.randn(rows, heads, head_dim)
    cos, sin = torch.randn(rows, 1, head_dim), torch.randn(rows, 1, head_dim)

    def call():
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat((-second, first), -1) * sin

    return call


def softmax(rows, width):
    x = torch.randn(rows, width)
    return lambda: torch.softmax(x, -1)


def logsumexp_topk(rows, width, k):
    x = torch.randn(rows, width)
    return lambda: (torch.logsumexp(x, -1), torch.topk(x, k, -1))


def conv(rows, width, taps):
    x, weight = torch.randn(1, width, rows), torch.randn(width, 1, taps)
    return lambda: F.conv1d(F.pad(x, (taps - 1, 0)), weight, groups=width)


def selective_scan(tokens, channels, state):
    """The loop over tokens that transformers runs without its CUDA kernels."""
    x, delta = torch.randn(tokens, channels), torch.rand(tokens, channels)
    a, b, c = -torch.rand(channels, state), torch.randn(tokens, state), torch.randn(tokens, state)

    def call():
        decay = torch.exp(a[:, None] * delta.T[:, :, None])
        inputs = (delta * x).T[:, :, None] * b
        h, out = torch.zeros(channels, state), []
        for t in range(tokens):
            h = decay[:, t] * h + inputs[:, t]
            out.append(h @ c[t])
        return torch.stack(out)

    return call


def fastest(call):
    call()
    start, best = time.perf_counter(), float("inf")
    while time.perf_counter() - start < BUDGET:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_grad_enabled(False)
    print(torch.__version__, flush=True)
    last, call = None, None
    for line in sys.stdin:
        name = line.strip()
        if name != last:
            call = None  # frees the last case first
            kind, *arguments = name.split()
            make = globals().get(kind)
            arguments = [int(argument) if argument.isdigit() else argument for argument in arguments]
            last, call = name, make(*arguments) if make else None
        print(f"{fastest(call):e}" if call else "-", flush=True)


main()

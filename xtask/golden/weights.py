"""The weights of a golden case: a function of each tensor's name and shape, so that none need storing.

`tests/src/golden_weights.rs` is the same function in Rust, and `tests/golden/weights.fixture.json` holds them
together. The rules, for the i-th element (row-major) of a tensor:

    seed = FNV-1a 64 of the UTF-8 name
    v    = the top 24 bits of the i-th output of SplitMix64 seeded with it, as a float32 in [-1, 1)

    integer tensor `tid2eid` (a table of four experts)        i mod 4
    any other integer tensor of 64 bits                       i
    bytes (four numbers 0, 1 or 2, in 2 bits each)            the last digits, in base 3, of the top 24 bits
    at most one dimension, `.weight` or `.gamma` (a norm),
      or `.weight_scale`                                      1 + v / 4
    at most one dimension, anything else (a bias)             v / 4
    `A_log` (a state space's decay, A = -exp(A_log))          v
    an embedding (`embed`, `wte`, `wpe`, `shared.weight`)     v / 2
    any other matrix or stack of matrices                     v * amplitude(last dimension)

The amplitude is the power of two nearest to sqrt(3 / fan_in), which keeps the variance of activations: products
with a power of two are exact, so every machine computes the same bits.
"""

import numpy

GOLDEN_GAMMA = 0x9E3779B97F4A7C15
MASK = 0xFFFFFFFFFFFFFFFF


def fnv1a(name):
    """FNV-1a, 64 bits, of the name's UTF-8 bytes."""
    digest = 0xCBF29CE484222325
    for byte in name.encode():
        digest = (digest ^ byte) * 0x100000001B3 & MASK
    return digest


def uniform(name, count):
    """`count` values in [-1, 1), float32, drawn for `name`."""
    steps = numpy.arange(1, count + 1, dtype=numpy.uint64)
    z = numpy.uint64(fnv1a(name)) + steps * numpy.uint64(GOLDEN_GAMMA)
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    z = z ^ (z >> numpy.uint64(31))
    return (z >> numpy.uint64(40)).astype(numpy.float32) * numpy.float32(2.0**-23) - numpy.float32(1.0)


def ternary_bytes(name, shape):
    """The bytes of a tensor of numbers 0, 1 and 2: four of 2 bits each, the first in the lowest."""
    drawn = ((uniform(name, int(numpy.prod(shape))) + numpy.float32(1.0)) * numpy.float32(2.0**23)).astype(numpy.uint32)
    return sum(drawn // 3**i % 3 << 2 * i for i in range(4)).astype(numpy.uint8).reshape(shape)


def amplitude(fan_in):
    """The power of two, at most 1, whose square times `fan_in` is nearest to 3 (in ratio)."""
    value = 1.0
    while value * value * fan_in > 6:
        value /= 2
    return value


def is_embedding(name):
    """Whether a matrix of this name is looked up by row."""
    return any(word in name for word in ("embed", "wte", "wpe")) or name.split(".")[-2:] == ["shared", "weight"]


def weight_values(name, shape):
    """The float32 values of a tensor, in its shape."""
    v = uniform(name, int(numpy.prod(shape)))
    if name.endswith("A_log"):
        values = v
    elif len(shape) <= 1:
        norm = name.endswith((".weight", ".gamma", ".weight_scale"))
        values = v * numpy.float32(0.25) + numpy.float32(1.0 if norm else 0.0)
    elif is_embedding(name):
        values = v * numpy.float32(0.5)
    else:
        values = v * numpy.float32(amplitude(shape[-1]))
    return values.reshape(shape)

"""Initial parameters, drawn once in numpy so that both frameworks start from the same bits.

The distribution is PyTorch's default for convolutions and linear layers (He et al., 2015, with
a = sqrt(5)): weights and biases uniform in +-1 / sqrt(fan_in). Other layers start at constants.
"""

import math
import zlib

import numpy as np

# What the weight and the bias of a layer start at, by its kind: "norm" is BatchNorm, GroupNorm or LayerNorm.
CONSTANTS = {"norm": {"weight": 1.0, "bias": 0.0}, "prelu": {"weight": 0.25}}


def initial_parameters(
    shapes: dict[str, tuple[int, ...]], seed: int, kinds: dict[str, str] | None = None, prefix: str = ""
) -> dict[str, np.ndarray]:
    """float32 arrays for parameters named as in a state dict, as a pure function of name, shape and seed.

    A bias takes the fan-in of the weight beside it. A parameter's numbers depend on its own name only,
    so the encoders of two experiments start equal. kinds: the layer, of CONSTANTS, of each parameter that does not
    start at random. prefix: of the names where several networks are trained, so that they start differently.
    """
    parameters = {}
    for name, shape in shapes.items():
        if kinds and name in kinds:
            value = CONSTANTS[kinds[name]][name.rpartition(".")[2]]
            parameters[name] = np.full(shape, value, dtype=np.float32)
            continue
        weight = shapes[name.removesuffix("bias") + "weight"] if name.endswith("bias") else shape
        if len(weight) < 2:
            raise ValueError(f"'{name}': the weight of a layer that does not start at random; its kind is missing")
        bound = 1 / math.sqrt(math.prod(weight[1:]))
        rng = np.random.default_rng((seed, zlib.crc32((prefix + name).encode())))
        parameters[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return parameters

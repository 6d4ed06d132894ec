"""Initial parameters, drawn once in numpy so that both frameworks start from the same bits.

The distribution is PyTorch's default for convolutions and linear layers (He et al., 2015, with
a = sqrt(5)): weights and biases uniform in +-1 / sqrt(fan_in).
"""

import math
import zlib

import numpy as np


def initial_parameters(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """float32 arrays for parameters named as in a state dict, as a pure function of name, shape and seed.

    A bias takes the fan-in of the weight beside it. A parameter's numbers depend on its own name only,
    so the encoders of two experiments start equal.
    """
    parameters = {}
    for name, shape in shapes.items():
        weight = shapes[name.removesuffix("bias") + "weight"] if name.endswith("bias") else shape
        if len(weight) < 2:
            raise ValueError(f"'{name}': a norm layer's or PReLU's weight starts at a constant; say which one here")
        bound = 1 / math.sqrt(math.prod(weight[1:]))
        rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
        parameters[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return parameters

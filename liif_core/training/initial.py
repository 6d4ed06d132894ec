"""Initial parameters, drawn once in numpy so that both frameworks start from the same bits.

The distribution is PyTorch's default for convolutions and linear layers (He et al., 2015, with
a = sqrt(5)): weights and biases uniform in +-1 / sqrt(fan_in). Other layers start at constants. The networks of
diffusion start with orthogonal weights (Saxe et al., ICLR 2014, arXiv 1312.6120), as SR3-PyTorch's do.
"""

import math
import zlib

import numpy as np

# What the weight and the bias of a layer start at, by its kind: "norm" is BatchNorm, GroupNorm or LayerNorm.
CONSTANTS = {
    "norm": {"weight": 1.0, "bias": 0.0},
    "prelu": {"weight": 0.25},
    "zero": {"bias": 0.0},
    "heat": {"k": math.sqrt(math.log(4)) / (2 * math.pi**2)},  # of Thera's code
}
DISC = "disc"  # the kind of Thera's waves: frequencies evenly over a disc of DISC_RADIUS half waves per feature pixel
DISC_RADIUS = 16
NORMAL = "normal"  # the kind of the weights of Swin's blocks, of this deviation
DEVIATION = 0.02


def initial_parameters(
    shapes: dict[str, tuple[int, ...]],
    seed: int,
    kinds: dict[str, str] | None = None,
    prefix: str = "",
    orthogonal: bool = False,
) -> dict[str, np.ndarray]:
    """float32 arrays for parameters named as in a state dict, as a pure function of name, shape and seed.

    A bias takes the fan-in of the weight beside it. A parameter's numbers depend on its own name only,
    so the encoders of two experiments start equal. kinds: the layer, of CONSTANTS, of each parameter that does not
    start at random. prefix: of the names where several networks are trained, so that they start differently.
    orthogonal: weights of convolutions and linear layers are orthogonal matrices, and their biases 0.
    """
    parameters = {}
    for name, shape in shapes.items():
        if kinds and name in kinds:
            if kinds[name] in DRAWN:
                rng = np.random.default_rng((seed, zlib.crc32((prefix + name).encode())))
                parameters[name] = DRAWN[kinds[name]](shape, rng)
                continue
            value = CONSTANTS[kinds[name]][name.rpartition(".")[2]]
            parameters[name] = np.full(shape, value, dtype=np.float32)
            continue
        weight = shapes[name.removesuffix("bias") + "weight"] if name.endswith("bias") else shape
        if len(weight) < 2:
            raise ValueError(f"'{name}': the weight of a layer that does not start at random; its kind is missing")
        bound = 1 / math.sqrt(math.prod(weight[1:]))
        rng = np.random.default_rng((seed, zlib.crc32((prefix + name).encode())))
        if orthogonal:
            parameters[name] = np.zeros(shape, np.float32) if name.endswith("bias") else _orthogonal(rng, shape)
        else:
            parameters[name] = rng.uniform(-bound, bound, shape).astype(np.float32)
    return parameters


def _orthogonal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A weight as a matrix (outputs, all else), whose rows, or columns if they are fewer, are orthonormal: equally
    likely are all such matrices (Mezzadri, 2007)."""
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.sign(np.diag(r))
    return (q if rows >= columns else q.T).reshape(shape).astype(np.float32)


def _disc(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(2, n) float32: as many points down and right."""
    radius, angle = math.pi * DISC_RADIUS * np.sqrt(rng.random(shape[1])), 2 * math.pi * rng.random(shape[1])
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)]).astype(np.float32)


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return (DEVIATION * rng.standard_normal(shape)).astype(np.float32)


DRAWN = {DISC: _disc, NORMAL: _normal}

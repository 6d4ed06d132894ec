"""What is drawn to train on an image: its noise, and how much of it.

SR3's networks are told sqrt(gamma), which is drawn from all values between those of the schedule (WaveGrad: Chen et
al., ICLR 2021, arXiv 2009.00713, section 2.2; SR3, section 2.4); DDPM's are told the time t.
"""

from typing import Literal

import numpy as np

from liif_core.diffusion.schedules import Schedule, gammas
from liif_core.errors import UserError

Kind = Literal["sr3", "ddpm"]


def draw(
    rng: np.random.Generator, schedule: Schedule, shape: tuple[int, ...], kind: Kind = "sr3"
) -> dict[str, np.ndarray]:
    """What a sample needs beside its image of `shape` (3, h, w): "noise", standard normal of that shape, and "level",
    the sqrt(gamma) of the noisy image, a number; for "ddpm" also "step", the number from 0 of the time; all float32.

    sr3: a time t of 1 to T, and sqrt(gamma) uniform between its own and that of t - 1. ddpm: a time, and its gamma.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    roots = np.sqrt(gammas(schedule))
    time = int(rng.integers(1, schedule.steps + 1))
    if kind == "ddpm":
        return {"noise": noise, "level": _number(roots[time]), "step": _number(time - 1)}
    return {"noise": noise, "level": _number(rng.uniform(roots[time], roots[time - 1]))}


def require(batch: dict[str, np.ndarray], told: str, conditional: bool) -> None:
    """Raise UserError for a batch without what a network is told, or a condition that has another size than gt."""
    for name in ("gt", "noise", "level", told, *(("inp",) if conditional else ())):
        if name not in batch:
            raise UserError(f"method 'diffusion': the wrapper gives no '{name}': take one that is for diffusion")
    if conditional and batch["inp"].shape != batch["gt"].shape:
        condition, image = ("x".join(map(str, batch[name].shape[2:])) for name in ("inp", "gt"))
        raise UserError(
            f"method 'diffusion': the condition is {condition} pixels, the image {image}: expected one size"
        )


def deviation(level: np.ndarray) -> np.ndarray:
    """sqrt(1 - gamma) of levels sqrt(gamma), float32 (B,) -> (B,): computed in float64, in which small ones keep their
    digits."""
    return np.sqrt(1 - level.astype(np.float64) ** 2).astype(np.float32)


def _number(value: float) -> np.ndarray:
    return np.array(value, np.float32)

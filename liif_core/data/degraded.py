"""The wrappers of liif_core.data.wrappers and patches, their low resolution degraded as photographs are.

Crops, flips and queries are those of the same wrapper without a degradation, seed for seed, since what degrades draws
from a generator of its own.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import Field, PositiveInt

from liif_core.data.degradations import Degradation, degrade
from liif_core.data.patches import PatchesDownsampled
from liif_core.data.registries import WRAPPERS
from liif_core.data.wrappers import ImplicitDownsampled, ImplicitPaired, Wrapper


class Degraded(Wrapper):
    """Comes first among a wrapper's bases."""

    degradation: Degradation

    def _cut(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        of_its_own = rng.spawn(1)[0]  # takes nothing from rng
        low, high = super()._cut(index, rng)  # type: ignore[safe-super]
        return degrade(low, self.degradation, of_its_own), high


@WRAPPERS.register("sr-implicit-degraded")
class ImplicitDegraded(Degraded, ImplicitDownsampled):
    """`sr-implicit-downsampled`, then degraded as `degradation` says: photographs.md has its keys and what they do."""

    def __init__(
        self,
        dataset: Any,
        degradation: Degradation,
        inp_size: PositiveInt | None = None,
        scale_min: float = 1,
        scale_max: float | None = None,
        augment: bool = False,
        sample_q: PositiveInt | None = None,
        seed: int = 0,
        training: bool = False,
        gt_downsample_max: Annotated[float, Field(ge=1)] = 1,
    ):
        super().__init__(dataset, inp_size, scale_min, scale_max, augment, sample_q, seed, training, gt_downsample_max)
        self.degradation = degradation


@WRAPPERS.register("sr-implicit-paired-degraded")
class ImplicitPairedDegraded(Degraded, ImplicitPaired):
    """`sr-implicit-paired`, the low resolution degraded; in a test always in the same way."""

    def __init__(
        self,
        dataset: Any,
        degradation: Degradation,
        inp_size: PositiveInt | None = None,
        augment: bool = False,
        sample_q: PositiveInt | None = None,
        seed: int = 0,
        training: bool = False,
    ):
        super().__init__(dataset, inp_size, augment, sample_q, seed, training)
        self.degradation = degradation


@WRAPPERS.register("sr-patches-degraded")
class PatchesDegraded(Degraded, PatchesDownsampled):
    """`sr-patches-downsampled`, the low resolution degraded."""

    def __init__(
        self,
        dataset: Any,
        scale: PositiveInt,
        degradation: Degradation,
        inp_size: PositiveInt | None = None,
        augment: bool = False,
        seed: int = 0,
        training: bool = False,
    ):
        super().__init__(dataset, scale, inp_size, augment, seed, training)
        self.degradation = degradation

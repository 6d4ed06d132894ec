"""The learning rate as a pure function of where training is: nothing to save, nothing to resume."""

import math

from liif_core.config.schema import CosineLR, MultiStepLR


def learning_rate(base: float, epoch: float, schedule: MultiStepLR | CosineLR | None, epoch_max: int = 0) -> float:
    """The rate at `epoch`: 1 when the first begins, 1.5 in its midst.

    MultiStepLR: base * gamma ^ (milestones that have passed). A milestone m takes effect from epoch m + 1 on, as with
    LIIF's scheduler, which steps when an epoch ends. CosineLR: half a cosine from base to lr_min, over epoch_max
    epochs (Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts).
    """
    if isinstance(schedule, MultiStepLR):
        passed = sum(math.floor(epoch) > milestone for milestone in schedule.milestones)
        return base * schedule.gamma**passed
    if isinstance(schedule, CosineLR):
        wave = (1 + math.cos(math.pi * (epoch - 1) / epoch_max)) / 2
        return schedule.lr_min + (base - schedule.lr_min) * wave
    return base

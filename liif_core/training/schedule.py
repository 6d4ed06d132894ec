"""The learning rate and the decay of the average of the weights as pure functions of where training is: nothing to
save, nothing to resume.
"""

import math

from liif_core.config.schema import CosineLR, MultiStepLR, Warmup


def learning_rate(
    base: float,
    epoch: float,
    schedule: MultiStepLR | CosineLR | None,
    epoch_max: int = 0,
    warmup: Warmup | None = None,
) -> float:
    """The rate at `epoch`: 1 when the first begins, 1.5 in its midst.

    MultiStepLR: base * gamma ^ (milestones that have passed). A milestone m takes effect from epoch m + 1 on, as with
    LIIF's scheduler, which steps when an epoch ends. CosineLR: half a cosine from base to lr_min, over epoch_max
    epochs (Loshchilov and Hutter, SGDR, ICLR 2017, equation 5, without restarts), less those of a Warmup: within them
    the rate is a line from factor * base to base (Goyal et al., 2017, arXiv 1706.02677, section 2.2).
    """
    done, warm = epoch - 1, warmup.epochs if warmup else 0
    if warmup and done < warm:
        return base * (warmup.factor + (1 - warmup.factor) * done / warm)
    if isinstance(schedule, MultiStepLR):
        passed = sum(math.floor(epoch) > milestone for milestone in schedule.milestones)
        return base * schedule.gamma**passed
    if isinstance(schedule, CosineLR):
        wave = (1 + math.cos(math.pi * (done - warm) / (epoch_max - warm))) / 2
        return schedule.lr_min + (base - schedule.lr_min) * wave
    return base


def decay(ema: float | None, steps: int) -> float | None:
    """The decay after that many steps: at most (1 + steps) / (10 + steps), as in TensorFlow's
    ExponentialMovingAverage, so that a short run forgets its initial weights. None where there is no average."""
    return None if ema is None else min(ema, (1 + steps) / (10 + steps))

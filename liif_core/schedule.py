"""The learning rate as a pure function of the epoch: nothing to save, nothing to resume."""

from liif_core.config import MultiStepLR


def learning_rate(base: float, epoch: int, multi_step: MultiStepLR | None) -> float:
    """The rate of epoch `epoch` (the first is 1): base * gamma ^ (milestones that have passed).

    A milestone m takes effect from epoch m + 1 on, as with upstream's scheduler, which steps when an
    epoch ends.
    """
    if multi_step is None:
        return base
    passed = sum(epoch > milestone for milestone in multi_step.milestones)
    return base * multi_step.gamma**passed

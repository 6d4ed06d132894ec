"""The protocols by name: `benchmark-S` and `div2k-S`, S the factor, 2 as well as 2.5.

With S the protocol says three things: which low resolution is asked for, how wide the border is that is not counted,
and under which scale a score is listed. What each counts is in `evaluation/psnr_ssim.py`.
"""

import re

KINDS = ("div2k", "benchmark")
ACCEPTED = "accepted is div2k-S or benchmark-S, S the scale, like benchmark-4 or benchmark-2.5"


def split(eval_type: str) -> tuple[str, int | float]:
    """The kind and the factor, from 1 on: ("benchmark", 4), ("div2k", 2.5). Raises ValueError for what is neither."""
    found = re.fullmatch(rf"({'|'.join(KINDS)})-([1-9][0-9]{{0,4}}(?:\.[0-9]{{1,9}})?)", eval_type)
    if not found:
        raise ValueError(ACCEPTED)
    return found[1], number(float(found[2]))


def scale_of(eval_type: str | None) -> int | float | None:
    """The factor alone; None without a protocol."""
    return None if eval_type is None else split(eval_type)[1]


def number(scale: float) -> int | float:
    """A whole factor as an int, so that it is written 4 and not 4.0."""
    return int(scale) if float(scale).is_integer() else float(scale)

"""Is the factor of the data the one that the protocol names?

A set at x4 is scored under a protocol of x2 without an error: too narrow a border is cut, and the result stands in
the wrong column. So the sizes of the images are compared with the protocol before anything is measured.
"""

import math

from liif_core.config import protocol
from liif_core.data import names

Sizes = tuple[tuple[int, int], ...]  # (h, w) of an item's images, one for each folder


def contradiction(wrapper, sizes: dict[int, Sizes], eval_type: str) -> str | None:
    """What is wrong with a wrapper's factors under a protocol, None if nothing is.

    sizes: by index, of the items that passed the wrapper's `check`.
    """
    kind, expected = protocol.split(eval_type)
    wrong: dict[float | None, list[str]] = {}
    for index, item in sizes.items():
        factor = wrapper.factor(index, *item)
        if factor is None or not math.isclose(factor, expected):
            wrong.setdefault(factor, []).append(wrapper.name(index))
    if not wrong:
        return None
    one = next(iter(wrong)) if len(wrong) == 1 else None
    if len(next(iter(wrong.values()))) == len(sizes):  # of all images: no need for names
        found = "another for each image" if one is None else f"{one:g}"
    else:
        found = "; ".join(f"{factor:g} of {names.some(wrong_names)}" for factor, wrong_names in wrong.items())
    remedy = f"expected data at x{expected}"
    if one and one >= 1 and float(f"{one:g}") == one:
        remedy += f", or eval_type {kind}-{one:g}"
    return f"{wrapper.FACTOR} is {found}, the protocol {eval_type} says {expected}: {remedy}"

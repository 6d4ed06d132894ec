"""What is refused of a checkpoint that was read whole: weights that are no numbers, a model that they are not of."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.engine import State
from liif_core.errors import UserError


def require_finite(state: State, source: str | Path, training: bool) -> None:
    """Raise UserError that names a parameter whose values are NaN or infinite. training: of the optimizer, too."""
    bad: dict[str, np.ndarray] = {}
    for network in state.values():
        for arrays in (network.variables, network.average, network.optimizer if training else {}):
            bad |= {name: array for name, array in arrays.items() if not np.isfinite(array).all()}
    if bad:
        name, array = next(iter(bad.items()))
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        count = np.count_nonzero(~np.isfinite(array))
        raise UserError(
            f"{source}: the weights are no numbers: {name} is NaN or infinite in {count} of {array.size} values{more}; "
            "expected finite ones"
        )


LARGEST = 255  # a number in a spec that no tensor need be as large as: rgb_range
OF_IMAGES = ("image_size", "attn_res")  # sides of what a model is trained on, which no tensor has


def require_plausible(model: Any, state: State, source: str | Path) -> None:
    """Raise UserError for a spec whose numbers are negative, or larger than any side of a tensor and the number of
    tensors: a short file shall not have a huge model built."""
    shapes = [array.shape for network in state.values() for array in network.variables.values()]
    most = max(LARGEST, len(shapes), *(side for shape in shapes for side in shape))

    for name, value in _leaves(model, "model"):
        if name in OF_IMAGES:
            continue
        try:
            number = float(value)  # of a text as well, which a config's whole numbers may be
        except (TypeError, ValueError):
            continue
        except OverflowError:
            number = math.inf
        if not 0 <= number <= most:
            raise UserError(f"{source}: its model is to have {name} {value}, and its tensors are of other sizes")


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """The values in a spec that hold no others, by the name that they, or the list around them, have."""
    parts = value.items() if isinstance(value, dict) else ((name, part) for part in value)
    for key, part in parts:
        if isinstance(part, (dict, list)):
            yield from _leaves(part, key)
        else:
            yield key, part

"""Weights alone, as most programs save them: where in a file they are, and their names as the model has them.

Whose weights they are is not in the file: a config says it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from liif_core.checkpoints.liif import used
from liif_core.checkpoints.native import Checkpoint
from liif_core.checkpoints.pth import float32
from liif_core.config.schema import ModelConfig, TrainConfig
from liif_core.engine import MODEL, NetworkState, is_buffer

# Under which keys of a file weights lie, the ones to predict with first: averages, then BasicSR's and Lightning's.
AVERAGES = ("params_ema", "ema", "ema_state_dict", "state_dict_ema", "model_ema")
KEYS = (*AVERAGES, "params", "state_dict", "model_state_dict")
# What wraps a model puts its own name before, or between, those of the parameters.
WRAPPERS = ("module", "_orig_mod")  # DataParallel and averages; torch.compile
OWNERS = ("model", "net", "net_g", "network", "generator")  # of a class that has the model as this
COUNTS = ("n_averaged", "num_batches_tracked")  # which decide nothing


def find(content: Any) -> tuple[str, dict[str, np.ndarray]] | None:
    """The weights in what was unpickled, and the keys that lead to them; None where there are none, or several and
    nobody knows which."""
    found = dict(_all(content, "", 3))
    for key in KEYS:
        for place in found:
            if key in place.split("."):
                return place, found[place]
    return next(iter(found.items())) if len(found) == 1 else None


def _all(content: Any, place: str, depth: int) -> Iterable[tuple[str, dict[str, np.ndarray]]]:
    if not isinstance(content, dict) or not depth or not all(isinstance(key, str) for key in content):
        return
    weights = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    if weights and len(weights) == len(content):
        yield place, weights
        return
    for key, value in content.items():
        yield from _all(value, f"{place}.{key}".lstrip("."), depth - 1)


def renamed(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """The names without what wrappers put there, by the given ones, and what was taken away; counts are left out."""
    parts = {name: name.split(".") for name in names if name.split(".")[-1] not in COUNTS}
    taken: list[str] = []
    short = {name: [part for part in path if part not in WRAPPERS] for name, path in parts.items()}
    if len({".".join(path) for path in short.values()}) == len(parts) and all(short.values()):
        taken = [wrapper for wrapper in WRAPPERS if any(wrapper in path for path in parts.values())]
        parts = short
    while parts and all(len(path) > 1 for path in parts.values()):
        first = {path[0] for path in parts.values()}
        if len(first) > 1 or not first <= set(OWNERS):
            break
        taken += first
        parts = {name: path[1:] for name, path in parts.items()}
    return {name: ".".join(path) for name, path in parts.items()}, " and ".join(f"'{part}.'" for part in taken)


def of_config(weights: dict[str, np.ndarray], config: ModelConfig | TrainConfig, place: str = "") -> Checkpoint:
    """The checkpoint of these weights, which a config says everything else of."""
    names, taken = renamed(weights)
    arrays = float32(used({name: weights[given] for given, name in names.items()}))
    state = NetworkState(
        parameters={name: array for name, array in arrays.items() if not is_buffer(name)},
        buffers={name: array for name, array in arrays.items() if is_buffer(name)},
    )
    return Checkpoint(
        model=config.model.model_dump(),
        state={MODEL: state},
        data_norm=config.data_norm.model_dump(),
        method=config.method.model_dump(),
        notes=[*([f"its weights are those under '{place}'"] if place else []), *said(taken)],
    )


def said(taken: str) -> list[str]:
    """What is said of names that were made shorter."""
    return [f"its parameters' names are taken without {taken}"] if taken else []

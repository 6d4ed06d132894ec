"""Data sets and wrappers, made from their specs; importing this registers them all.

A data set yields uint8 images; a wrapper turns one of them into a pair (low resolution, high
resolution) and a training sample. Both trees put their own loader on top.
"""

from typing import Any

from liif_core.config.registry import Registry
from liif_core.data import (  # noqa: F401  (they register themselves)
    degraded,
    diffusion,
    factor,
    folders,
    patches,
    prepared,
    wrappers,
)
from liif_core.data.registries import DATASETS, WRAPPERS
from liif_core.data.sizes import RoundedUp
from liif_core.errors import UserError


def make(spec: dict, seed: int, training: bool, eval_type: str | None = None):
    """The wrapper over the data set that a config's `train_dataset`, `val_dataset` or `test_dataset` names.

    spec: {"dataset": spec, "wrapper": spec, ...}. training: crops differ by epoch and are shuffled;
    otherwise every epoch sees the same crops in the same order. eval_type: the protocol that measures on it. Raises
    UserError if they do not fit each other, or if an image cannot give what may be asked of it.
    """
    if problem := misfit(spec):
        raise UserError(problem)
    dataset = DATASETS.make(spec["dataset"])
    made = WRAPPERS.make(spec["wrapper"], dataset=dataset, seed=seed, training=training)
    if problems := unfit(made, eval_type):
        more = f" (and {len(problems) - 1} more, which scripts/check_data.py names)" if len(problems) > 1 else ""
        raise UserError(f"{dataset.where}: {problems[0]}{more}")
    return made


def unfit(wrapper, eval_type: str | None) -> list[str]:
    """What is wrong with the sizes of a wrapper's images, a sentence each, and with their factor under a protocol."""
    problems: dict[str, None] = {}  # an image that is repeated is wrong once
    rounded: list[str] = []
    fitting = {}
    for index in range(len(wrapper)):
        sizes = wrapper.dataset.sizes(index)
        try:
            wrapper.check(index, *sizes)
            fitting[index] = sizes
        except RoundedUp as error:
            rounded.append(str(error))
        except UserError as error:
            problems[str(error)] = None
    if rounded:
        more = len(set(rounded)) - 1
        problems[rounded[0] + (f"; {more} more pairs are like that" if more else "")] = None
    if eval_type and (problem := factor.contradiction(wrapper, fitting, eval_type)):
        problems[problem] = None
    return list(problems)


def misfit(spec: dict) -> str | None:
    """Why the wrapper of `spec` cannot take what its data set gives, None if it can.

    Raises UserError for names and arguments that are not known.
    """
    DATASETS.arguments(spec["dataset"])
    WRAPPERS.arguments(spec["wrapper"], dataset=None, seed=0, training=False)
    dataset, wrapper = spec["dataset"]["name"], spec["wrapper"]["name"]
    gives, takes = (_images_per_item(registry)[name] for registry, name in ((DATASETS, dataset), (WRAPPERS, wrapper)))
    if gives == takes:
        return None
    words = {1: "single images", 2: "pairs"}
    fitting = " or ".join(f"'{name}'" for name, count in _images_per_item(WRAPPERS).items() if count == gives)
    datasets = " or ".join(f"'{name}'" for name, count in _images_per_item(DATASETS).items() if count == takes)
    return (
        f"data set '{dataset}' gives {words[gives]}, wrapper '{wrapper}' takes {words[takes]}: "
        f"take {fitting} for this data set, or {datasets} for this wrapper"
    )


def _images_per_item(registry: Registry) -> dict[str, int]:
    """How many images make an item, by name."""
    entries: dict[str, Any] = registry.entries
    return {name: entry.images_per_item for name, entry in entries.items()}

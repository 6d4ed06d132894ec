"""The tables of docs/configs.md: what a config may say, from the code that reads it."""

import importlib
import inspect

from liif_core.config import describe
from liif_core.config.registry import Registry
from liif_core.config.schema import TestConfig, TrainConfig
from liif_core.data import sets
from liif_core.data.degradations import Degradation
from liif_core.evaluation.metrics import METRICS
from liif_core.report.tables import Cell, Table, code

NAMES = ("models", "datasets", "wrappers", "optimizers", "methods")
TABLES = ("keys", "degradation", "metrics", *NAMES)


def registries(framework: str) -> dict[str, Registry]:
    """All that a spec may name, by NAMES. Imports the framework: the device must be chosen before."""
    models, methods, optim = (
        importlib.import_module(f"liif_{framework}.{module}") for module in ("models.build", "methods.build", "optim")
    )
    found = (models.models, sets.DATASETS, sets.WRAPPERS, optim.optimizers, methods.methods)
    return dict(zip(NAMES, found, strict=True))


def table(name: str) -> Table:
    """The table `name` of docs/configs.md, one of TABLES."""
    if name in NAMES:
        return _names(registries("torch")[name])  # the trees agree: test_mirror.py
    return {"keys": _keys, "degradation": _degradation, "metrics": metrics_table}[name]()


def _keys() -> Table:
    """The keys of training configs, and those of test configs that are others."""
    training, test = (describe.keys(schema) for schema in (TrainConfig, TestConfig))
    found = [(code(key.name), key) for key in training]
    found += [(f"{code(key.name)}, test", key) for key in test if key not in training]
    rows: list[list[Cell | str]] = [
        [name, key.type, "needed" if key.default is None else code(key.default), key.text] for name, key in found
    ]
    return Table("keys", ["key", "value", "default", "meaning"], rows, labels=4)


def _degradation() -> Table:
    """The keys of the argument `degradation` of wrappers."""
    rows: list[list[Cell | str]] = [
        [code(key.name), key.type, code(key.default or ""), key.text] for key in describe.keys(Degradation)
    ]
    return Table("degradation", ["key", "value", "default", "meaning"], rows, labels=4)


def _names(registry: Registry) -> Table:
    """The names of a registry, their arguments and docstrings."""
    rows: list[list[Cell | str]] = []
    for entry in describe.entries(registry):
        name = code(entry.name) + (f", {entry.kind}" if entry.kind != registry.kind else "")
        rows.append([name, ", ".join(code(str(argument)) for argument in entry.arguments), entry.text])
    return Table(registry.kind, ["name", "arguments", "meaning"], rows, labels=3)


def metrics_table() -> Table:
    """What can be measured, and what the values mean."""
    rows: list[list[Cell | str]] = []
    for metric in METRICS.values():
        meaning = (inspect.getdoc(metric.function) or "").split("\n\n")[0]
        values = f"{metric.low:g} to {metric.high:g} {metric.unit}".strip()
        rows.append([code(metric.name), metric.better, metric.per, values, " ".join(meaning.split())])
    return Table("metrics", ["name", "better", "per", "range", "meaning"], rows, labels=5)

"""Checkpoints of other code: whose a file is, and its content in this project's terms."""

from pathlib import Path

import numpy as np

from liif_core.checkpoints import bare, liif, liif_pytorch, pth, sr3, thera
from liif_core.checkpoints.native import Checkpoint
from liif_core.checkpoints.unpickle import Refused
from liif_core.config.schema import ModelConfig, TrainConfig
from liif_core.errors import UserError

ASKED_FOR = (
    "name its training config, or a YAML file of `model` and `data_norm`, by --config (--model-config for test.py, "
    "config= in Python)"
)


def read(path: Path, config: ModelConfig | TrainConfig | None, training: bool = False) -> Checkpoint:
    """Read a checkpoint of the original LIIF, of LIIF-PyTorch (.pth.tar, the same container), of Thera, of SR3-PyTorch,
    or bare weights; the config says the model of the latter two. training: as for `formats.load`.

    Raises UserError for a file that is damaged, another project's, or asks for more than data.
    """
    try:
        return _translate(path, pth.read(path), config, training)
    except Refused as refusal:
        raise UserError(f"{path} is refused: it contains {refusal}, which weights do not need") from None
    except (UserError, MemoryError):
        raise
    except Exception as error:  # a broken pickle can raise nearly anything, and so can what it holds
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from None


def _translate(path: Path, content: object, config: ModelConfig | TrainConfig | None, training: bool) -> Checkpoint:
    parts = content if isinstance(content, dict) else {}
    model, state = parts.get("model"), parts.get("state_dict")
    why = ""
    if isinstance(model, dict) and {"name", "args", "sd"} <= set(model):
        names, taken = bare.renamed(model["sd"])
        weights = {name: model["sd"][given] for given, name in names.items()}
        found = liif.translate(parts | {"model": model | {"sd": weights}})
        found.notes += bare.said(taken)
        return found
    if sr3.is_sr3(parts):
        return sr3.translate(path, parts, config, training)
    if thera.is_thera(parts):
        return thera.translate(path, parts)
    if isinstance(state, dict) and state:
        names, taken = bare.renamed(state)
        try:
            found = liif_pytorch.translate(parts | {"state_dict": {name: state[old] for old, name in names.items()}})
            found.notes += bare.said(taken)
            return found
        except liif_pytorch.AnotherModel as reason:
            why = f" (the state_dict is not of LIIF-PyTorch's model: {reason})"
    lone = bare.find(content)
    if lone is None:
        kind = f"its keys are {', '.join(sorted(map(str, parts))[:8])}" if parts else f"it is a {_kind(content)}"
        raise UserError(
            f"{path} is not a checkpoint of the original LIIF: it has no model with name, args and sd, "
            f"and no weights by their names: {kind}{why}"
        )
    return of_config(path, lone[1], config, lone[0], why)


def _kind(content: object) -> str:
    return "single tensor" if isinstance(content, np.ndarray) else type(content).__name__


def of_config(
    path: Path, weights: dict[str, np.ndarray], config: ModelConfig | TrainConfig | None, place: str = "", why: str = ""
) -> Checkpoint:
    """The checkpoint of bare weights. Raises UserError without a config."""
    if config is None:
        where = f" under '{place}'" if place else ""
        raise UserError(f"{path} holds bare weights{where}, and does not say of which model{why}: {ASKED_FOR}")
    return bare.of_config(weights, config, place)

"""Checkpoints: safetensors with the model's spec in the metadata, readable by both trees.

The weights to predict with are stored under LIIF's names ("encoder.head.0.weight"). What a run needs to go on rides
along: the optimizer's moments under "optimizer.<moment>.<parameter>" and, where the weights are a moving average, the
parameters themselves under "raw.<parameter>". The metadata is plain JSON: model, data_norm, optimizer, progress, and a
SHA-256 of everything, because safetensors would not notice a flipped bit.
LIIF's .pth and LIIF-PyTorch's .pth.tar files are read by liif_core.checkpoints.foreign.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from liif_core.engine import State
from liif_core.errors import UserError
from liif_core.system.files import write_atomically

FORMAT = "liif-checkpoint-1"
OPTIMIZER, RAW = "optimizer.", "raw."


@dataclass
class Checkpoint:
    """A model and, for a run to go on, where its training is.

    model, optimizer: specs. data_norm: as in the config. progress: liif_core.training.loop's; empty for bare weights.
    """

    model: dict
    state: State
    data_norm: dict | None = None
    optimizer: dict | None = None
    progress: dict = field(default_factory=dict)


def save(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write atomically: the file under `path` is the old one or the new one, never a part.

    previous: where the old one goes, if it shall stay. Raises UserError when the disk is full or the folder cannot be
    written.
    """
    state = checkpoint.state
    tensors = dict(state.weights)
    tensors |= {RAW + name: array for name, array in state.parameters.items()} if state.average else {}
    tensors |= {OPTIMIZER + name: array for name, array in state.optimizer.items()}
    content: dict = {
        "model": checkpoint.model,
        "data_norm": checkpoint.data_norm,
        "optimizer": checkpoint.optimizer,
        "progress": checkpoint.progress,
    }
    tensors = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    content["sha256"] = _digest(content, tensors)
    # One entry, because safetensors writes several in random order and equal checkpoints shall be equal files.
    metadata = {FORMAT: json.dumps(content)}
    write_atomically(path, safetensors.numpy.save(tensors, metadata), previous)


def _digest(content: dict, tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that a checkpoint holds."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


def read(path: Path) -> Checkpoint:
    """Read a file that `save` wrote. Raises UserError for a damaged or foreign one."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file (cut short or damaged): {error}") from None
    if FORMAT not in metadata:
        raise UserError(f"{path} is a safetensors file, but not a checkpoint of this project (no '{FORMAT}' in it)")
    try:
        content = json.loads(metadata[FORMAT])
        written = content.pop("sha256", None)  # files of before it was kept have none
        parts = {key: content[key] for key in ("model", "data_norm", "optimizer", "progress")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its metadata is damaged: {error}") from None
    if written is not None and written != _digest(content, tensors):
        raise UserError(f"{path} is damaged: its SHA-256 is not the one that it was written with")
    return Checkpoint(state=_state(tensors), **parts)


def _state(tensors: dict[str, np.ndarray]) -> State:
    """The tensors of a file by what they are."""
    moments: dict[str, np.ndarray] = {}
    raw: dict[str, np.ndarray] = {}
    weights: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        if name.startswith(OPTIMIZER):
            moments[name.removeprefix(OPTIMIZER)] = array
        else:
            kind = raw if name.startswith(RAW) else weights
            # float16 weights are a way to store them, not to compute with them
            kind[name.removeprefix(RAW)] = array.astype(np.float32)
    return State(raw, moments, weights) if raw else State(weights, moments)


def restore(engine, state: State, source: str | Path) -> None:
    """Give a checkpoint's state to an engine. Raises UserError naming the parameters that differ."""
    expected = {name: array.shape for name, array in engine.state().parameters.items()}
    found = {name: array.shape for name, array in state.parameters.items()}
    differing = [
        f"{name} ({_shape(found.get(name))} in the file, {_shape(expected.get(name))} in the model)"
        for name in sorted(set(expected) | set(found))
        if expected.get(name) != found.get(name)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(f"{source} holds another model: {', '.join(differing[:3])}{more}")
    engine.load_state(state)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "scalar"

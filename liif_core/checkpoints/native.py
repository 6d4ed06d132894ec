"""Checkpoints: safetensors with the model's spec in the metadata, readable by both trees.

The weights to predict with are stored under LIIF's names ("encoder.head.0.weight"), statistics of BatchNorm among them.
What a run needs to go on rides along: the optimizer's moments under "optimizer.<moment>.<parameter>" and, where the
weights are a moving average, the parameters themselves under "raw.<parameter>"; the same of every other network of the
method, such as a discriminator, under "networks.<network>.". The metadata is plain JSON: model, data_norm, optimizer,
progress, the method unless it is regression, and a SHA-256 of everything, because safetensors would not notice a
flipped bit.
LIIF's .pth and LIIF-PyTorch's .pth.tar files are read by liif_core.checkpoints.foreign.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from liif_core.checkpoints.pth import float32
from liif_core.checkpoints.unpickle import widened
from liif_core.config.yaml_text import numbers
from liif_core.engine import MODEL, REGRESSION, NetworkState, State, is_buffer
from liif_core.errors import UserError
from liif_core.system.files import write_atomically

FORMAT = "liif-checkpoint-1"
OPTIMIZER, RAW, NETWORKS = "optimizer.", "raw.", "networks."


@dataclass
class Checkpoint:
    """A model and, for a run to go on, where its training is.

    model, optimizer, method: specs. data_norm: as in the config. progress: liif_core.training.run's; empty for bare
    weights. notes: what is to be said of how it was read, in words.
    """

    model: dict
    state: State
    data_norm: dict | None = None
    optimizer: dict | None = None
    progress: dict = field(default_factory=dict)
    method: dict = field(default_factory=REGRESSION.copy)
    notes: list[str] = field(default_factory=list)


def save(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write atomically: the file under `path` is the old one or the new one, never a part.

    previous: where the old one goes, if it shall stay. Raises UserError when the disk is full or the folder cannot be
    written.
    """
    tensors: dict[str, np.ndarray] = {}
    for name, state in checkpoint.state.items():
        tensors |= {("" if name == MODEL else f"{NETWORKS}{name}.") + key: array for key, array in _named(state)}
    content: dict = {
        "model": checkpoint.model,
        "data_norm": checkpoint.data_norm,
        "optimizer": checkpoint.optimizer,
        "progress": checkpoint.progress,
    }
    if checkpoint.method != REGRESSION:  # which older files do not name, and equal checkpoints shall be equal files
        content["method"] = checkpoint.method
    tensors = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in tensors.items()}
    content["sha256"] = _digest(content, tensors)
    # One entry, because safetensors writes several in random order and equal checkpoints shall be equal files.
    metadata = {FORMAT: json.dumps(content)}
    write_atomically(path, safetensors.numpy.save(tensors, metadata), previous)


def _named(state: NetworkState) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a network by their names in a file."""
    yield from state.weights.items()
    if state.average:
        yield from ((RAW + name, array) for name, array in state.variables.items())
    yield from ((OPTIMIZER + name, array) for name, array in state.optimizer.items())


def _digest(content: dict, tensors: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that a checkpoint holds."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[name]).data)
    return digest.hexdigest()


# What is read of safetensors' types of numbers; numpy has none for bfloat16.
BFLOAT16, DOUBLE = "BF16", "F64"
READ = {"F32", "F16", DOUBLE, "I64", "I32", "I16", "I8", "U8", "BOOL"}


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray], set[str]]:
    """Metadata, tensors and types of numbers of any safetensors file; bfloat16 becomes float32. Raises UserError for a
    damaged one, and for another type.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}
            tensors = {name: file.get_tensor(name) for name, kind in kinds.items() if kind in READ}
            metadata = file.metadata() or {}
        strange = {kind: name for name, kind in kinds.items() if kind not in READ}
        if set(strange) == {BFLOAT16}:
            for name, tensor in safetensors.deserialize(path.read_bytes()):
                if name not in tensors:
                    tensors[name] = widened(np.frombuffer(tensor["data"], "<u2")).reshape(tensor["shape"])
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole safetensors file (cut short or damaged): {error}") from None
    for kind, name in strange.items():
        if kind != BFLOAT16:
            raise UserError(f"{path}: {name} is of the type {kind}; accepted are F32, F16, BF16 and F64")
    return metadata, tensors, set(kinds.values())


def parse(path: Path, metadata: dict[str, str], tensors: dict[str, np.ndarray], kinds: set[str]) -> Checkpoint:
    """The checkpoint that `save` wrote, from what `read_tensors` gave. Raises UserError for a damaged one."""
    try:
        content = json.loads(metadata[FORMAT])
        written = content.pop("sha256", None)  # files of before it was kept have none
        parts = {key: content[key] for key in ("data_norm", "progress")}
        specs = {"model": content["model"], "optimizer": content["optimizer"]}
        parts |= numbers(specs | {"method": content.get("method", REGRESSION)})
        for key in ("model", "progress", "method"):
            if not isinstance(parts[key], dict):
                raise TypeError(f"'{key}' is {type(parts[key]).__name__}, not a mapping")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its metadata is damaged: {error}") from None
    notes = []
    if written is not None and written != _digest(content, tensors):
        rewritten = kinds & {BFLOAT16, DOUBLE}  # not by `save`: the sum is of what the file was before
        if not rewritten:
            why = "its SHA-256 is not the one that it was written with"
            raise UserError(f"{path} is damaged, or another program has changed it: {why}")
        notes = [f"rewritten in {' and '.join(sorted(rewritten))} by another program, so that its SHA-256 says nothing"]
    return Checkpoint(state=_state(tensors), notes=notes, **parts)


def _state(tensors: dict[str, np.ndarray]) -> State:
    """The tensors of a file, by network."""
    networks: dict[str, dict[str, np.ndarray]] = {MODEL: {}}
    for key, array in tensors.items():
        name, _, rest = key.removeprefix(NETWORKS).partition(".") if key.startswith(NETWORKS) else (MODEL, "", key)
        networks.setdefault(name, {})[rest] = array
    return {name: _network_state(arrays) for name, arrays in networks.items()}


def _network_state(arrays: dict[str, np.ndarray]) -> NetworkState:
    """The arrays of a network by what they are."""
    # float16 weights are a way to store them, not to compute with them
    arrays = float32(arrays)
    moments = {key.removeprefix(OPTIMIZER): array for key, array in arrays.items() if key.startswith(OPTIMIZER)}
    kept = {key: array for key, array in arrays.items() if not key.startswith(OPTIMIZER)}
    raw = {key.removeprefix(RAW): array for key, array in kept.items() if key.startswith(RAW)}
    weights = {key: array for key, array in kept.items() if not key.startswith(RAW)}
    trained = raw or weights
    return NetworkState(
        parameters={key: array for key, array in trained.items() if not is_buffer(key)},
        optimizer=moments,
        average=weights if raw else {},
        buffers={key: array for key, array in trained.items() if is_buffer(key)},
    )


def restore(engine, state: State, source: str | Path) -> list[str]:
    """Give a checkpoint's state to an engine; the names of the networks that the file lacks, and that stay as they are.

    Raises UserError naming the parameters that differ, and without the network that predicts.
    """
    lacking = []
    for name, network in engine.state().items():
        if name in state or name == MODEL:
            _require_same(network, state.get(name, NetworkState({})), source, "" if name == MODEL else f"{name}: ")
        else:
            lacking.append(name)
    engine.load_state(state)
    return lacking


def _require_same(network: NetworkState, state: NetworkState, source: str | Path, where: str) -> None:
    expected = {name: array.shape for name, array in network.variables.items()}
    found = {name: array.shape for name, array in state.variables.items()}
    differing = [
        f"{where}{name} ({_shape(found.get(name))} in the file, {_shape(expected.get(name))} in the model)"
        for name in sorted(set(expected) | set(found))
        if expected.get(name) != found.get(name)
    ]
    if differing:
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise UserError(f"{source} holds another model: {', '.join(differing[:3])}{more}")


def _shape(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "scalar"

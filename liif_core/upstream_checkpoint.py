"""Read upstream LIIF's .pth files ({model: {name, args, sd}, optimizer, epoch}) without PyTorch and without
running what is in them.

A .pth is a zip archive with a pickle (data.pkl) that describes the tensors and one file of raw numbers per
storage (PyTorch's serialisation format since 1.6). The unpickler below knows the four functions that such a
description needs and refuses every other name, so no code in the file can run.
"""

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.errors import UserError

# Storage classes of PyTorch by the numpy type of their numbers.
STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

# EDSR's mean shift: parameters that upstream registers and never uses (liif/models/edsr.py, forward).
UNUSED = ("sub_mean.", "add_mean.")


class _Refused(Exception):
    """The pickle asks for something that is not a tensor."""


def _rebuild_tensor(storage, offset, size, stride, *_) -> np.ndarray:
    """A tensor as (offset, size, stride) over its storage, checked to stay inside it."""
    numbers = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or offset + numbers > len(storage):
        raise _Refused("a tensor outside its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


class _TensorUnpickler(pickle.Unpickler):
    """Knows tensors, their storages and ordered dicts; every other global is refused."""

    def __init__(self, file, read_storage):
        super().__init__(file)
        self.read_storage = read_storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, requires_grad, hooks: data
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise _Refused(f"the name {module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise _Refused("something that is not a storage")
        return self.read_storage(str(key), dtype, int(count))


def _unpickle(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        prefix = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
        if prefix is None:
            raise _Refused("no data.pkl in the archive")

        def read_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            numbers = np.frombuffer(archive.read(f"{prefix}data/{key}"), dtype)
            if len(numbers) < count:
                raise _Refused(f"storage {key} is cut short")
            return numbers[:count]

        with archive.open(prefix + "data.pkl") as file:
            return _TensorUnpickler(file, read_storage).load()


@dataclass
class UpstreamCheckpoint:
    """What a .pth holds, in this project's terms: specs {name, args}, arrays by name, epochs finished."""

    model: dict
    parameters: dict[str, np.ndarray]
    optimizer: dict | None
    moments: dict[str, np.ndarray]
    epoch: int


def read(path: Path) -> UpstreamCheckpoint:
    """Read an upstream checkpoint.

    Raises UserError for a file that is damaged, not upstream's, or asks for more than tensors.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a .pth archive of PyTorch 1.6 or later (cut short, or older: load and save it again), "
            "nor a .safetensors of this project"
        )
    try:
        content = _unpickle(path)
        model = content.get("model") if isinstance(content, dict) else None
        if isinstance(model, dict) and {"name", "args", "sd"} <= set(model):
            return _translate(content)
    except _Refused as refusal:
        raise UserError(f"{path} is refused: it contains {refusal}, which weights do not need") from None
    except Exception as error:  # a broken pickle can raise nearly anything, and so can what it holds
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    raise UserError(f"{path} is not a checkpoint of upstream LIIF: it has no model with name, args and sd")


def _translate(content: dict) -> UpstreamCheckpoint:
    model, optimizer = content["model"], content.get("optimizer")
    used = {name: array for name, array in model["sd"].items() if not any(unused in name for unused in UNUSED)}
    return UpstreamCheckpoint(
        model={"name": model["name"], "args": dict(model["args"])},
        parameters={name: np.asarray(array, dtype=np.float32) for name, array in used.items()},
        optimizer=optimizer and {"name": optimizer["name"], "args": dict(optimizer["args"])},
        moments=_moments(optimizer, list(model["sd"])) if optimizer else {},
        epoch=int(content.get("epoch", 0)),
    )


def _moments(optimizer: dict, names: list[str]) -> dict[str, np.ndarray]:
    """PyTorch numbers an optimizer's parameters as the state dict orders them; give them their names back."""
    moments = {}
    for number, values in optimizer.get("sd", {}).get("state", {}).items():
        for key, value in values.items():
            if value is not None:
                moments["step" if key == "step" else f"{key}.{names[number]}"] = np.asarray(value, dtype=np.float32)
    return moments

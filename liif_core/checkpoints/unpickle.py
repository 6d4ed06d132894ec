"""Tensors out of pickled files, without PyTorch and without running what is in them.

A .pth is a zip archive with a pickle (data.pkl) that describes the tensors and one file of raw numbers per
storage (PyTorch's serialisation format since 1.6). The unpickler below knows the four functions that such a
description needs and refuses every other name, so no code in the file can run.
"""

import pickle
import zipfile
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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


class Refused(Exception):
    """The pickle asks for something that is not a tensor."""


def _rebuild_tensor(storage, offset, size, stride, *_) -> np.ndarray:
    """A tensor as (offset, size, stride) over its storage, checked to stay inside it."""
    numbers = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or offset + numbers > len(storage):
        raise Refused("a tensor outside its storage")
    steps = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps).copy()


class _TensorUnpickler(pickle.Unpickler):
    """Knows tensors, their storages, ordered dicts and counters (in LIIF-PyTorch's scheduler); every other global is
    refused."""

    def __init__(self, file, read_storage):
        super().__init__(file)
        self.read_storage = read_storage

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("collections", "Counter"):
            return Counter
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, requires_grad, hooks: data
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise Refused(f"the name {module}.{name}")

    def persistent_load(self, pid):
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise Refused("something that is not a storage")
        return self.read_storage(str(key), dtype, int(count))


def unpickle(path: Path) -> Any:
    """What a .pth holds, its tensors as numpy arrays. Raises Refused for anything that is not data."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        prefix = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
        if prefix is None:
            raise Refused("no data.pkl in the archive")

        def read_storage(key: str, dtype: np.dtype, count: int) -> np.ndarray:
            numbers = np.frombuffer(archive.read(f"{prefix}data/{key}"), dtype)
            if len(numbers) < count:
                raise Refused(f"storage {key} is cut short")
            return numbers[:count]

        with archive.open(prefix + "data.pkl") as file:
            return _TensorUnpickler(file, read_storage).load()


@dataclass
class ForeignCheckpoint:
    """Another project's file in this project's terms: specs {name, args}, arrays by name, epochs done, data_norm."""

    model: dict
    parameters: dict[str, np.ndarray]
    optimizer: dict | None
    moments: dict[str, np.ndarray]
    epoch: int
    data_norm: dict


def float32(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays as float32."""
    return {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}


def named_moments(state: dict, names: list[str]) -> dict[str, np.ndarray]:
    """PyTorch numbers an optimizer's parameters as the state dict orders them; give them their names back."""
    moments = {}
    for number, values in state.get("state", {}).items():
        for key, value in values.items():
            if value is not None:
                moments["step" if key == "step" else f"{key}.{names[number]}"] = np.asarray(value, dtype=np.float32)
    return moments

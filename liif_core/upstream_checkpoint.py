"""Upstream LIIF's .pth files ({model: {name, args, sd}, optimizer, epoch}), read without PyTorch and without running
what is in them, and their content for scripts/convert_checkpoint.py to write.

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

from liif_core import liif_pytorch_checkpoint
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

# The mean shift of EDSR and RCAN: parameters that upstream registers and never uses (models/edsr.py, models/rcan.py:
# its calls in forward are comments). Upstream's load_state_dict asks for them.
UNUSED = {"sub_mean.": -1, "add_mean.": 1}  # by sign
SHIFTED = ("edsr-baseline", "edsr", "rcan")
RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K

# Upstream keeps the normalisation in its configs; all of them, and its demo.py, use this one.
HALF = {"sub": [0.5], "div": [0.5]}
DATA_NORM = {"inp": HALF, "gt": HALF}


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
    """What a .pth holds, in this project's terms: specs {name, args}, arrays by name, epochs finished, data_norm."""

    model: dict
    parameters: dict[str, np.ndarray]
    optimizer: dict | None
    moments: dict[str, np.ndarray]
    epoch: int
    data_norm: dict


def read(path: Path) -> UpstreamCheckpoint:
    """Read a checkpoint of upstream, or of LIIF-PyTorch (.pth.tar, the same container).

    Raises UserError for a file that is damaged, another project's, or asks for more than tensors.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a .pth archive of PyTorch 1.6 or later (cut short, or older: load and save it again), "
            "nor a .safetensors of this project"
        )
    try:
        content = _unpickle(path)
        parts = content if isinstance(content, dict) else {}
        model = parts.get("model")
        if isinstance(model, dict) and {"name", "args", "sd"} <= set(model):
            return _translate(content)
        if isinstance(parts.get("state_dict"), dict):
            return _translate_liif_pytorch(content)
    except _Refused as refusal:
        raise UserError(f"{path} is refused: it contains {refusal}, which weights do not need") from None
    except liif_pytorch_checkpoint.AnotherModel as reason:
        raise UserError(f"{path} has a state_dict, but not of LIIF-PyTorch's model: {reason}") from None
    except Exception as error:  # a broken pickle can raise nearly anything, and so can what it holds
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    raise UserError(
        f"{path} is not a checkpoint of upstream LIIF: it has no model with name, args and sd "
        "(nor of LIIF-PyTorch: no state_dict)"
    )


def _translate(content: dict) -> UpstreamCheckpoint:
    model, optimizer = content["model"], content.get("optimizer")
    used = {name: array for name, array in model["sd"].items() if not any(unused in name for unused in UNUSED)}
    return UpstreamCheckpoint(
        model={"name": model["name"], "args": dict(model["args"])},
        parameters=_float32(used),
        optimizer=optimizer and {"name": optimizer["name"], "args": dict(optimizer["args"])},
        moments=_moments(optimizer.get("sd", {}), list(model["sd"])) if optimizer else {},
        epoch=int(content.get("epoch", 0)),
        data_norm=dict(content.get("data_norm", DATA_NORM)),
    )


def _translate_liif_pytorch(content: dict) -> UpstreamCheckpoint:
    model, names = liif_pytorch_checkpoint.describe(
        {name: np.shape(array) for name, array in content["state_dict"].items()}
    )
    optimizer = content.get("optimizer")
    return UpstreamCheckpoint(
        model=model,
        parameters=_float32({names[name]: array for name, array in content["state_dict"].items()}),
        optimizer=liif_pytorch_checkpoint.optimizer_spec(optimizer) if optimizer else None,
        moments=_moments(optimizer, list(names.values())) if optimizer else {},
        epoch=int(content.get("epoch", 0)),
        data_norm=liif_pytorch_checkpoint.DATA_NORM,
    )


def _float32(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array, dtype=np.float32) for name, array in arrays.items()}


def _moments(state: dict, names: list[str]) -> dict[str, np.ndarray]:
    """PyTorch numbers an optimizer's parameters as the state dict orders them; give them their names back."""
    moments = {}
    for number, values in state.get("state", {}).items():
        for key, value in values.items():
            if value is not None:
                moments["step" if key == "step" else f"{key}.{names[number]}"] = np.asarray(value, dtype=np.float32)
    return moments


def model_content(model: dict, parameters: dict[str, np.ndarray]) -> dict:
    """`model` of a .pth that upstream's models.make(..., load_sd=True) takes: name, args and sd, of numpy arrays."""
    spec = _with_args(model)
    encoder = spec["args"].get("encoder_spec", spec)
    prefix = "encoder." if "encoder_spec" in spec["args"] else ""
    state = dict(parameters)
    if encoder["name"] in SHIFTED:
        mean = np.array(RGB_MEAN, dtype=np.float32) * np.float32(encoder["args"].get("rgb_range", 1))
        for name, sign in UNUSED.items():
            state[f"{prefix}{name}weight"] = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
            state[f"{prefix}{name}bias"] = mean * np.float32(sign)
    return {**spec, "sd": state}


def _with_args(spec: Any) -> Any:
    """A spec in which every name has its args, which upstream's models.make does not do without."""
    if not isinstance(spec, dict):
        return spec
    whole = {key: _with_args(value) for key, value in spec.items()}
    return {**whole, "args": whole.get("args") or {}} if "name" in whole else whole

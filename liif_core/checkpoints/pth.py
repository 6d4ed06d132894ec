"""The two forms of PyTorch's files: a zip archive since 1.6, and pickles one after the other before."""

import contextlib
import importlib.util
import io
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np

from liif_core.checkpoints.unpickle import BFLOAT16, STORAGES, Refused, Storage, unpickle, widened
from liif_core.errors import UserError
from liif_core.system import packages
from liif_core.system.files import write_atomically

MAGIC = 0x1950A86A20F9469CFC6C  # what the older form begins with
COMPRESSED = 16  # times: a file that claims to hold more was made to fill the memory; PyTorch does not compress


def read(path: Path) -> Any:
    """What a .pth holds, its tensors as numpy arrays. Raises Refused for anything that is not data, and all sorts of
    errors for what is damaged."""
    with open(path, "rb") as file:
        return _read_archive(path) if file.read(4) == b"PK\3\4" else _read_pickles(path)


def writer() -> ModuleType:
    """PyTorch, which writes such files. Raises UserError where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        raise UserError(f"a .pth is written with PyTorch: run `{packages.pip_install(*packages.PACKAGES['torch'])}`")
    import torch

    return torch


def write(path: Path, content: object) -> None:
    """Write what `writer` made, whole or not at all."""
    buffer = io.BytesIO()
    writer().save(content, buffer)
    write_atomically(path, buffer.getvalue())


def _read_archive(path: Path) -> Any:
    """data.pkl describes the tensors; each storage's numbers are a file."""
    storages: dict[str, Storage] = {}
    room = os.path.getsize(path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        prefix = next((name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")), None)
        if prefix is None:
            raise UserError(f"{path} is damaged: there is no data.pkl in the archive")
        if sum(entry.file_size for entry in archive.infolist()) > COMPRESSED * (room + (1 << 20)):
            raise Refused("more than its size allows")
        with contextlib.suppress(KeyError):
            if archive.read(f"{prefix}byteorder") != b"little":
                raise Refused("numbers of a big-endian machine")

        def read_storage(key: str, storage_class: str, count: int) -> Storage:
            if key not in storages:
                numbers = np.frombuffer(archive.read(f"{prefix}data/{key}"), STORAGES[storage_class])
                storages[key] = Storage(widened(numbers) if storage_class == BFLOAT16 else numbers)
            if len(storages[key].numbers) < count:
                raise UserError(f"{path} is damaged: storage {key} is cut short")
            return Storage(storages[key].numbers[:count])

        return unpickle(io.BytesIO(archive.read(f"{prefix}data.pkl")), read_storage, room)


def _read_pickles(path: Path) -> Any:
    """A number that says what it is, the version, the machine, the description, the storages' keys; then their numbers.

    A pickle without that number is taken as it is: Jittor saves so.
    """
    size = room = os.path.getsize(path)
    storages: dict[str, tuple[str, Storage]] = {}

    def make_storage(key: str, storage_class: str, count: int) -> Storage:
        nonlocal room
        if key not in storages:
            room -= count * STORAGES[storage_class].itemsize
            if room < 0:
                raise UserError(f"{path} is damaged: storage {key} is cut short")
            kind = np.dtype(np.float32) if storage_class == BFLOAT16 else STORAGES[storage_class]
            storages[key] = storage_class, Storage(np.zeros(count, kind))
        if len(storages[key][1].numbers) < count:
            raise UserError(f"{path} is damaged: storage {key} is cut short")
        return storages[key][1]

    # Not the file itself, which would make room for as many bytes as it is asked for before it counts them.
    with io.BytesIO(path.read_bytes()) as file:
        content = unpickle(file, make_storage, size)
        if not isinstance(content, int) or content != MAGIC:
            if storages:
                raise Refused("tensors without their numbers")
            return content
        _version, machine = unpickle(file, make_storage, size), unpickle(file, make_storage, size)
        if not machine["little_endian"]:
            raise Refused("numbers of a big-endian machine")
        content = unpickle(file, make_storage, size)
        keys = unpickle(file, make_storage, size)
        for key, numbers in zip(keys, _numbers(file, [storages[str(key)] for key in keys]), strict=True):
            storages.pop(str(key))[1].numbers[:] = numbers
        if storages:
            raise UserError(f"{path} is damaged: storage {next(iter(storages))} is missing")
    return content


def _numbers(file: IO[bytes], storages: list[tuple[str, Storage]]) -> Iterator[np.ndarray]:
    """The numbers of these storages, each behind its count."""
    for storage_class, storage in storages:
        kind, count = STORAGES[storage_class], len(storage.numbers)
        if int.from_bytes(file.read(8), "little") != count:
            raise Refused("a storage of another size")
        numbers = np.frombuffer(file.read(count * kind.itemsize), kind, count)  # raises where some are missing
        yield widened(numbers) if storage_class == BFLOAT16 else numbers


def float32(arrays: dict[str, Any]) -> dict[str, np.ndarray]:
    """Copies of the arrays as float32; what is too large for it becomes infinite. Raises ValueError for what are no
    real numbers."""
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind not in "fiub":
            raise ValueError(f"{name} is of the kind {np.asarray(array).dtype}: expected real numbers")
    with np.errstate(over="ignore"):
        return {name: np.array(array, dtype=np.float32) for name, array in arrays.items()}


def named_moments(state: dict, names: list[str]) -> dict[str, np.ndarray]:
    """PyTorch numbers an optimizer's parameters as the state dict orders them; give them their names back."""
    moments = {}
    for number, values in state.get("state", {}).items():
        for key, value in values.items():
            if value is not None:
                moments["step" if key == "step" else f"{key}.{names[number]}"] = value
    return float32(moments)

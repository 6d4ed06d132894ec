"""Pickled weights, read without PyTorch and without running what is in them.

A pickle is a list of commands that may call anything by its name. The unpickler below answers to the names that
weights, and what lies beside them, need (those of PyTorch's own `weights_only` reader, and numpy's), with functions
that make data and nothing else, and refuses every other name.
"""

import math
import pickle
import pickletools
import re
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import IO, Any, NamedTuple

import numpy as np

# Storage classes of PyTorch by the numpy type of their numbers. BFloat16 is the upper half of a float32.
BFLOAT16 = "BFloat16Storage"
STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    BFLOAT16: np.dtype("<u2"),
}
KINDS_OF_NUMBERS = r"(bfloat|float|u?int|complex)\d+\w*|bool"  # as PyTorch and numpy call them
PLENTY = 1 << 20  # of numbers: no file is too small for them


class Refused(Exception):
    """The pickle asks for something that is no data, or for more of it than there is."""


class Storage(NamedTuple):
    """The numbers that tensors are views of."""

    numbers: np.ndarray


def widened(halves: np.ndarray) -> np.ndarray:
    """bfloat16, as uint16, in float32."""
    return (halves.astype(np.uint32) << 16).view(np.float32)


class _NumberType:
    """What is pickled of a numpy.dtype: a kind of number or text, and the order of its bytes."""

    def __init__(self, code: str):
        if not re.fullmatch(r"[biufcSU]\d+", code):
            raise Refused(f"an array of the kind {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        _, order, *more = state
        if any(part is not None for part in more[:3]) or order not in ("<", ">", "|", "="):
            raise Refused("an array of more than numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array that is pickled first and filled later, once."""

    filled = False

    def __setstate__(self, state: tuple) -> None:
        version, shape, kind, by_columns, data = state
        _require_size(shape, kind, data)
        if self.filled:
            raise Refused("an array that is filled twice")
        super().__setstate__((version, shape, kind.dtype, bool(by_columns), bytes(data)))
        self.filled = True


def _require_size(shape: tuple, kind: Any, data: Any) -> None:
    """Raise Refused unless there are as many bytes as numbers of that kind take."""
    if not isinstance(kind, _NumberType) or not isinstance(data, (bytes, bytearray)):
        raise Refused("an array that is none")
    if min(shape, default=0) < 0 or math.prod(shape) * kind.dtype.itemsize != len(data):
        raise Refused("an array of another size than its numbers")


class _Unpickler(pickle.Unpickler):
    """read_storage: from key, storage class and count to a Storage. room: how many numbers all tensors may have.

    The functions are methods, because a pickle could change the attributes of plain functions and classes, which are
    there for the next file too.
    """

    def __init__(self, file: Any, read_storage: Callable[[str, str, int], Storage], room: int):
        super().__init__(file)
        self.read_storage, self.room = read_storage, room
        self.known: dict[str, Any] = {
            "collections.OrderedDict": OrderedDict,
            "collections.Counter": self._counter,
            "builtins.set": set,
            "builtins.bytearray": self._bytes,
            "builtins.complex": complex,
            "_codecs.encode": self._latin,
            "numpy.dtype": self._number_type,
            "numpy.ndarray": "numpy.ndarray",
            "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.multiarray._reconstruct": self._array,
            "numpy.core.numeric._frombuffer": self._filled_array,
            "flax.core.frozen_dict.FrozenDict": self._mapping,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._first,
            "torch._utils._rebuild_parameter_with_state": self._first,
            "torch._utils._rebuild_device_tensor_from_numpy": self._first,
            "torch._tensor._rebuild_from_type_v2": self._of_type,
            "torch.Size": self._size,
            "torch.device": self._device,
            "torch.serialization._get_layout": self._first,
            "torch.Tensor": "torch.Tensor",
            "torch.nn.parameter.Parameter": "torch.nn.parameter.Parameter",
        }

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 has renamed a module; protocol 2, which PyTorch writes, has Python 2's names.
        home = {"__builtin__": "builtins"}.get(module, module.replace("numpy._core.", "numpy.core."))
        if home in ("torch", "torch.cuda") and name in STORAGES:
            return name
        if home in ("torch", "numpy") and re.fullmatch(KINDS_OF_NUMBERS, name):
            return f"{home}.{name}"
        if f"{home}.{name}" not in self.known:
            raise Refused(f"the name {module}.{name}")
        return self.known[f"{home}.{name}"]

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_class, key, _, count, *view = pid
        if kind != "storage" or storage_class not in STORAGES:
            raise Refused("something that is not a storage")
        if view and view[0] is not None:
            raise Refused("a part of a storage, as PyTorch before 0.4 wrote it")
        if not isinstance(key, (str, int)) or not isinstance(count, int) or count < 0:
            raise Refused("a storage without a key or size")
        return self.read_storage(str(key), storage_class, count)

    def _tensor(self, storage: Storage, offset: int, size: tuple, stride: tuple, *_: Any) -> np.ndarray:
        """A tensor as (offset, size, stride) over its storage, checked to stay inside it."""
        if not isinstance(storage, Storage):
            raise Refused("a tensor without a storage")
        numbers = 0 if 0 in size else 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min(offset, *size, *stride, 0) < 0 or offset + numbers > len(storage.numbers):
            raise Refused("a tensor outside its storage")
        self.room -= math.prod(size)
        if self.room < 0:
            raise Refused("more numbers than are stored")
        steps = [step * storage.numbers.itemsize for step in stride]
        return np.lib.stride_tricks.as_strided(storage.numbers[offset:], size, steps, writeable=False)

    def _of_type(self, function: Any, _type: Any, arguments: tuple, _state: Any) -> Any:
        """A tensor with attributes of its own."""
        if function not in (self._tensor, self._first):
            raise Refused("a tensor of another kind")
        return function(*arguments)

    def _first(self, first: Any, *_: Any) -> Any:
        return first

    def _mapping(self, values: Any) -> dict:
        return dict(values)

    def _counter(self, counts: dict) -> Counter:
        return Counter(dict(counts))

    def _bytes(self, data: Any = b"", *_: Any) -> bytes:
        if isinstance(data, str):
            return self._latin(data)
        if not isinstance(data, bytes):  # a number would be that many zeros
            raise Refused("bytes that are none")
        return data

    def _latin(self, text: str, *_: Any) -> bytes:
        return text.encode("latin1")

    def _size(self, sides: Any) -> tuple:
        return tuple(sides)

    def _device(self, *parts: str | int) -> str:
        if not all(isinstance(part, (str, int)) for part in parts):
            raise Refused("a device that is none")
        return ":".join(map(str, parts))

    def _number_type(self, code: str, *_: Any) -> _NumberType:
        return _NumberType(code)

    def _scalar(self, kind: _NumberType, data: bytes) -> Any:
        _require_size((), kind, data)
        return np.frombuffer(data, kind.dtype)[0].item()

    def _array(self, *_: Any) -> _Array:
        return _Array((0,), np.uint8)

    def _filled_array(self, data: bytes, kind: _NumberType, shape: tuple, order: str) -> np.ndarray:
        _require_size(shape, kind, data)
        return np.frombuffer(data, kind.dtype).reshape(shape, order="F" if order == "F" else "C")


def plain(value: Any, room: int = 10_000) -> Any:
    """A value of names, numbers, lists and mappings, as a config would hold it. Raises Refused for more than `room` of
    them: a pickle that names the same list again and again is short, and endless to print."""

    def copy(part: Any) -> Any:
        nonlocal room
        room -= 1
        if room < 0:
            raise Refused("a model of more than 10000 values")
        if isinstance(part, dict):
            return {str(copy(key)): copy(inner) for key, inner in part.items()}
        if isinstance(part, (list, tuple)):
            return [copy(inner) for inner in part]
        if part is None or isinstance(part, (bool, int, float, str)):
            return part
        raise Refused(f"a model with a value of the kind {type(part).__name__}")

    return copy(value)


def unpickle(file: IO[bytes], read_storage: Callable[[str, str, int], Storage], room: int) -> Any:
    """The next pickle of a file: what it holds, its tensors as views of what `read_storage` gave, which may be filled
    later. The file stands behind it then. Raises Refused for anything that is not data.
    """
    start = file.tell()
    for number, (command, argument, _) in enumerate(pickletools.genops(file)):
        # The memo is a list: one far entry would make it as long.
        if command.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > number + 1:
            raise Refused(f"a memo of {argument} entries")
    file.seek(start)
    return _Unpickler(file, read_storage, room + PLENTY).load()

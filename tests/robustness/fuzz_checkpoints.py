"""Damaged and strange checkpoints for tests/robustness/fuzz_demo.py: a seed of every form, and ways to damage it.

All chance comes from the Random that is handed in. Sums are made right again, so that the damage gets past them.
"""

import functools
import io
import json
import pickle
import random
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from helpers.small_run import model_spec
from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_torch.engine import Engine
from robustness.fuzz_images import ANYTHING

INF, NAN = float("inf"), float("nan")
ODD = [None, True, -1, 0, 1, 255, 10**6, 2**31, 10**30, 0.5, NAN, INF, "", "x", [], {}, [1] * 50, {"a": 1}]
NORM = {"inp": {"sub": [0.5], "div": [0.5]}, "gt": {"sub": [0.5, 0.4, 0.3], "div": [1.0]}}
ENDINGS = (".safetensors", ".pth", ".pth.tar", ".ckpt", "")


@functools.cache
def weights() -> dict[str, torch.Tensor]:
    """Those of the model that `content` describes."""
    engine = Engine(model_spec(8), "cpu")
    engine.seed(1)
    return {name: torch.tensor(array).contiguous() for name, array in engine.state()["model"].parameters.items()}


def content() -> dict:
    """What LIIF's train_liif.py saves."""
    state = {number: {"step": 3, "exp_avg": value * 0.1} for number, value in enumerate(weights().values())}
    optimizer = {"name": "adam", "args": {"lr": 1e-4}, "sd": {"state": state, "param_groups": [{"lr": 1e-4}]}}
    return {"model": model_spec(8) | {"sd": dict(weights())}, "optimizer": optimizer, "epoch": 5, "data_norm": NORM}


@functools.cache
def seeds() -> dict[str, bytes]:
    """Whole files by the names of their forms."""
    arrays = {name: value.numpy() for name, value in weights().items()}
    state = native.NetworkState(arrays, {"exp_avg.imnet.layers.0.bias": arrays["imnet.layers.0.bias"]})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a"
        native.save(path, Checkpoint(model_spec(8), {"model": state}, NORM))
        run = path.read_bytes()
    bfloat = safetensors.torch.save({name: value.bfloat16() for name, value in weights().items()}, _metadata(run))
    return {
        "run": run,
        "bfloat16": bfloat,
        "archive": _saved(content()),
        "older": _saved(content(), zipped=False),
        "bare": _saved({"params_ema": weights()}),
        "pickle": pickle.dumps(arrays, 4),
        "page": b"<!doctype html><html></html>",
    }


def _saved(value: Any, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def damaged(rng: random.Random) -> tuple[str, bytes]:
    """A file's name and content; one in eight is whole, whatever the bytes of the seeds are on this machine."""
    if rng.random() < 1 / 8:
        return "model.safetensors", seeds()["run"]
    form = rng.choice(list(seeds()))
    data = seeds()[form]
    if rng.random() < 0.3:
        value = content()
        if rng.random() < 0.5:
            value["model"]["args"] = _changed(rng, value["model"]["args"])
        data = _saved(value if rng.random() < 0.3 else _changed(rng, value), rng.random() < 0.5)
    if rng.random() < 0.7:
        for _ in range(rng.choice([1, 1, 1, 2, 5])):
            particular = {b"PK": _archive, b"{": _safetensors}.get(data[8:9] if data[8:9] == b"{" else data[:2])
            data = (particular if particular and rng.random() < 0.7 else ANYTHING)(rng, data)
    return f"model{rng.choice(ENDINGS)}", data


def _changed(rng: random.Random, value: Any) -> Any:
    """The content with another value, name or tensor somewhere."""
    if isinstance(value, dict) and value and rng.random() < 0.95:
        changed = rng.choice(list(value))
        called = rng.choice([changed, changed, changed, f"module.{changed}", "other"])
        if rng.random() < 0.1:
            return {name: part for name, part in value.items() if name != changed}
        return {
            called if name == changed else name: _changed(rng, part) if name == changed else part
            for name, part in value.items()
        }
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return rng.choice(
            [
                value * float("nan"),
                value * 1e38,
                value.double() * 1e300,
                value.long(),
                value.to(torch.complex64),
                value[:1],
                value.reshape(-1),
                value[..., None].expand(*value.shape, 3),
                value.numpy(),
                torch.zeros(0),
                torch.nn.Parameter(value.clone()),
            ]
        )
    return rng.choice(ODD)


def _archive(rng: random.Random, data: bytes) -> bytes:
    """A zip archive with a file that is damaged, missing or twice there, its sums right."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            files = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # damaged by now
        return ANYTHING(rng, data)
    number = rng.choice(
        [k for k, (name, _) in enumerate(files) if name.endswith("data.pkl")] * 3 + [rng.randrange(len(files))]
    )
    name, inside = files[number]
    files[number] = rng.choice([(name, ANYTHING(rng, inside)), (name, ANYTHING(rng, inside)), (f"{name}x", inside)])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for entry in files:
            archive.writestr(*entry)
    return buffer.getvalue()


def _metadata(data: bytes) -> dict[str, str]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]


def _safetensors(rng: random.Random, data: bytes) -> bytes:
    """A header that is damaged, or says something else; its length is right, and there is no sum."""
    length = int.from_bytes(data[:8], "little")
    header, numbers = data[8 : 8 + length], data[8 + length :]
    try:
        said = json.loads(header)
        content = json.loads(said["__metadata__"][native.FORMAT])
        content.pop("sha256", None)
        what = rng.randrange(4)
        if what == 0:
            content = _changed(rng, content)
        elif what == 1:
            name = rng.choice(list(said))
            said[name] = _changed(rng, said[name])
        elif what == 2:
            numbers = ANYTHING(rng, numbers)
        if what != 1:
            said["__metadata__"] = {native.FORMAT: json.dumps(content)}
        header = json.dumps(said).encode()
    except (AttributeError, KeyError, TypeError, ValueError, UnicodeDecodeError):
        header = ANYTHING(rng, header)
    return len(header).to_bytes(8, "little") + header + numbers


def config(rng: random.Random) -> dict:
    """Of bare weights: mostly the right one."""
    whole = {"model": model_spec(8), "data_norm": {"inp": {"sub": [0.5], "div": [0.5]}}}
    return whole if rng.random() < 0.8 else _changed(rng, whole)

"""LIIF's .pth files ({model: {name, args, sd}, optimizer, epoch}), read without PyTorch and without running
what is in them, and their content for scripts/convert_checkpoint.py to write.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.checkpoints import pth
from liif_core.checkpoints.native import Checkpoint
from liif_core.checkpoints.pth import float32, named_moments
from liif_core.checkpoints.unpickle import plain
from liif_core.config.yaml_text import numbers
from liif_core.engine import MODEL, NetworkState
from liif_core.geometry import windows

# The mean shift of EDSR and RCAN: parameters that the original LIIF registers and never uses (models/edsr.py,
# models/rcan.py: its calls in forward are comments). LIIF's load_state_dict asks for them.
UNUSED = {"sub_mean.": -1, "add_mean.": 1}  # by sign
SHIFTED = ("edsr-baseline", "edsr", "rcan")
# What LTE and LMF keep of SwinIR besides its parameters, and what is the same in all of them.
COMPUTED = ("relative_position_index", "attn_mask")
RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K

# The original LIIF keeps the normalisation in its configs; all of them, and its demo.py, use this one.
HALF = {"sub": [0.5], "div": [0.5]}
DATA_NORM = {"inp": HALF, "gt": HALF}


def translate(content: dict) -> Checkpoint:
    """An unpickled .pth in this project's terms."""
    model, optimizer = content["model"], content.get("optimizer")
    moments = named_moments(optimizer.get("sd", {}), _trained(model["sd"])) if optimizer else {}
    return Checkpoint(
        model={"name": plain(model["name"]), "args": dict(numbers(plain(model["args"])))},
        state={MODEL: NetworkState(float32(used(model["sd"])), optimizer=moments)},
        optimizer=optimizer and {"name": plain(optimizer["name"]), "args": dict(numbers(plain(optimizer["args"])))},
        progress={"epoch": int(content.get("epoch", 0)) + 1, "step": int(moments.get("step", 0))},
        data_norm=dict(plain(content.get("data_norm", DATA_NORM))),
    )


def used(parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters without what is there and never used, or can be computed."""
    return {name: parameters[name] for name in _trained(parameters) if not any(unused in name for unused in UNUSED)}


def _trained(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.rpartition(".")[2] not in COMPUTED]


def model_content(model: dict, parameters: dict[str, np.ndarray]) -> dict:
    """`model` of a .pth that LIIF's models.make(..., load_sd=True) takes: name, args and sd, of numpy arrays."""
    spec = _with_args(model)
    encoder = spec["args"].get("encoder_spec", spec)
    prefix = "encoder." if "encoder_spec" in spec["args"] else ""
    state = dict(parameters)
    if encoder["name"] in SHIFTED:
        mean = np.array(RGB_MEAN, dtype=np.float32) * np.float32(encoder["args"].get("rgb_range", 1))
        for name, sign in UNUSED.items():
            state[f"{prefix}{name}weight"] = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
            state[f"{prefix}{name}bias"] = mean * np.float32(sign)
    if encoder["name"] == "swinir":
        state |= _computed(parameters)
    return {**spec, "sd": state}


def _computed(parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What LTE's load_state_dict asks for beside the parameters of a SwinIR: of crops of 48x48, whatever they are."""
    found: dict[str, np.ndarray] = {}
    for name in parameters:
        if block := re.match(r"(.+\.blocks\.(\d+)\.)attn\.relative_position_bias_table$", name):
            found[f"{block[1]}attn.relative_position_index"] = windows.relative_index()
            if int(block[2]) % 2:
                sides = 48 // windows.SIDE
                found[f"{block[1]}attn_mask"] = windows.masks()[windows.kinds(sides, sides).ravel()]
    return found


def _with_args(spec: Any) -> Any:
    """A spec in which every name has its args, which LIIF's models.make does not do without."""
    if not isinstance(spec, dict):
        return spec
    whole = {key: _with_args(value) for key, value in spec.items()}
    return {**whole, "args": whole.get("args") or {}} if "name" in whole else whole


ADAM = {"name": "adam", "args": {"lr": 1e-4}}  # of LIIF's configs
OPTIMIZERS = {"adam": "Adam", "sgd": "SGD"}  # by LIIF's names


def save_pth(path: Path, bare: Checkpoint, optimizer: dict) -> None:
    """Write LIIF's form. Its train_liif.py begins at epoch 1, with an optimizer that has taken no step."""
    torch = pth.writer()
    model = model_content(bare.model, bare.state[MODEL].parameters)
    model["sd"] = {name: torch.tensor(array) for name, array in model["sd"].items()}
    if optimizer["name"] not in OPTIMIZERS:
        optimizer = ADAM
    optimizer = {**optimizer, "args": {key: value for key, value in optimizer["args"].items() if key != "last_layer"}}
    trained = [model["sd"][name] for name in _trained(model["sd"])]
    start = getattr(torch.optim, OPTIMIZERS[optimizer["name"]])(trained, **optimizer["args"])
    content = {
        "model": model,
        "optimizer": {**optimizer, "sd": start.state_dict()},
        "epoch": 0,
        "data_norm": bare.data_norm,  # the original LIIF has it in its configs; with it, the way back loses nothing
    }
    pth.write(path, content)

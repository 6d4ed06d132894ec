"""The authors' own code, in clones of their repositories: LIIF's, and those that were made of it.

    yinboc/liif, jaewon-lee-b/lte, HeZongyao/LMF, 2y7c3/Super-Resolution-Neural-Operator

Each has models/, whose names are those of our decoders, and takes the same specs and names of parameters.
"""

import argparse
import ast
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np

from liif_core.geometry import coords
from liif_core.system import packages
from liif_core.system.places import expand

DECODERS = ("liif", "lte", "lmliif", "lmlte", "sronet")
UNUSED = ("timm", "cv2")  # imported for what nothing here asks for, or for a few lines that `stand_ins` has
WHOLE = ("lmliif", "lmlte", "sronet")  # answer all queries at once; LMF's batched_predict asks for what they lack
SCALE_MAX = {
    "lte": 4,
    "lmliif": 4,
    "lmlte": 4,
    "sronet": 4,
}  # beyond it, the demos of these keep the cells of this factor


def clone(path: str) -> Path:
    """The folder, if it is one of theirs and what its code imports is installed."""
    folder = Path(expand(path))
    if not set(DECODERS) & registered(folder):
        raise argparse.ArgumentTypeError(f"{path} is no clone of LIIF or of a decoder made of it: see {Path(__file__)}")
    files = [file for below in ("", "models", "datasets") for file in (folder / below).glob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_bytes(), file.name))]
    asked = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    asked += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    own = {file.stem for file in folder.iterdir()}
    names = sorted({name.partition(".")[0] for name in asked} - own - set(UNUSED))
    if lacking := [name for name in names if importlib.util.find_spec(name) is None]:
        command = packages.pip_install(*lacking)
        raise argparse.ArgumentTypeError(f"the code in {path} needs the packages {', '.join(lacking)}: run `{command}`")
    return folder.resolve()


def registered(folder: Path) -> set[str]:
    """The models that a clone knows."""
    sources = [file.read_text(encoding="utf-8") for file in (folder / "models").glob("*.py")]
    return {name for source in sources for name in re.findall(r"@register\(['\"]([\w-]+)['\"]\)", source)}


def load(folder: Path, spec: dict, parameters: dict[str, np.ndarray] | None = None, device: str = "cpu") -> Any:
    """Its model with its own random weights or the given ones; device: "cpu" or "cuda"."""
    import torch

    if device == "cpu":  # its decoder asks for a GPU
        torch.Tensor.cuda = lambda self, *args, **kwargs: self
        torch.nn.Module.cuda = lambda self, *args, **kwargs: self
    for name in UNUSED:
        if name not in sys.modules and importlib.util.find_spec(name) is None:
            sys.modules |= {part: MagicMock() for part in (name, f"{name}.models", f"{name}.models.layers")}
    if isinstance(sys.modules.get("timm"), MagicMock):
        sys.modules["timm.models.layers"].__dict__.update(stand_ins())
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    import models

    torch.manual_seed(0)
    model = models.make(spec).eval()
    if spec["args"].get("encoder_spec", {}).get("name") == "swinir":
        # Their SwinIR leaves what it has padded an image with to the caller, and their decoders do not know of it.
        model.encoder.register_forward_hook(lambda _, given, feat: feat[:, :, : given[0].shape[2], : given[0].shape[3]])
    if parameters is not None:
        tensors = {name: torch.from_numpy(array) for name, array in parameters.items()}
        missing, unexpected = torch.nn.Module.load_state_dict(model, tensors, strict=False)
        assert not unexpected and all("_mean." in name for name in missing), (missing, unexpected)
    return model.to(device)


def stand_ins() -> dict[str, Any]:
    """What SwinIR takes of timm, without its random omission of residuals in training."""
    import torch

    class DropPath(torch.nn.Identity):
        """Of a model that predicts."""

    return {
        "DropPath": DropPath,
        "to_2tuple": lambda side: (side, side),
        "trunc_normal_": torch.nn.init.trunc_normal_,
    }


def steady(spec: dict) -> dict:
    """The spec of our model that leaves out as little in training as theirs with `stand_ins`."""
    if spec["args"].get("encoder_spec", {}).get("name") != "swinir":
        return spec
    encoder = spec["args"]["encoder_spec"]
    args = encoder["args"] | {"drop_path_rate": 0.0}
    return spec | {"args": spec["args"] | {"encoder_spec": encoder | {"args": args}}}


def answer(model: Any, name: str, inp: Any, coord: Any, cell: Any) -> Any:
    """What a model of this name says to tensors: inp (B, 3, H, W), coord (B, Q, 2), cell (B, 2) -> (B, Q, 3)."""
    if name == "sronet":  # a grid of queries, of any shape
        return model(inp, coord.unsqueeze(2), cell).flatten(2).transpose(1, 2)
    return model(inp, coord, cell.unsqueeze(1).expand_as(coord).contiguous())


def upscale(model: Any, name: str, image: Any, height: int, width: int) -> np.ndarray:
    """What its demo.py does between reading and writing: a tensor (1, 3, H, W) to (height, width, 3)."""
    import torch

    factor = max(1.0, height / image.shape[2] / SCALE_MAX[name]) if name in SCALE_MAX else 1.0
    coord = torch.from_numpy(coords.make_coord((height, width)))[None].to(image.device)
    cell = torch.tensor([[2 / height, 2 / width]], device=image.device) * factor
    with torch.no_grad():
        if name in WHOLE:
            rgb = answer(model, name, image, coord, cell)
        else:
            from test import batched_predict  # its

            rgb = batched_predict(model, image, coord, cell.unsqueeze(1).expand_as(coord).contiguous(), bsize=30000)
    return rgb.view(height, width, 3).cpu().numpy()

"""LIIF in PyTorch. `load` is the Python API, which docs/python.md explains; importing this imports no framework."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from liif_core.system.places import PRETRAINED

if TYPE_CHECKING:
    from liif_core.inference.api import Model


def load(
    path: str | os.PathLike = PRETRAINED,
    device: str = "auto",
    precision: str = "fp32",
    tile: int | None = None,
    border: str = "mirror",
    config: str | os.PathLike | None = None,
) -> Model:
    """A model with its weights: model.upscale(image, scale=3.7), model.query(image, coord, cell), model.encode(image).

    path: a checkpoint of this project (.safetensors), of LIIF (.pth) or of LIIF-PyTorch (.pth.tar), or bare weights.
    config: of bare weights, the training config, or a YAML file with model and data_norm, that says what they are.
    device: "auto" for the GPU where there is one, "cpu", "cuda", or one of several GPUs like "cuda:1". precision:
    "fp32", "bf16" or "fp16" where the device computes in them, "auto" for the fastest. tile: side in pixels of the
    overlapping tiles in which an image is encoded, 0 for all at once, None to choose by the device. border: what the
    encoder sees beyond the image, "mirror" for its reflection, "repeat" for its edge again and again, "zeros" as in
    LIIF.

    Imports PyTorch. No setting of it and nothing else of the process is changed: convolutions are computed without
    TF32 while the model works, and random numbers go on as if nothing had been drawn. But where nobody has set up
    logging, what Pillow and imageio-ffmpeg log is not printed any more.

    Raises UserError, which is a ValueError, for a file that is no checkpoint, a model that gives no images, and a
    device or precision that is not there.
    """
    from liif_core.inference import api

    return api.load(path, "torch", device, precision, tile, border, config)


def load_tree():
    """Engine and loader; importing them imports the framework, so the device must be chosen before."""
    from liif_torch.datasets import make_loader
    from liif_torch.engine import Engine

    return Engine, make_loader

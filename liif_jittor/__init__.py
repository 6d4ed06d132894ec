"""LIIF in Jittor. `load` is the Python API, which docs/python.md explains; importing this imports no framework."""

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
    device: "auto" for the GPU where there is one, "cpu" or "cuda". precision: "fp32" or "auto", which is the same here.
    tile: side in pixels of the overlapping tiles in which an image is encoded, 0 for all at once, None to choose by the
    device. border: what the encoder sees beyond the image, "mirror" for its reflection, "repeat" for its edge again and
    again, "zeros" as in LIIF.

    Imports Jittor, which compiles its core the first time. Until then it reads its settings from the environment, so
    these are set unless Jittor is imported already: `nvcc_path`, `use_mpi`, `python_config_path` where it would be
    missed, and, unless they are set, `log_silent`, `FIX_TORCH_ERROR`, `cache_name`, `use_parallel_op_compiler` and on a
    GPU `NVIDIA_TF32_OVERRIDE`; `OMPI_COMM_WORLD_SIZE` is removed. oneDNN is linked into its cache. Ctrl-C and the end
    of children are handled as before; Jittor's handlers of other signals stay. jittor.flags.use_cuda is set to the
    device, for the whole process. Jittor's random numbers go on from another place, since its layers draw initial
    values.

    Raises UserError, which is a ValueError, for a file that is no checkpoint, a model that gives no images, and a
    device or precision that is not there.
    """
    from liif_core.inference import api

    return api.load(path, "jittor", device, precision, tile, border, config)


def load_tree():
    """Engine and loader; importing them imports the framework, so the device must be chosen before."""
    from liif_jittor.datasets import make_loader
    from liif_jittor.engine import Engine

    return Engine, make_loader

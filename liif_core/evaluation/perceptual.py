"""Metrics by networks that were trained to recognise things: LPIPS, DISTS, FID and IS, of torchmetrics.

Its package, an extra ("perceptual" in pyproject.toml), is imported when a value is asked for, and with it PyTorch, on
the CPU and whatever the framework of the model is. It carries the small layers that were trained for LPIPS and DISTS;
the large networks below them would be downloaded. That never happens here: a file has to be where PyTorch keeps its
downloads, and be what its name says.
"""

import functools
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from liif_core.errors import UserError
from liif_core.evaluation.psnr_ssim import border, cut
from liif_core.images import rgb8
from liif_core.system import packages, provenance


@dataclass(frozen=True)
class Weights:
    """A file by its name, which ends in the first digits of its SHA-256, and where it comes from."""

    name: str
    source: str

    @property
    def path(self) -> Path:
        """Where PyTorch keeps it, without asking PyTorch."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return Path(os.environ.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints" / self.name


PACKAGES = ("torchmetrics>=1.9", "torch-fidelity>=0.4")
PYTORCH = "https://download.pytorch.org/models"
ALEXNET = Weights("alexnet-owt-7be5be79.pth", PYTORCH)
VGG16 = Weights("vgg16-397923af.pth", PYTORCH)
INCEPTION = Weights(
    "weights-inception-2015-12-05-6726825d.pth", "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
)


def _require(metric: str, weights: Weights, *needed: str) -> None:
    for package in ("torch", "torchvision", "torchmetrics", *needed):
        if importlib.util.find_spec(package) is None:
            command = packages.pip_install(*PACKAGES)
            raise UserError(f"metric '{metric}': the Python package '{package}' is not installed: run `{command}`")
    if not weights.path.is_file():
        raise UserError(f"metric '{metric}': no {weights.path}: get it from {weights.source}/{weights.name}")
    digits = weights.path.stem.rpartition("-")[2]
    if not _sha256(weights.path, weights.path.stat().st_mtime_ns).startswith(digits):
        raise UserError(f"metric '{metric}': {weights.path} is damaged, its SHA-256 does not begin with {digits}")


@functools.cache
def _sha256(path: Path, changed: int) -> str:
    return provenance.sha256(path)


def require_lpips() -> None:
    """Raises UserError where LPIPS cannot be measured."""
    _require("lpips", ALEXNET)


def require_dists() -> None:
    """Raises UserError where DISTS cannot be measured."""
    _require("dists", VGG16)


def require_fid() -> None:
    """Raises UserError where FID cannot be measured."""
    _require("fid", INCEPTION, "torch_fidelity")


def require_is() -> None:
    """Raises UserError where IS cannot be measured."""
    _require("is", INCEPTION, "torch_fidelity")


def lpips(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """LPIPS (Zhang et al., CVPR 2018), version 0.1 with AlexNet, of RGB (h, w, 3) in [0, 1]; the protocol's border is
    cut."""
    return _distance(_lpips(), _tensor(prediction, eval_type), _tensor(target, eval_type))


def dists(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """DISTS (Ding et al., TPAMI 2020) of RGB (h, w, 3) in [0, 1], at its own size; the protocol's border is cut."""
    return _distance(_dists(), _tensor(prediction, eval_type), _tensor(target, eval_type))


class Fid:
    """FID (Heusel et al., NeurIPS 2017), the distance of what Inception sees in all predictions and all targets, 8-bit
    RGB with the protocol's border cut.

    It is meant for thousands of images: of a few, 2048 means and their covariances say little.
    """

    def __init__(self) -> None:
        require_fid()
        from torchmetrics.image.fid import FrechetInceptionDistance

        self.metric = FrechetInceptionDistance(feature_extractor_weights_path=str(INCEPTION.path))
        self.count = 0

    def add(self, prediction: np.ndarray, target: np.ndarray, eval_type: str | None) -> None:
        """One pair of images."""
        for image, real in ((prediction, False), (target, True)):
            self.metric.update(_pixels(image, eval_type), real=real)
        self.count += 1

    def value(self) -> float:
        """Of all that was added. Raises UserError for fewer than two."""
        if self.count < 2:
            raise UserError(f"metric 'fid' compares distributions: expected at least 2 images, got {self.count}")
        return float(self.metric.compute())


class InceptionScore:
    """IS (Salimans et al., NIPS 2016), how sure Inception is of what each prediction shows and how many things all of
    them show: the mean over ten parts of the 8-bit RGB images with the protocol's border cut.

    It is meant for thousands of images; the targets do not count.
    """

    PARTS = 10

    def __init__(self) -> None:
        require_is()
        from torchmetrics.image.fid import NoTrainInceptionV3
        from torchmetrics.image.inception import InceptionScore as Score

        feature = "logits_unbiased"
        self.metric = Score(NoTrainInceptionV3("inception-v3-compat", [feature], str(INCEPTION.path)), self.PARTS)
        self.count = 0

    def add(self, prediction: np.ndarray, target: np.ndarray, eval_type: str | None) -> None:
        """One image."""
        self.metric.update(_pixels(prediction, eval_type))
        self.count += 1

    def value(self) -> float:
        """Of all that was added, whose parts are drawn the same way every time. Raises UserError for fewer images than
        parts."""
        import torch

        if self.count < self.PARTS:
            raise UserError(f"metric 'is' is of {self.PARTS} parts: expected at least as many images, got {self.count}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return float(self.metric.compute()[0])


@functools.cache
def _lpips() -> Any:
    require_lpips()
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)  # of values in [0, 1]


@functools.cache
def _dists() -> Any:
    require_dists()
    from torchmetrics.functional.image.dists import DISTSNetwork

    return DISTSNetwork().eval()


def _tensor(image: np.ndarray, eval_type: str | None) -> Any:
    import torch

    return torch.from_numpy(cut(image, border(eval_type)).astype(np.float32).transpose(2, 0, 1)[None].copy())


def _pixels(image: np.ndarray, eval_type: str | None) -> Any:
    import torch

    return torch.from_numpy(rgb8.to_uint8(cut(image, border(eval_type))).transpose(2, 0, 1)[None].copy())


def _distance(network: Any, prediction: Any, target: Any) -> float:
    import torch

    with torch.inference_mode():
        return float(network(prediction, target))

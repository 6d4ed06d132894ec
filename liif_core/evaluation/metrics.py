"""The metrics by the names that configs use: which way is better, and what one value is of.

A metric of an image is a function of prediction, target and protocol. A metric of a set, such as the distance of two
distributions, is a class: `add(prediction, target, eval_type)` for each image, then `value()`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from liif_core.config.registry import nearest_known
from liif_core.errors import UserError
from liif_core.evaluation import niqe, perceptual, psnr_ssim, sr3


@dataclass(frozen=True)
class Metric:
    """function: see above; prediction and target are float32 (h, w, 3) in [0, 1], or (Q, 3) where `of_queries`.

    unit, low, high: of its values. of_queries: whether it is defined on colours without neighbours, which is what
    validation has without a protocol. of_low: whether it is shown the low resolution in the target's place. require:
    raises UserError where a package or a file that it needs is absent.
    """

    name: str
    function: Callable[..., Any]
    better: Literal["higher", "lower"]
    per: Literal["image", "set"]
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf
    of_queries: bool = False
    of_low: bool = False
    require: Callable[[], object] = lambda: None

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a value is better than the best so far; NaN is never."""
        if best is None:
            best = -math.inf if self.better == "higher" else math.inf
        return value > best if self.better == "higher" else value < best


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", psnr_ssim.psnr, "higher", "image", "dB", low=0, of_queries=True),
        Metric("ssim", psnr_ssim.ssim, "higher", "image", low=-1, high=1),
        Metric("psnr-y", psnr_ssim.psnr_y, "higher", "image", "dB", low=0, of_queries=True),
        Metric("psnr-rgb", psnr_ssim.psnr_rgb, "higher", "image", "dB", low=0, of_queries=True),
        Metric("ssim-rgb", psnr_ssim.ssim_rgb, "higher", "image", low=-1, high=1),
        Metric("psnr-8bit", sr3.psnr_8bit, "higher", "image", "dB", low=0),
        Metric("ssim-8bit", sr3.ssim_8bit, "higher", "image", low=-1, high=1),
        Metric("consistency", sr3.consistency, "lower", "image", "1e-5", low=0, of_low=True),
        Metric("niqe", niqe.niqe, "lower", "image", low=0, require=niqe.parameters),
        Metric("lpips", perceptual.lpips, "lower", "image", low=0, require=perceptual.require_lpips),
        Metric("dists", perceptual.dists, "lower", "image", low=0, require=perceptual.require_dists),
        Metric("fid", perceptual.Fid, "lower", "set", low=0, require=perceptual.require_fid),
        Metric("is", perceptual.InceptionScore, "higher", "set", low=1, require=perceptual.require_is),
    )
}


def find(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names. Raises UserError for one that is not known, or whose needs are not here."""
    for name in names:
        if name not in METRICS:
            raise UserError(f"unknown metric '{name}': {nearest_known(name, METRICS)}")
        METRICS[name].require()
    return [METRICS[name] for name in names]


def of_validation(names: list[str], best: str, images: bool) -> list[Metric]:
    """The metrics of a training's validation, which sees whole images or else colours without their neighbours. Raises
    UserError for what it cannot measure, or cannot choose by."""
    found = find(names)
    if best not in names:
        raise UserError(f"best is '{best}': expected one of the metrics, {', '.join(names)}")
    of_sets = [metric.name for metric in found if metric.per == "set"]
    if of_sets:
        raise UserError(f"metric '{of_sets[0]}' is of a whole set: test.py measures it, validation does not")
    of_low = [metric.name for metric in found if metric.of_low]
    if of_low:
        raise UserError(f"metric '{of_low[0]}' is of the low resolution: test.py measures it, validation does not")
    whole = [metric.name for metric in found if not metric.of_queries]
    if whole and not images:
        raise UserError(f"metric '{whole[0]}' is of whole images: validation takes them with an eval_type")
    return found

"""NIQE: how far the statistics of an image are from those of natural ones (Mittal, Soundararajan, Bovik, "Making a
'Completely Blind' Image Quality Analyzer", IEEE Signal Processing Letters 2013).

Libraries that have it want hundreds of megabytes of others, or work with numpy of years ago, so it is here. What its
authors learnt from natural images, a mean (36,) and a covariance (36, 36), is not: `parameters` says where it is
looked for.
"""

import functools
import math
from pathlib import Path

import numpy as np
from PIL import Image

from liif_core.errors import UserError
from liif_core.evaluation.psnr_ssim import border, cut, luma
from liif_core.system.places import WORK

FILE = "niqe_pris_params.npz"
BLOCK = 96  # pixels, the authors'
SHAPES = np.arange(200, 10001) / 1000  # of generalised Gaussian distributions, as finely as the authors look for them
GAMMA = np.vectorize(math.gamma, otypes=[float])
RATIOS = GAMMA(2 / SHAPES) ** 2 / (GAMMA(1 / SHAPES) * GAMMA(3 / SHAPES))


def niqe(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """NIQE (Mittal et al., 2013) of the prediction's Y, rounded to 8 bits; the target is not looked at.

    RGB (h, w, 3) in [0, 1], of which two blocks of 96x96 pixels must be left when the protocol's border is cut.
    """
    plane = np.rint(cut(luma(prediction), border(eval_type)))
    rows, columns = (side // BLOCK for side in plane.shape)
    if rows * columns < 2:
        size = f"{plane.shape[0]}x{plane.shape[1]}"
        raise UserError(f"NIQE needs two blocks of {BLOCK}x{BLOCK} pixels after the border is cut; {size} are left")
    mean, covariance = parameters()
    plane = plane[: rows * BLOCK, : columns * BLOCK]
    found = np.concatenate([_features(plane, BLOCK), _features(_half(plane), BLOCK // 2)], axis=1)
    whole = found[~np.isnan(found).any(axis=1)]
    if len(whole) < 2:  # there is no contrast in the others
        return math.nan
    away, found_covariance = mean - np.nanmean(found, axis=0), np.cov(whole, rowvar=False)
    return float(np.sqrt(away @ np.linalg.pinv((covariance + found_covariance) / 2) @ away))


def parameters() -> tuple[np.ndarray, np.ndarray]:
    """Mean (36,) and covariance (36, 36) of natural images. Raises UserError where they are not."""
    return _read(WORK / "load" / FILE)


@functools.cache
def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise UserError(
            f"metric 'niqe': no {path}, what NIQE's authors learnt from natural images: take it from the source "
            "package of basicsr 1.4.2 (`pip download --no-deps basicsr`), where it is in basicsr/metrics/"
        )
    try:
        with np.load(path) as file:
            mean, covariance = file["mu_pris_param"].ravel(), file["cov_pris_param"]
        good = mean.shape == (36,) and covariance.shape == (36, 36) and np.isfinite(covariance).all()
    except Exception:  # whatever a damaged file provokes
        good = False
    if not good:
        raise UserError(f"metric 'niqe': {path} is damaged: expected mu_pris_param (36) and cov_pris_param (36, 36)")
    return mean, covariance


def _features(plane: np.ndarray, block: int) -> np.ndarray:
    """18 numbers for each block of (h, w), column by column: how its normalised values are distributed, and the
    products of neighbours in four directions."""
    mean = _smooth(plane)
    deviation = np.sqrt(np.abs(_smooth(plane**2) - mean**2))
    normalised = (plane - mean) / (deviation + 1)
    rows, columns = (side // block for side in plane.shape)
    blocks = normalised.reshape(rows, block, columns, block).transpose(2, 0, 1, 3).reshape(-1, block, block)
    shape, left, right = _distribution(blocks)
    found = [shape, (left + right) / 2]
    for step in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = _distribution(blocks * np.roll(blocks, step, axis=(1, 2)))
        found += [shape, (right - left) * GAMMA(2 / shape) / GAMMA(1 / shape), left, right]
    return np.stack(found, axis=1)


def _distribution(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shape, left and right width of the asymmetric generalised Gaussian that fits each block, by moments."""
    with np.errstate(invalid="ignore", divide="ignore"):  # a block without contrast gives NaN, and is left out
        values = blocks.reshape(len(blocks), -1)
        below, above = (np.where(side, values, 0) for side in (values < 0, values > 0))
        left, right = (np.sqrt((part**2).sum(1) / np.count_nonzero(part, axis=1)) for part in (below, above))
        skew = left / right
        ratio = np.abs(values).mean(1) ** 2 / (values**2).mean(1)
        ratio *= (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = SHAPES[[np.argmin((RATIOS - one) ** 2) for one in ratio]]
    width = np.sqrt(GAMMA(1 / shape) / GAMMA(3 / shape))
    return shape, left * width, right * width


def _smooth(plane: np.ndarray) -> np.ndarray:
    """A 7x7 Gaussian with sigma 7 / 6, the edge repeated."""
    window = np.exp(-((np.arange(7) - 3) ** 2) / (2 * (7 / 6) ** 2))
    window /= window.sum()
    height, width = plane.shape
    padded = np.pad(plane, 3, "edge")
    down = sum(weight * padded[i : i + height] for i, weight in enumerate(window))
    return sum(weight * down[:, i : i + width] for i, weight in enumerate(window))


def _half(plane: np.ndarray) -> np.ndarray:
    """Half the size, by antialiased bicubic as MATLAB does it: beyond its edge the image is mirrored."""
    mirrored = np.pad(plane, 8, "symmetric").astype(np.float32)
    size = mirrored.shape[1] // 2, mirrored.shape[0] // 2
    return np.array(Image.fromarray(mirrored).resize(size, Image.Resampling.BICUBIC))[4:-4, 4:-4].astype(np.float64)

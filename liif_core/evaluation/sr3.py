"""The numbers of SR3 (Saharia et al., arXiv 2104.07636, table 2) and of SR3-PyTorch's evaluation."""

import math

import numpy as np

from liif_core.evaluation.psnr_ssim import psnr_rgb, ssim_map, ssim_rgb
from liif_core.images import resample, rgb8

CONSISTENCY_UNIT = 1e5


def psnr_8bit(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """PSNR of RGB in dB of the prediction rounded to 8 bits, without a border whatever the protocol: SR3-PyTorch's."""
    return psnr_rgb(_rounded(prediction), target)


def ssim_8bit(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """The mean SSIM of R, G and B of the prediction rounded to 8 bits, without a border: SR3-PyTorch's."""
    return ssim_rgb(_rounded(prediction), target)


def _rounded(image: np.ndarray) -> np.ndarray:
    return rgb8.to_float(rgb8.to_uint8(image))


def consistency(prediction: np.ndarray, low: np.ndarray, eval_type: str | None = None) -> float:
    """The mean square between the low resolution that was upscaled, in [0, 1], and the prediction, downsampled by
    bicubic: SR3's third number, in 1e-5."""
    return float(np.mean(_again(prediction, low) ** 2)) * CONSISTENCY_UNIT


def _again(prediction: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The difference of the prediction, downsampled by bicubic, to the low resolution (H, W, 3), float64."""
    height, width = low.shape[:2]
    again = resample.resize(
        prediction.astype(np.float32), height, width, (0, 0, prediction.shape[0], prediction.shape[1])
    )
    return again.astype(np.float64) - low


def not_white(prediction: np.ndarray, target: np.ndarray, low: np.ndarray) -> dict[str, float]:
    """psnr-8bit, ssim-8bit and consistency of the pixels that are not white in the target, or in the low resolution, by
    name; NaN of an image that has none. All are RGB in [0, 1].

    For images on a white ground, which every method restores: SSIM is averaged over windows whose middle is not white.
    """
    mask, inner, low_mask = ((image < 1).any(axis=2) for image in (target, target[5:-5, 5:-5], low))
    rounded = _rounded(prediction)
    planes = [np.moveaxis(image.astype(np.float64) * 255, 2, 0) for image in (rounded, target)]
    similar = np.mean([ssim_map(x, y) for x, y in zip(*planes, strict=True)], axis=0)
    consistent = _again(prediction, low)[low_mask] ** 2
    return {
        "psnr-8bit": psnr_rgb(rounded[mask], target[mask]) if mask.any() else math.nan,
        "ssim-8bit": float(np.mean(similar[inner])) if inner.any() else math.nan,
        "consistency": float(np.mean(consistent)) * CONSISTENCY_UNIT if low_mask.any() else math.nan,
    }


def shift(prediction: np.ndarray, low: np.ndarray) -> float:
    """By how many of 255 levels the mean of R, G or B, whichever differs most, is off that of the low resolution."""
    return float(np.abs(_again(prediction, low).mean(axis=(0, 1))).max()) * 255

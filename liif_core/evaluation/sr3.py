"""The numbers of SR3 (Saharia et al., arXiv 2104.07636, table 2) and of SR3-PyTorch's evaluation."""

import numpy as np

from liif_core.evaluation.psnr_ssim import psnr_rgb, ssim_rgb
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
    height, width = low.shape[:2]
    again = resample.resize(
        prediction.astype(np.float32), height, width, (0, 0, prediction.shape[0], prediction.shape[1])
    )
    return float(np.mean((again.astype(np.float64) - low) ** 2)) * CONSISTENCY_UNIT

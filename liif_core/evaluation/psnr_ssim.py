"""PSNR and SSIM under the protocols of the super-resolution literature, in numpy float64.

`div2k-S`      RGB, a border of S + 6 pixels cut (the original LIIF, after EDSR's evaluation on DIV2K).
`benchmark-S`  luma Y = (65.738 R + 129.057 G + 25.064 B) / 256 (ITU-R BT.601, studio range), a border
               of S pixels cut (Set5, Set14, B100, Urban100).
none           RGB, all pixels.

S is the factor; where it is no whole number, the border is that of the next one.

Predictions are compared as they come, clamped to [0, 1] but not rounded to 8 bits, as the original LIIF does.
"""

import math

import numpy as np

from liif_core.config import protocol
from liif_core.errors import UserError

LUMA = np.array([65.738, 129.057, 25.064]) / 256


def border(eval_type: str | None) -> int:
    """How many pixels a protocol cuts from every side."""
    if eval_type is None:
        return 0
    kind, scale = protocol.split(eval_type)
    return math.ceil(scale) + {"div2k": 6, "benchmark": 0}[kind]


def cut(image: np.ndarray, width: int) -> np.ndarray:
    """An image without `width` pixels on every side. Raises UserError where none are left."""
    if min(image.shape[:2]) <= 2 * width:
        raise UserError(
            f"an image of {image.shape[0]}x{image.shape[1]} has no pixels left when a border of {width} is cut"
        )
    return image[width : image.shape[0] - width, width : image.shape[1] - width]


def psnr(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """Peak signal-to-noise ratio in dB; arrays (..., 3) or, with a protocol, (h, w, 3), values in [0, 1].

    Infinite when the two are equal, NaN when the prediction is NaN. The peak is 1, also for Y, as in the original LIIF.
    """
    of_luma = eval_type is not None and eval_type.startswith("benchmark")
    return (psnr_y if of_luma else psnr_rgb)(prediction, target, eval_type)


def psnr_y(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """PSNR of Y in dB, whatever the protocol takes; its border is cut."""
    return _psnr(_difference(prediction, target, eval_type) @ LUMA)


def psnr_rgb(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """PSNR of RGB in dB, whatever the protocol takes; its border is cut."""
    return _psnr(_difference(prediction, target, eval_type))


def _difference(prediction: np.ndarray, target: np.ndarray, eval_type: str | None) -> np.ndarray:
    difference = prediction.astype(np.float64) - target.astype(np.float64)
    return difference if eval_type is None else cut(difference, border(eval_type))


def _psnr(difference: np.ndarray) -> float:
    error = float(np.mean(difference**2))
    return math.inf if error == 0 else -10 * math.log10(error)


def luma(image: np.ndarray) -> np.ndarray:
    """(h, w) Y in [16, 235] of RGB (h, w, 3) in [0, 1]; MATLAB's rgb2ycbcr without its rounding."""
    return image.astype(np.float64) @ (LUMA * 255) + 16


def _blur(image: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Separable filter of (h, w), only where the window fits: (h - 10, w - 10) for 11 taps."""
    taps = len(window)
    rows = sum(weight * image[i : image.shape[0] - taps + 1 + i] for i, weight in enumerate(window))
    return sum(weight * rows[:, i : rows.shape[1] - taps + 1 + i] for i, weight in enumerate(window))


def ssim(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """Structural similarity (Wang et al., 2004) of Y; RGB (h, w, 3) in [0, 1] in, mean in [-1, 1] out.

    11x11 Gaussian window with sigma 1.5, K1 = 0.01, K2 = 0.03, dynamic range 255, the protocol's
    border cut first, averaged where the window fits, as in the authors' MATLAB code.
    """
    return _ssim(luma(prediction), luma(target), eval_type)


def ssim_rgb(prediction: np.ndarray, target: np.ndarray, eval_type: str | None = None) -> float:
    """The mean SSIM of R, G and B, each as `ssim` takes Y, with values in [0, 255]."""
    planes = [np.moveaxis(image.astype(np.float64) * 255, 2, 0) for image in (prediction, target)]
    return float(np.mean([_ssim(x, y, eval_type) for x, y in zip(*planes, strict=True)]))


def _ssim(x: np.ndarray, y: np.ndarray, eval_type: str | None) -> float:
    """SSIM of two planes (h, w) with a dynamic range of 255."""
    return float(np.mean(ssim_map(cut(x, border(eval_type)), cut(y, border(eval_type)))))


def ssim_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SSIM of two planes (h, w) with a dynamic range of 255 at every place where the window fits, (h - 10, w - 10)."""
    if min(x.shape) < 11:
        raise UserError(f"SSIM needs 11x11 pixels after the border is cut; {x.shape[0]}x{x.shape[1]} are left")
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    mean_x, mean_y = _blur(x, window), _blur(y, window)
    variance_x = _blur(x * x, window) - mean_x**2
    variance_y = _blur(y * y, window) - mean_y**2
    covariance = _blur(x * y, window) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    numerator = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return numerator / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))

"""What happens to images on their way to whoever upscales them: blur, resizing, noise, compression.

BSRGAN: Zhang et al., ICCV 2021, arXiv 2103.14006. Real-ESRGAN: Wang et al., ICCVW 2021, arXiv 2107.10833.

A step takes an image, uint8 (h, w, 3), and its strength, and what draws takes the random numbers too; the result is a
new image of the same size. So it is a pure function: of numpy and of the codecs of the Pillow that is installed,
whose bits another version need not give.
"""

import io
import math
from typing import Annotated

import numpy as np
import pydantic
from PIL import Image
from pydantic import Field, NonNegativeFloat

from liif_core.images import rgb8

FILTERS = ("BILINEAR", "BICUBIC", "BOX", "LANCZOS")  # of resizing: none moves what is seen, as the nearest pixel would
SHAPES = (0.5, 2.0)  # exponents of generalised Gaussians; Real-ESRGAN's released settings go from 0.5 to 4
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
WEBP = 0.25  # how many compressions are WebP where both are given

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Quality = Annotated[int, Field(ge=1, le=100)]
Subsampling = Annotated[int, Field(ge=0, le=2)]


class Degradation(pydantic.BaseModel):
    """Which steps there are, each with the lowest and the highest strength; what is not given is left out."""

    model_config = pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True)

    blur: tuple[Positive, Positive] | None = None
    """Standard deviations of a Gaussian in pixels of the input."""
    isotropic: Share = 0.5
    """Of blurs, how many are as wide in all directions; the others have two deviations, and are turned."""
    gaussian: Share = 0.8
    """Of blurs, how many are Gaussian; the others are generalised: flatter, or more pointed, in the middle."""
    resize: tuple[Positive, Positive] | None = None
    """Factors of a detour: 0.5 is to half the size and back, each by bilinear, bicubic, area or Lanczos."""
    noise: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    """Standard deviation of Gaussian noise, of 255."""
    photons: tuple[Positive, Positive] | None = None
    """How many photons make white: 500 are noise of 11 of 255 in white, of 6 in dark grey. Where both noises are given,
    an image gets one of them."""
    grey: Share = 0.4
    """Of noises, how many are the same in the three channels."""
    jpeg: tuple[Quality, Quality] | None = None
    """Pillow's quality."""
    subsampling: tuple[Subsampling, Subsampling] = (0, 2)
    """Of JPEG's colours: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0, as cameras and most programs have it."""
    webp: tuple[Quality, Quality] | None = None
    """Pillow's quality. Where both compressions are given, a quarter of them is WebP."""
    chance: Share = 1
    """Of each step."""
    clean: Share = 0
    """How many images stay as they are."""
    twice: Share = 0
    """Of the others, how many go through it a second time."""

    @pydantic.field_validator("blur", "resize", "noise", "photons", "jpeg", "subsampling", "webp")
    @classmethod
    def in_order(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        """The lowest strength comes first."""
        if value is not None and value[0] > value[1]:
            raise ValueError("expected the lowest strength and then the highest")
        return value

    @pydantic.model_validator(mode="after")
    def something(self) -> "Degradation":
        """Without a step it would be a clean set under another name."""
        if not any((self.blur, self.resize, self.noise, self.photons, self.jpeg, self.webp)):
            raise ValueError(
                "expected at least one of blur, resize, noise, photons, jpeg, webp, such as jpeg: [60, 60]"
            )
        return self


def degrade(image: np.ndarray, ranges: Degradation, rng: np.random.Generator) -> np.ndarray:
    """uint8 (h, w, 3) -> the same after one or two rounds of random steps (Real-ESRGAN, section 3.2)."""
    if rng.random() < ranges.clean:
        return image
    for _ in range(1 + (rng.random() < ranges.twice)):
        image = one_round(image, ranges, rng)
    return image


def one_round(image: np.ndarray, ranges: Degradation, rng: np.random.Generator) -> np.ndarray:
    """Blur, resizing and noise in random order (BSRGAN, section 3.4), then compression: a file's last step."""
    steps = random_blur, random_resize, random_noise
    for number in rng.permutation(len(steps)):
        if rng.random() < ranges.chance:
            image = steps[number](image, ranges, rng)
    return random_compression(image, ranges, rng) if rng.random() < ranges.chance else image


def random_blur(image: np.ndarray, ranges: Degradation, rng: np.random.Generator) -> np.ndarray:
    """Isotropic or not, Gaussian or generalised (BSRGAN, section 3.1; Real-ESRGAN, section 3.1)."""
    if ranges.blur is None:
        return image
    first, second = rng.uniform(*ranges.blur, 2).tolist()
    isotropic, gaussian = rng.random() < ranges.isotropic, rng.random() < ranges.gaussian
    angle, exponent = rng.uniform(0, math.pi), log_uniform(rng, *SHAPES)
    return blur(image, kernel(first, first if isotropic else second, angle, 1 if gaussian else exponent))


def random_resize(image: np.ndarray, ranges: Degradation, rng: np.random.Generator) -> np.ndarray:
    """To another size and back, each by a random filter (BSRGAN, section 3.2; Real-ESRGAN, section 3.1)."""
    if ranges.resize is None:
        return image
    there, back = (FILTERS[number] for number in rng.integers(len(FILTERS), size=2))
    return detour(image, log_uniform(rng, *ranges.resize), there, back)


def random_noise(image: np.ndarray, ranges: Degradation, rng: np.random.Generator) -> np.ndarray:
    """Gaussian or of photons, of colours or grey (BSRGAN, section 3.3; Real-ESRGAN, section 3.1)."""
    deviation, photons = ranges.noise, ranges.photons
    if deviation and photons:
        deviation, photons = (deviation, None) if rng.random() < 0.5 else (None, photons)
    grey = bool(rng.random() < ranges.grey)
    if deviation:
        return gaussian_noise(image, rng.uniform(*deviation), grey, rng)
    return photon_noise(image, log_uniform(rng, *photons), grey, rng) if photons else image


def random_compression(image: np.ndarray, ranges: Degradation, rng: np.random.Generator) -> np.ndarray:
    """JPEG with any subsampling, or WebP, each of random quality (BSRGAN, section 3.3; WebP is ours)."""
    of_jpeg, of_webp = ranges.jpeg, ranges.webp
    if of_jpeg and of_webp:
        of_jpeg, of_webp = (None, of_webp) if rng.random() < WEBP else (of_jpeg, None)
    if of_webp:
        return webp(image, int(rng.integers(*of_webp, endpoint=True)))
    if of_jpeg:
        quality, subsampling = (int(rng.integers(*one, endpoint=True)) for one in (of_jpeg, ranges.subsampling))
        return jpeg(image, quality, subsampling)
    return image


def kernel(first: float, second: float, angle: float = 0, exponent: float = 1) -> np.ndarray:
    """(k, k) float64 that sum to 1: exp(-(x' S^-1 x)^exponent / 2), S of two standard deviations in pixels.

    angle: of the first with the columns' axis, in radians. exponent: 1 is a Gaussian, less is more pointed, more is
    flatter (Real-ESRGAN, section 3.1). k reaches four of the larger deviation, at which a Gaussian is 0.0003.
    """
    radius = int(4 * max(first, second) + 0.5)
    down, right = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    along, across = (
        right * math.cos(angle) + down * math.sin(angle),
        down * math.cos(angle) - right * math.sin(angle),
    )
    weights = np.exp(-0.5 * ((along / first) ** 2 + (across / second) ** 2) ** exponent)
    return weights / weights.sum()


def blur(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Convolved with (k, k) that is its own reflection through the centre, beyond the border the image's reflection.

    By Fourier transforms: they are quick for any kernel, and no matter how many threads there are, their sums are the
    same bits.
    """
    radius = len(weights) // 2
    height, width = image.shape[:2]
    around = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), "reflect")
    size = around.shape[:2]
    spectrum = np.fft.rfft2(weights, size)[..., None] * np.fft.rfft2(around, axes=(0, 1))
    whole = np.fft.irfft2(spectrum, size, axes=(0, 1))  # what went round the border is in the 2 * radius that are cut
    return rounded(whole[-height:, -width:])


def detour(image: np.ndarray, factor: float, there: str, back: str) -> np.ndarray:
    """Resized by `factor` and back, by filters that are some of FILTERS."""
    height, width = image.shape[:2]
    between = rgb8.resize(image, *rgb8.upscaled_size((height, width), factor), resample=Image.Resampling[there])
    return rgb8.resize(between, height, width, resample=Image.Resampling[back])


def gaussian_noise(image: np.ndarray, sigma: float, grey: bool, rng: np.random.Generator) -> np.ndarray:
    """Of standard deviation sigma (of 255), of its own in each channel or the same in all."""
    shape = image.shape[:2] + (1 if grey else 3,)
    return rounded(image + sigma * rng.standard_normal(shape))


def photon_noise(image: np.ndarray, photons: float, grey: bool, rng: np.random.Generator) -> np.ndarray:
    """Poisson's: each value counts photons, of which white has so many; grey ones are those of the luma."""
    clean = image @ LUMA[:, None] if grey else image.astype(np.float64)
    return rounded(image + rng.poisson(clean * (photons / 255)) * (255 / photons) - clean)


def jpeg(image: np.ndarray, quality: int, subsampling: int) -> np.ndarray:
    """After a JPEG of this quality, 1 to 100, and subsampling, 0 to 2."""
    return _through(image, "JPEG", quality=quality, subsampling=subsampling)


def webp(image: np.ndarray, quality: int) -> np.ndarray:
    """After a lossy WebP of this quality, 1 to 100."""
    return _through(image, "WEBP", quality=quality)


def _through(image: np.ndarray, kind: str, **how: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, kind, **how)
    return np.asarray(Image.open(file).convert("RGB"))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A factor: halves are as likely as doubles."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def rounded(values: np.ndarray) -> np.ndarray:
    """[0, 255] of any kind -> uint8, rounded; what is beyond is cut."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)

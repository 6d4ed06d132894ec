"""How much noise there is at each time (DDPM: Ho et al., NeurIPS 2020, arXiv 2006.11239; SR3: Saharia et al., arXiv
2104.07636).

Letters: T steps of the schedule, t from 0 (the image) to T (noise). An image x_0 in [-1, 1] becomes
x_t = sqrt(gamma_t) x_0 + sqrt(1 - gamma_t) eps with eps standard normal (SR3, section 2.1; DDPM, equation 4).
"""

import functools
import math
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from pydantic import PositiveInt

from liif_core.config.schema import Strict

Name = Literal["linear", "quad", "const", "warmup10", "warmup50", "jsd", "cosine"]
Beta = Annotated[float, pydantic.Field(ge=1e-9, lt=1)]
COSINE_OFFSET, LARGEST_BETA = 8e-3, 0.999  # of cosine


class Schedule(Strict):
    """The noise variances beta_t that `steps` times are added, from `start` to `end`.

    linear: equally spaced; quad: their roots are; const: all are `end`; warmup10, warmup50: linear over the first 10
    or 50 %, then const; jsd: 1 / T, 1 / (T - 1), ..., 1 (Sohl-Dickstein et al., ICML 2015); cosine: gamma_t falls as a
    squared cosine (Nichol and Dhariwal, ICML 2021, arXiv 2102.09672, equation 17). The latter two have neither start
    nor end.
    """

    model_config = pydantic.ConfigDict(frozen=True)

    name: Name = "linear"
    steps: PositiveInt = 2000
    start: Beta = 1e-6
    end: Beta = 1e-2


DEFAULT = Schedule()  # SR3's


@functools.lru_cache(maxsize=16)
def betas(schedule: Schedule) -> np.ndarray:
    """(T,) float64: beta_1 to beta_T."""
    steps, start, end = schedule.steps, schedule.start, schedule.end
    if schedule.name == "linear":
        return np.linspace(start, end, steps)
    if schedule.name == "quad":
        return np.linspace(math.sqrt(start), math.sqrt(end), steps) ** 2
    if schedule.name == "jsd":
        return 1 / np.arange(steps, 0, -1)
    if schedule.name == "cosine":
        angles = (np.arange(steps + 1) / steps + COSINE_OFFSET) / (1 + COSINE_OFFSET) * math.pi / 2
        falling = np.cos(angles) ** 2
        return np.minimum(1 - falling[1:] / falling[:-1], LARGEST_BETA)
    found = np.full(steps, end)
    warmup = int(steps * {"const": 0, "warmup10": 0.1, "warmup50": 0.5}[schedule.name])
    found[:warmup] = np.linspace(start, end, warmup)
    return found


@functools.lru_cache(maxsize=16)
def gammas(schedule: Schedule) -> np.ndarray:
    """(T + 1,) float64: gamma_0 = 1 and gamma_t = prod_{s <= t} (1 - beta_s), how much of the image's variance is left
    at t."""
    return np.append(1.0, np.cumprod(1 - betas(schedule)))


def log_snr(gamma: npt.ArrayLike) -> np.ndarray:
    """lambda = log(sqrt(gamma) / sqrt(1 - gamma)), half the logarithm of the signal-to-noise ratio (DPM-Solver++: Lu
    et al., arXiv 2211.01095); infinite where there is no noise."""
    with np.errstate(divide="ignore"):
        return 0.5 * (np.log(gamma) - np.log1p(np.negative(gamma)))


def buffers(schedule: Schedule) -> dict[str, np.ndarray]:
    """The 12 arrays (T,) float32 that SR3-PyTorch keeps beside a network's weights, by its names; entry t - 1 is of
    time t. The posterior is q(x_{t-1} | x_t, x_0) of DDPM, equations 6 and 7."""
    beta, gamma = betas(schedule), gammas(schedule)
    now, before = gamma[1:], gamma[:-1]
    with np.errstate(divide="ignore"):
        posterior_variance = beta * (1 - before) / (1 - now)
        found = {
            "betas": beta,
            "alphas_cumprod": now,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": np.sqrt(now),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - now),
            "log_one_minus_alphas_cumprod": np.log(1 - now),
            "sqrt_recip_alphas_cumprod": np.sqrt(1 / now),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / now - 1),
            "posterior_variance": posterior_variance,
            "posterior_log_variance_clipped": np.log(np.maximum(posterior_variance, 1e-20)),
            "posterior_mean_coef1": beta * np.sqrt(before) / (1 - now),
            "posterior_mean_coef2": (1 - before) * np.sqrt(1 - beta) / (1 - now),
        }
    return {name: values.astype(np.float32) for name, values in found.items()}

"""How noise becomes an image: a sampler is a table of numbers, one row per step.

Every step is linear in the image x as it is, the image x_0 that the network's noise leaves, the x_0 before and new
noise z, so that the loop of each tree is the same for all samplers:

    for row in table(schedule, sampler):
        x0 = clip(row.of_x * x + row.of_noise * network(condition, x, row.level), -1, 1)
        x, last = row.keep * x + row.new * x0 + row.old * last + row.chance * z, x0

Letters: gamma as in liif_core.diffusion.schedules; alpha = sqrt(gamma), sigma = sqrt(1 - gamma), lambda =
log(alpha / sigma). A prime is the next level, which has less noise; the last is gamma = 1.
"""

import copy
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import PositiveInt

from liif_core.config.schema import Strict
from liif_core.diffusion.schedules import Schedule, gammas, log_snr
from liif_core.errors import UserError


class Sampler(Strict):
    """ancestral: DDPM's (algorithm 2), with the posterior's variance; ddim: Song et al., ICLR 2021, arXiv 2010.02502,
    equation 12; dpmpp-2m: DPM-Solver++(2M) of Lu et al., arXiv 2211.01095, algorithm 2.

    steps: how often the network is asked, None for all times of the schedule. eta: how much new noise ddim adds, from
    0 (none) to 1 (as ancestral). spacing: levels equally far apart in time, or in the logarithm of the signal-to-noise
    ratio. start: at which part of the schedule's times to begin: 1 with nothing but noise, less with the condition and
    the noise of that time (Chung et al., CVPR 2022, arXiv 2112.05146, algorithm 1).
    """

    model_config = pydantic.ConfigDict(frozen=True)

    name: Literal["ancestral", "ddim", "dpmpp-2m"] = "ddim"
    steps: PositiveInt | None = 50
    eta: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.0
    spacing: Literal["time", "log-snr"] = "time"
    start: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0


DEFAULT = Sampler()


@dataclass(frozen=True)
class Row:
    """One step. level: sqrt(gamma) of x as it is; step: the number of its time from 0, t - 1, whole where the level is
    the schedule's. The network is told one of the two. The others are the factors in the loop above.
    """

    level: float
    step: float
    of_x: float
    of_noise: float
    keep: float
    new: float
    old: float
    chance: float


def levels(schedule: Schedule, steps: int | None, spacing: str, start: float = 1) -> tuple[np.ndarray, np.ndarray]:
    """Times and gammas (K + 1,) from the most noise to none. Times without any signal, as jsd ends with, are left out.

    Raises UserError for more steps than the schedule has from `start` on.
    """
    gamma = gammas(schedule)
    most = max(1, round(start * int(np.flatnonzero(gamma > 0)[-1])))
    count = most if steps is None else steps
    if not 1 <= count <= most:
        rest = "" if start == 1 else f" from {start:g} of its times on"
        raise UserError(f"sampler: 'steps' is {count}: expected 1 to {most}, which the schedule has{rest}")
    if spacing == "time" or count == 1:
        times = np.rint(most * np.arange(count, -1, -1) / count)
        return times, gamma[times.astype(int)]
    ratios = log_snr(gamma[1 : most + 1])  # falls with t
    chosen = np.linspace(ratios[-1], ratios[0], count)
    times = np.interp(chosen, ratios[::-1], np.arange(most, 0, -1))
    return np.append(times, 0.0), np.append(1 / (1 + np.exp(-2 * chosen)), 1.0)


def table(schedule: Schedule, sampler: Sampler) -> list[Row]:
    """The steps of a sampler from what `beginning` mixes to an image. Raises UserError as `levels` does."""
    times, gamma = levels(schedule, sampler.steps, sampler.spacing, sampler.start)
    rows = []
    for number, (now, after) in enumerate(zip(gamma[:-1], gamma[1:], strict=True)):
        before = gamma[number - 1] if number else None
        if sampler.name == "ancestral":
            factors = _ancestral(now, after)
        elif sampler.name == "ddim":
            factors = _ddim(now, after, sampler.eta)
        else:
            factors = _multistep(before, now, after)
        of_x, of_noise = 1 / math.sqrt(now), -math.sqrt(1 / now - 1)  # x_0 of x and its noise (DDPM, equation 15)
        rows.append(Row(math.sqrt(now), float(times[number] - 1), of_x, of_noise, *map(float, factors)))
    return rows


def beginning(sampler: Sampler, rows: list[Row], conditional: bool) -> tuple[float, float]:
    """How much of the condition and of standard normal noise the first image is made of.

    Raises UserError for a network without a condition that shall not begin with noise.
    """
    if sampler.start == 1:
        return 0.0, 1.0
    if not conditional:
        raise UserError(f"sampler: 'start' is {sampler.start:g}: expected 1, since this model has no condition")
    return rows[0].level, math.sqrt(1 - rows[0].level ** 2)


def shown(number: int, steps: int) -> bool:
    """Whether the image after step `number`, from 1, of so many is one of those on the way that are looked at: every
    (1 | steps // 10)-th before the last, as in SR3-PyTorch, and the last."""
    return (steps - number) % (1 | steps // 10) == 0


def _ancestral(now: float, after: float) -> tuple[float, float, float, float]:
    """Mean and deviation of q(x_{t-1} | x_t, x_0) (DDPM, equations 6 and 7), over one time or more at once."""
    beta = 1 - now / after
    keep, new = (1 - after) * math.sqrt(1 - beta) / (1 - now), beta * math.sqrt(after) / (1 - now)
    return keep, new, 0.0, math.sqrt((1 - after) / (1 - now) * beta)


def _ddim(now: float, after: float, eta: float) -> tuple[float, float, float, float]:
    """x' = alpha' x_0 + sqrt(sigma'^2 - s^2) eps + s z with s = eta sigma' / sigma sqrt(1 - gamma / gamma') (DDIM,
    equations 12 and 16), and eps = (x - alpha x_0) / sigma of the x_0 that has been clamped."""
    sigma, next_sigma = math.sqrt(1 - now), math.sqrt(1 - after)
    chance = eta * next_sigma / sigma * math.sqrt(1 - now / after)
    keep = math.sqrt(max(0.0, next_sigma**2 - chance**2)) / sigma
    return keep, math.sqrt(after) - keep * math.sqrt(now), 0.0, chance


def _multistep(before: float | None, now: float, after: float) -> tuple[float, float, float, float]:
    """x' = sigma' / sigma x - alpha' (exp(-h) - 1) D with D = (1 + 1 / (2 r)) x_0 - 1 / (2 r) times the x_0 before,
    h = lambda' - lambda and r the step before as a part of h (DPM-Solver++, algorithm 2). The first D is x_0, and so is
    the result of the last step, at whose end lambda is infinite."""
    if after == 1:
        return 0.0, 1.0, 0.0, 0.0
    step = log_snr(after) - log_snr(now)
    factor = -math.sqrt(after) * math.expm1(-step)
    share = 0.0 if before is None else 0.5 * step / (log_snr(now) - log_snr(before))
    return math.sqrt((1 - after) / (1 - now)), factor * (1 + share), -factor * share, 0.0


def overridden(method: dict, **changes: Any) -> dict:
    """The spec of a method of diffusion with another sampler: `changes` are arguments of Sampler, None for those that
    stay. Whoever makes the method checks them."""
    changes = {name: value for name, value in changes.items() if value is not None}
    if not changes:
        return method
    method = copy.deepcopy(method)
    method.setdefault("args", {}).setdefault("sampler", {}).update(changes)
    return method

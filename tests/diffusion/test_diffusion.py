"""Schedules, samplers and what is drawn: formulas by hand, the original step, an analytic Gaussian."""

import math

import numpy as np
import pytest
from pydantic import ValidationError

from liif_core.diffusion import samplers, schedules, targets
from liif_core.diffusion.samplers import Sampler
from liif_core.diffusion.schedules import Schedule
from liif_core.errors import UserError

SHORT = Schedule(name="linear", steps=10, start=1e-4, end=0.3)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [0.1, 0.2, 0.3, 0.4]),
        ("quad", [((3 - k) * math.sqrt(0.1) + k * math.sqrt(0.4)) ** 2 / 9 for k in range(4)]),
        ("const", [0.4] * 4),
        ("warmup50", [0.1, 0.4, 0.4, 0.4]),
        ("warmup10", [0.4] * 4),
        ("jsd", [1 / 4, 1 / 3, 1 / 2, 1]),
    ],
)
def test_schedules_by_hand(name, expected):
    found = schedules.betas(Schedule(name=name, steps=4, start=0.1, end=0.4))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_schedule_cosine_falls_as_a_squared_cosine_until_beta_is_bounded():
    schedule = Schedule(name="cosine", steps=1000)
    gamma, part = schedules.gammas(schedule), (np.arange(1001) / 1000 + 0.008) / 1.008
    np.testing.assert_allclose(gamma[:-1], np.cos(part[:-1] * np.pi / 2) ** 2 / np.cos(part[0] * np.pi / 2) ** 2)
    assert gamma[-1] == gamma[-2] * (1 - 0.999) and schedules.betas(schedule)[-1] == 0.999


def test_schedule_leaves_the_image_at_time_0_and_the_variance_at_one():
    schedule = Schedule()
    gamma, kept = schedules.gammas(schedule), schedules.buffers(schedule)
    assert gamma[0] == 1 and len(gamma) == 2001 and gamma[-1] == pytest.approx(math.exp(-10.03), rel=0.02)
    assert len(kept) == 12 and all(array.dtype == np.float32 and array.shape == (2000,) for array in kept.values())
    variance = kept["sqrt_alphas_cumprod"] ** 2 + kept["sqrt_one_minus_alphas_cumprod"] ** 2
    np.testing.assert_allclose(variance, 1, rtol=1e-6)
    # The posterior's mean of x_t = sqrt(gamma_t) x_0 is sqrt(gamma_{t - 1}) x_0.
    mean = kept["posterior_mean_coef1"] + kept["posterior_mean_coef2"] * kept["sqrt_alphas_cumprod"]
    np.testing.assert_allclose(mean[1:], np.sqrt(kept["alphas_cumprod_prev"])[1:], rtol=1e-3)  # float32 differences
    assert kept["posterior_variance"][0] == 0


@pytest.mark.parametrize("schedule", [SHORT, Schedule(), Schedule(name="cosine", steps=50)], ids=str)
def test_ancestral_steps_are_the_posterior_of_the_schedule(schedule):
    beta, gamma = schedules.betas(schedule), schedules.gammas(schedule)
    rows = samplers.table(schedule, Sampler(name="ancestral", steps=None))
    assert [row.step for row in rows] == list(range(schedule.steps - 1, -1, -1))
    for row in rows:
        t = int(row.step) + 1
        assert row.level == math.sqrt(gamma[t]) and row.old == 0
        # DDPM, equations 7 and 15
        expected = math.sqrt(gamma[t - 1]) * beta[t - 1] / (1 - gamma[t])
        assert row.new == pytest.approx(expected, rel=1e-9)
        assert row.keep == pytest.approx(math.sqrt(1 - beta[t - 1]) * (1 - gamma[t - 1]) / (1 - gamma[t]), rel=1e-9)
        assert row.chance**2 == pytest.approx(beta[t - 1] * (1 - gamma[t - 1]) / (1 - gamma[t]), rel=1e-9)
        x0, noise = 0.3, -1.7
        assert row.of_x * (row.level * x0 + math.sqrt(1 - gamma[t]) * noise) + row.of_noise * noise == pytest.approx(x0)
    assert rows[-1].chance == 0


def walk(rows: list, network, start: np.ndarray, seed: int = 0, clamp: float = 1.0) -> np.ndarray:
    """The loop of the trees, in numpy."""
    rng, x, last = np.random.default_rng(seed), start, start
    for row in rows:
        x0 = np.clip(row.of_x * x + row.of_noise * network(x, row.level), -clamp, clamp)
        x = row.keep * x + row.new * x0 + row.old * last + row.chance * rng.standard_normal(x.shape)
        last = x0
    return x


def test_ddim_with_eta_1_on_all_levels_is_the_ancestral_sampler():
    def network(x, level):
        return np.tanh(3 * x + level)  # any function, which has x0 clamped at some steps

    start = np.random.default_rng(1).standard_normal(50)
    found = [
        walk(samplers.table(Schedule(), Sampler(name=name, steps=None, eta=1)), network, start)
        for name in ("ddim", "ancestral")
    ]
    np.testing.assert_allclose(*found, rtol=0, atol=1e-6)
    assert found[0].std() > 0.01


def test_ddim_without_eta_follows_its_equation_and_draws_nothing():
    times, gamma = samplers.levels(Schedule(), 20, "time")
    assert times.tolist() == list(range(2000, -1, -100)) and gamma[-1] == 1
    rows = samplers.table(Schedule(), Sampler(name="ddim", steps=20))
    noise, x0 = 0.7, 0.2
    for row, now, after in zip(rows, gamma[:-1], gamma[1:], strict=True):
        x = math.sqrt(now) * x0 + math.sqrt(1 - now) * noise
        expected = math.sqrt(after) * x0 + math.sqrt(1 - after) * noise
        assert row.keep * x + row.new * x0 == pytest.approx(expected, rel=1e-12)
        assert row.chance == row.old == 0


def error_on_a_gaussian(name: str, steps: int) -> float:
    """How far a sampler without noise ends from the solution of the probability-flow equation, which for data of the
    variance v is linear: x(0) = x(T) sqrt(v / (gamma v + 1 - gamma))."""
    variance, schedule = 0.25, Schedule()
    rows = samplers.table(schedule, Sampler(name=name, steps=steps, spacing="log-snr"))
    start = np.array([-1.3, 0.4, 2.1])

    def network(x, level):  # the noise that is expected in x
        return math.sqrt(1 - level**2) * x / (level**2 * variance + 1 - level**2)

    # To time 1, from which the last step leads to 0 at once.
    x = walk(rows[:-1], network, start, clamp=np.inf)
    first, last = (row.level**2 for row in (rows[0], rows[-1]))
    exact = start * math.sqrt((last * variance + 1 - last) / (first * variance + 1 - first))
    return float(np.abs(x - exact).max())


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("dpmpp-2m", 2)])
def test_samplers_converge_with_their_order_on_a_gaussian(name, order):
    errors = [error_on_a_gaussian(name, steps) for steps in (40, 80, 160, 320)]
    orders = [math.log2(before / after) for before, after in zip(errors, errors[1:], strict=False)]
    assert abs(orders[-1] - order) < 0.1, orders


def test_clamping_keeps_an_image_in_its_range_and_noise_goes_with_it():
    """DDIM takes the noise that belongs to the clamped image: with the network's, levels would not have variance 1."""
    rows = samplers.table(Schedule(), Sampler(name="ddim", steps=10))
    found = walk(rows, lambda x, level: -5 * np.ones_like(x), np.array([0.5, -2.0]))
    np.testing.assert_array_equal(found, [1, 1])
    row, sigma = rows[0], math.sqrt(1 - rows[0].level ** 2)
    after = rows[1].level
    noise = (0.5 - row.level * 1) / sigma
    assert row.keep * 0.5 + row.new * 1 == pytest.approx(after + math.sqrt(1 - after**2) * noise, rel=1e-12)


def test_levels_without_any_signal_are_left_out():
    rows = samplers.table(Schedule(name="jsd", steps=8), Sampler(name="ddim", steps=None))
    assert [row.step for row in rows] == list(range(6, -1, -1)) and all(map(math.isfinite, vars(rows[0]).values()))


@pytest.mark.parametrize("steps", [11, 2001])
def test_more_steps_than_the_schedule_has_are_one_sentence(steps):
    with pytest.raises(UserError, match=f"'steps' is {steps}: expected 1 to 10, which the schedule has"):
        samplers.table(SHORT, Sampler(steps=steps))
    with pytest.raises(ValidationError, match="greater than 0"):
        Sampler(steps=0)


@pytest.mark.parametrize("spacing", ["time", "log-snr"])
def test_a_sampler_may_begin_with_the_condition_and_the_noise_of_a_part_of_the_schedule(spacing):
    sampler = Sampler(name="ddim", steps=5, spacing=spacing, start=0.25)
    rows, gamma = samplers.table(Schedule(), sampler), schedules.gammas(Schedule())
    assert len(rows) == 5 and rows[0].step == pytest.approx(499) and rows[0].level ** 2 == pytest.approx(gamma[500])
    of_condition, of_noise = samplers.beginning(sampler, rows, conditional=True)
    assert of_condition == rows[0].level and of_condition**2 + of_noise**2 == pytest.approx(1)
    assert samplers.beginning(Sampler(), samplers.table(Schedule(), Sampler()), conditional=True) == (0, 1)


def test_a_start_that_cannot_be_is_one_sentence():
    with pytest.raises(UserError, match=r"'steps' is 6: expected 1 to 5, which the schedule has from 0.5 of its times"):
        samplers.table(SHORT, Sampler(steps=6, start=0.5))
    with pytest.raises(UserError, match=r"'start' is 0.5: expected 1, since this model has no condition"):
        samplers.beginning(Sampler(start=0.5), [], conditional=False)
    for start in (0, 1.1):
        with pytest.raises(ValidationError, match="start"):
            Sampler(start=start)


def test_levels_in_log_snr_are_equally_spaced_and_their_times_between_the_schedules():
    times, gamma = samplers.levels(Schedule(), 5, "log-snr")
    ratios, known = schedules.log_snr(gamma[:-1]), schedules.gammas(Schedule())
    np.testing.assert_allclose(np.diff(ratios), np.diff(ratios)[0])
    assert times[0] == 2000 and times[-2:].tolist() == [1, 0] and gamma[0] == pytest.approx(known[2000])
    assert known[math.ceil(times[2])] <= gamma[2] <= known[math.floor(times[2])]


def test_levels_to_train_on_are_between_those_of_the_schedule_and_times_equally_likely():
    rng, gamma = np.random.default_rng(0), schedules.gammas(SHORT)
    drawn = [targets.draw(rng, SHORT, (3, 2, 3)) for _ in range(4000)]
    level = np.array([one["level"] for one in drawn])
    assert level.dtype == np.float32 and level.shape == (4000,) and set(drawn[0]) == {"noise", "level"}
    counts, _ = np.histogram(level, np.sqrt(gamma[::-1]))
    assert abs(counts - 400).max() < 4 * math.sqrt(400)
    noise = np.array([one["noise"] for one in drawn])
    assert noise.dtype == np.float32 and abs(noise.std() - 1) < 0.02
    np.testing.assert_allclose(targets.deviation(level) ** 2 + level**2, 1, rtol=1e-6)


def test_times_to_train_ddpm_on_have_the_schedules_gamma():
    drawn = [targets.draw(np.random.default_rng(seed), SHORT, (3, 1, 1), "ddpm") for seed in range(200)]
    assert {float(one["step"]) for one in drawn} == set(range(10))
    for one in drawn:
        assert one["level"] == np.float32(math.sqrt(schedules.gammas(SHORT)[int(one["step"]) + 1]))


def test_a_sampler_is_overridden_without_touching_the_spec():
    method = {"name": "diffusion", "args": {"sampler": {"name": "ddim", "eta": 0.5}}}
    found = samplers.overridden(method, name="dpmpp-2m", steps=10, eta=None)
    assert found["args"]["sampler"] == {"name": "dpmpp-2m", "eta": 0.5, "steps": 10}
    assert method["args"]["sampler"] == {"name": "ddim", "eta": 0.5}
    assert samplers.overridden({"name": "diffusion"}, steps=3) == {
        "name": "diffusion",
        "args": {"sampler": {"steps": 3}},
    }

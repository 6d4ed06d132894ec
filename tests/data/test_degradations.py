"""Each degradation against another implementation or its moments, and wrappers that degrade what others cut."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from helpers import made_images
from liif_core.data import degradations
from liif_core.data.batching import Batches, checked
from liif_core.data.degradations import Degradation, degrade
from liif_core.data.registries import WRAPPERS
from liif_core.data.sheet import sheet
from liif_core.errors import UserError
from liif_torch.datasets import make_loader

ALL = {"blur": [0.2, 1.5], "resize": [0.5, 1.5], "noise": [0, 15], "photons": [300, 9000], "jpeg": [30, 95]}
ALL |= {"webp": [30, 95], "chance": 0.7, "clean": 0.1, "twice": 0.3}


@pytest.fixture
def image():
    return made_images.make_image(37, 53)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("sigmas", [(0.3, 0.3), (1, 1), (2.7, 2.7), (1, 2), (0.2, 1.5)])
def test_a_gaussian_blur_is_scipys(image, sigmas):
    ndimage = pytest.importorskip("scipy.ndimage")
    right, down = sigmas
    # scipy cuts each axis at its own 4 deviations, ours both at the larger's: nothing to see in 8 bits.
    expected = ndimage.gaussian_filter(image.astype(float), (down, right, 0), mode="mirror", truncate=4)
    found = degradations.blur(image, degradations.kernel(right, down))
    assert found.dtype == np.uint8 and found.shape == image.shape
    assert np.abs(found - expected).max() < 0.5 + 1e-3


def test_a_turned_kernel_has_the_covariance_that_was_asked_for():
    first, second, angle = 2.0, 1.0, 0.4
    weights = degradations.kernel(first, second, angle)
    radius = len(weights) // 2
    down, right = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    found = [[(weights * a * b).sum() for b in (right, down)] for a in (right, down)]
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    np.testing.assert_allclose(found, turn @ np.diag([first**2, second**2]) @ turn.T, atol=0.01)


@pytest.mark.parametrize("exponent", [0.5, 2])
def test_a_generalised_kernel_falls_as_the_paper_says(exponent):
    weights = degradations.kernel(1.5, 1.5, exponent=exponent)
    centre = len(weights) // 2
    for distance in (1, 2, 4):
        expected = math.exp(-((distance / 1.5) ** (2 * exponent)) / 2)
        assert weights[centre, centre + distance] / weights[centre, centre] == pytest.approx(expected)
    assert weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 40)])
def test_images_smaller_than_a_kernel_keep_size_and_mean(size):
    flat = np.full((*size, 3), 200, np.uint8)
    assert np.array_equal(degradations.blur(flat, degradations.kernel(2, 3, 1)), flat)


def test_compressions_and_resizing_are_pillows_own(image):
    def through(kind, **how):
        file = io.BytesIO()
        Image.fromarray(image).save(file, kind, **how)
        return np.array(Image.open(file).convert("RGB"))

    for subsampling, words in enumerate(("4:4:4", "4:2:2", "4:2:0")):
        expected = through("JPEG", quality=60, subsampling=words)
        np.testing.assert_array_equal(degradations.jpeg(image, 60, subsampling), expected)
    np.testing.assert_array_equal(degradations.webp(image, 60), through("WEBP", quality=60))
    between = Image.fromarray(image).resize((32, 22), Image.Resampling.BOX)
    expected = np.array(between.resize((53, 37), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(degradations.detour(image, 0.6, "BOX", "LANCZOS"), expected)


@pytest.mark.parametrize("grey", [False, True])
def test_noise_has_the_moments_that_were_asked_for(grey):
    flat = np.broadcast_to(np.array([60, 120, 180], np.uint8), (203, 101, 3))
    luma = 0.299 * 60 + 0.587 * 120 + 0.114 * 180
    gaussian = degradations.gaussian_noise(flat, 7, grey, rng()) - flat.astype(float)
    photons = degradations.photon_noise(flat, 500, grey, rng()) - flat.astype(float)
    for channel, value in enumerate((60, 120, 180)):
        counted = math.sqrt((luma if grey else value) * 255 / 500)
        for noise, deviation in ((gaussian, 7), (photons, counted)):
            assert abs(noise[..., channel].mean()) < 5 * deviation / math.sqrt(203 * 101)
            assert noise[..., channel].std() == pytest.approx(deviation, rel=0.03)
    for noise in (gaussian, photons):
        alike = np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1]
        assert alike > 0.97 if grey else abs(alike) < 0.04


# Random ones


def test_strengths_of_one_value_are_that_step_alone(image):
    every_subsampling = [degradations.jpeg(image, 60, number).tobytes() for number in (0, 1, 2)]
    found = {degrade(image, Degradation(jpeg=(60, 60)), rng(seed)).tobytes() for seed in range(30)}
    assert found == set(every_subsampling)
    blurred = degradations.blur(image, degradations.kernel(1, 1))
    same = [np.array_equal(degrade(image, Degradation(blur=(1, 1)), rng(seed)), blurred) for seed in range(40)]
    assert 22 < sum(same) < 40  # the others are no Gaussians
    assert np.array_equal(degrade(image, Degradation(blur=(1, 1), gaussian=1), rng(1)), blurred)


def test_shares_say_how_many_are_clean_done_once_and_twice(image, monkeypatch):
    rounds = []
    monkeypatch.setattr(degradations, "one_round", lambda image, *_: rounds.append(1) or image)
    ranges = Degradation(noise=(1, 2), clean=0.25, twice=0.5)
    counts = np.zeros(3)
    for seed in range(400):
        rounds.clear()
        degrade(image, ranges, rng(seed))
        counts[len(rounds)] += 1
    np.testing.assert_allclose(counts / 400, [0.25, 0.375, 0.375], atol=0.1)


def test_steps_are_drawn_and_come_in_every_order_before_the_compression(image, monkeypatch):
    seen, done = set(), []
    for name in ("blur", "resize", "noise", "compression"):
        monkeypatch.setattr(degradations, f"random_{name}", lambda image, *_, name=name: done.append(name) or image)
    for seed in range(200):
        done.clear()
        degradations.one_round(image, Degradation(**ALL), rng(seed))
        seen.add(tuple(done))
    full = [steps for steps in seen if len(steps) == 4]
    assert len(full) == 6 and all(steps[-1] == "compression" for steps in full)
    assert {len(steps) for steps in seen} >= {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected at least one of blur, resize"),
        ({"jpeg": [90, 60]}, "'degradation.jpeg' is .90, 60.: expected the lowest strength and then the highest"),
        ({"jpeg": [60, 101]}, "'degradation.jpeg.1' is 101"),
        ({"blur": [0, 1]}, "'degradation.blur.0' is 0"),
        ({"jpg": [1, 2]}, "unknown key 'degradation.jpg': did you mean 'jpeg'"),
        ({"noise": [1, 2], "chance": 2}, "'degradation.chance' is 2"),
    ],
)
def test_wrong_ranges_are_one_sentence(given, message):
    with pytest.raises(UserError, match=message) as caught:
        wrap("sr-implicit-degraded", degradation=given)
    assert "\n" not in str(caught.value)


# Wrappers


class Images(list):
    def name(self, index):
        return f"image{index}"


SINGLE = Images(made_images.make_image(*size, seed) for seed, size in enumerate([(41, 67), (90, 50), (64, 47)] * 3))
PAIRS = Images((image[:12, :11], image[:36, :33]) for image in SINGLE)
IMPLICIT = {"inp_size": 9, "augment": True, "sample_q": 30}
FACTORS = {"scale_max": 3, "gt_downsample_max": 1.5}


def wrap(name, dataset=SINGLE, seed=3, training=True, **arguments):
    return WRAPPERS.make({"name": name, "args": arguments}, dataset=dataset, seed=seed, training=training)


@pytest.mark.parametrize(
    ("name", "clean", "dataset", "arguments"),
    [
        (
            "sr-implicit-degraded",
            "sr-implicit-downsampled",
            SINGLE,
            IMPLICIT | {"scale_max": 3, "gt_downsample_max": 1.5},
        ),
        ("sr-implicit-paired-degraded", "sr-implicit-paired", PAIRS, IMPLICIT),
        ("sr-patches-degraded", "sr-patches-downsampled", SINGLE, {"inp_size": 9, "scale": 3, "augment": True}),
    ],
)
def test_a_degraded_sample_differs_from_the_clean_one_in_its_input_alone(name, clean, dataset, arguments):
    degraded = wrap(name, dataset, degradation=ALL, **arguments)
    pure = wrap(clean, dataset, **arguments)
    unlike = 0
    for index in range(9):
        found, expected, again = (each.sample(index, 2) for each in (degraded, pure, degraded))
        assert found.keys() == expected.keys()
        for key in found:
            np.testing.assert_array_equal(found[key], again[key])
            if key != "inp":
                np.testing.assert_array_equal(found[key], expected[key])
        assert found["inp"].shape == expected["inp"].shape and found["inp"].dtype == np.uint8
        unlike += not np.array_equal(found["inp"], expected["inp"])
        assert not np.array_equal(found["inp"], degraded.sample(index, 3)["inp"])
    assert unlike >= 6


def test_workers_and_resuming_do_not_change_a_bit():
    wrapper = wrap("sr-implicit-degraded", degradation=ALL, scale_max=4, **IMPLICIT)
    whole = list(Batches(wrapper, 3, 3, epoch=2))
    found = list(checked(make_loader(Batches(wrapper, 3, 3, 2, start_batch=1), 2)))
    assert len(found) == 2
    for ours, theirs in zip(found, whole[1:], strict=True):
        assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


def test_a_test_set_is_degraded_in_the_same_way_whatever_the_seed():
    first, second = (wrap("sr-implicit-paired-degraded", PAIRS, seed, False, degradation=ALL) for seed in (0, 9))
    for index in range(9):
        for ours, theirs in zip(first.pair(index, 0), second.pair(index, 5), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_sheet_shows_inputs_beside_targets():
    drawn = sheet(wrap("sr-patches-downsampled", scale=3, inp_size=8), range(5))
    assert drawn.shape == (2 * (192 + 26) + 8, 4 * 385 + 3 * 8, 3)
    low, high = wrap("sr-patches-downsampled", scale=3, inp_size=8).pair(1, 1)
    left = 385 + 8
    np.testing.assert_array_equal(drawn[26:218:24, left : left + 192 : 24], low)
    np.testing.assert_array_equal(drawn[26:218:8, left + 193 : left + 385 : 8], high)

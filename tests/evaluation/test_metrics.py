"""PSNR and SSIM against formulas written down again, values worked out by hand, and published figures."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from helpers import ROOT
from helpers.made_images import make_image
from liif_core.config import load, schema
from liif_core.data import sets
from liif_core.errors import NotFinite, UserError
from liif_core.evaluation import evaluate, metrics, niqe, perceptual, psnr_ssim, sr3
from liif_core.images import rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network

SIZE = (47, 62)  # odd, non-square, and enough left when 14 pixels are cut from every side


def pair(seed=0, size=SIZE, noise=9.0) -> tuple[np.ndarray, np.ndarray]:
    """An image and a noisy copy, float32 in [0, 1]."""
    target = make_image(*size, seed=seed)
    rng = np.random.default_rng(seed)
    prediction = np.clip(target / 255 + rng.normal(0, noise / 255, target.shape), 0, 1)
    return prediction.astype(np.float32), rgb8.to_float(target)


def test_sr3s_numbers_are_of_8_bits_and_of_the_low_resolution():
    """As SR3-PyTorch counts PSNR and SSIM; consistency is 0 for what is downsampled to the low resolution."""
    prediction, target = pair()
    rounded = np.round(prediction * 255) / 255
    error = np.mean((np.round(prediction * 255.0) - np.round(target * 255.0)) ** 2)
    assert sr3.psnr_8bit(prediction, target, "benchmark-4") == pytest.approx(20 * math.log10(255 / math.sqrt(error)))
    assert sr3.psnr_8bit(prediction, target) != psnr_ssim.psnr_rgb(prediction, target)
    expected = psnr_ssim.ssim_rgb(rounded.astype(np.float32), target)
    assert sr3.ssim_8bit(prediction, target, "div2k-2") == pytest.approx(expected, abs=1e-7)
    flat, low = np.full((24, 40, 3), 0.25, np.float32), np.full((3, 5, 3), 0.25, np.float32)
    assert sr3.consistency(flat, low) == pytest.approx(0, abs=1e-6)
    assert sr3.consistency(flat, low + np.float32(0.01)) == pytest.approx(10, rel=1e-4)  # 0.01 squared, in 1e-5
    with pytest.raises(UserError, match="metric 'consistency' is of the low resolution: test.py measures it"):
        metrics.of_validation(["psnr", "consistency"], "psnr", True)


def test_what_needs_an_image_is_not_measured_on_queries():
    names = ["psnr", "ssim"]
    assert [metric.name for metric in metrics.of_validation(names, "ssim", True)] == names
    with pytest.raises(UserError, match="metric 'ssim' is of whole images: validation takes them with an eval_type"):
        metrics.of_validation(names, "ssim", False)
    assert [metric.name for metric in metrics.of_validation(["psnr-y"], "psnr-y", False)] == ["psnr-y"]


def test_what_is_white_does_not_count():
    """The right half is white, and the prediction is right there: the errors of the left half alone."""
    target, low = np.ones((48, 80, 3), np.float32), np.ones((6, 10, 3), np.float32)
    target[:, :40], low[:, :5] = 51 / 255, 51 / 255
    prediction = target.copy()
    prediction[:, :40] += np.float32(51 / 255)
    found, half = sr3.not_white(prediction, target, low), slice(0, 35)  # windows in whose middle it is not white
    assert found["psnr-8bit"] == pytest.approx(-20 * math.log10(51 / 255), abs=1e-4)
    assert found["psnr-8bit"] == pytest.approx(sr3.psnr_8bit(prediction, target) - 10 * math.log10(2), abs=1e-5)
    whole = structural_similarity(
        rgb8.to_uint8(prediction)[..., 0], np.float64(255) * target[..., 0], data_range=255, gaussian_weights=True,
        sigma=1.5, use_sample_covariance=False, full=True,
    )[1][5:-5, 5:-5]  # fmt: skip
    assert found["ssim-8bit"] == pytest.approx(whole[:, half].mean(), abs=2e-4)
    assert found["ssim-8bit"] < sr3.ssim_8bit(prediction, target)
    assert found["consistency"] == pytest.approx(2 * sr3.consistency(prediction, low), rel=0.02)
    assert sr3.shift(prediction, low) == pytest.approx(51 / 2, rel=0.01)
    white = np.ones_like(target)
    assert all(map(math.isnan, sr3.not_white(white, white, np.ones_like(low)).values()))


def direct_psnr(prediction, target, cut, luma) -> float:
    """Pixel by pixel, in Python's own floats."""
    squares = []
    for y in range(cut, target.shape[0] - cut):
        for x in range(cut, target.shape[1] - cut):
            difference = [float(prediction[y, x, c]) - float(target[y, x, c]) for c in range(3)]
            if luma:
                red, green, blue = difference
                squares.append(((65.738 * red + 129.057 * green + 25.064 * blue) / 256) ** 2)
            else:
                squares += [d**2 for d in difference]
    return 10 * math.log10(1 / (math.fsum(squares) / len(squares)))


@pytest.mark.parametrize(
    ("eval_type", "cut", "luma"),
    [
        (None, 0, False),
        ("div2k-2", 8, False),
        ("div2k-8", 14, False),
        ("benchmark-3", 3, True),
        ("benchmark-8", 8, True),
        ("benchmark-1", 1, True),
        ("benchmark-1.5", 2, True),
        ("benchmark-2.5", 3, True),
        ("benchmark-2.05", 3, True),
        ("div2k-3.5", 10, False),
    ],
)
def test_psnr_equals_the_formula(eval_type, cut, luma):
    prediction, target = pair()
    assert psnr_ssim.border(eval_type) == cut
    # Both in float64; only the order of a sum over at most 8742 numbers differs.
    expected = direct_psnr(prediction, target, cut, luma)
    assert psnr_ssim.psnr(prediction, target, eval_type) == pytest.approx(expected, abs=1e-9)


def test_psnr_by_hand():
    target = np.zeros((40, 51, 3))
    assert psnr_ssim.psnr(target + 0.1, target) == pytest.approx(20)  # mean square 0.01
    assert psnr_ssim.psnr(target + 0.1, target, "div2k-2") == pytest.approx(20)
    # Y of a grey difference d is d * (65.738 + 129.057 + 25.064) / 256 = 0.858824 d.
    assert psnr_ssim.psnr(target + 0.1, target, "benchmark-4") == pytest.approx(20 - 20 * math.log10(219.859 / 256))
    half = target.copy()
    half[:20] = 0.5  # half of the pixels are wrong by 0.5
    assert psnr_ssim.psnr(half, target) == pytest.approx(-10 * math.log10(0.125))
    red = target.copy()
    red[..., 0] = 0.5
    assert psnr_ssim.psnr(red, target, "benchmark-4") == pytest.approx(-20 * math.log10(0.5 * 65.738 / 256))


@pytest.mark.parametrize(("eval_type", "cut"), [("div2k-2", 8), ("benchmark-4", 4), ("benchmark-2.5", 3)])
def test_the_border_is_cut_on_all_four_sides_and_no_more(eval_type, cut):
    target = np.zeros((*SIZE, 3))
    inside = (slice(cut, SIZE[0] - cut), slice(cut, SIZE[1] - cut))
    outside = np.ones((*SIZE, 3))
    outside[inside] = 0
    assert psnr_ssim.psnr(outside, target, eval_type) == math.inf
    for y, x in [(cut, cut), (cut, -cut - 1), (-cut - 1, cut), (-cut - 1, -cut - 1)]:
        corner = target.copy()
        corner[y, x] = 1
        assert psnr_ssim.psnr(corner, target, eval_type) < 60


def test_equal_images():
    image = pair()[1]
    assert psnr_ssim.psnr(image, image) == math.inf
    assert psnr_ssim.ssim(image, image) == pytest.approx(1, abs=1e-12)


def test_queries_without_a_shape_have_a_psnr():
    assert psnr_ssim.psnr(np.full((2, 7, 3), 0.25), np.zeros((2, 7, 3))) == pytest.approx(-20 * math.log10(0.25))


def test_integers_do_not_wrap_around():
    assert psnr_ssim.psnr(np.zeros((5, 5, 3), np.uint8), np.ones((5, 5, 3), np.uint8)) == pytest.approx(0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("eval_type", [None, "div2k-3", "benchmark-2", "benchmark-4", "div2k-8"])
def test_ssim_equals_skimage(eval_type, seed):
    prediction, target = pair(seed)
    cut = psnr_ssim.border(eval_type)
    luma = [(image.astype(np.float64) @ [65.738, 129.057, 25.064]) * 255 / 256 + 16 for image in (prediction, target)]
    x, y = (image[cut : image.shape[0] - cut, cut : image.shape[1] - cut] for image in luma)
    expected = structural_similarity(
        x, y, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    # The same 11 taps (skimage cuts at 3.5 sigma, which is 5 pixels) and the same places, where the window fits.
    # Variances come from differences of squares of about 200^2 in float64: 200^2 * 2^-52, times a few roundings.
    assert psnr_ssim.ssim(prediction, target, eval_type) == pytest.approx(expected, abs=1e-10)
    assert expected < 0.98


def test_ssim_of_two_constants_by_hand():
    # No variance: (2 a b + c1) / (a^2 + b^2 + c1) with a = 16 and b = 16 + 219.859 * 255 / 256.
    black, white = np.zeros((12, 15, 3)), np.ones((12, 15, 3))
    a, b, c1 = 16, 16 + 219.859 * 255 / 256, 2.55**2
    assert psnr_ssim.ssim(black, white) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1), rel=1e-12)


@pytest.mark.parametrize("eval_type", [None, "div2k-2", "benchmark-4"])
def test_luma_and_rgb_are_measured_whatever_the_protocol_takes(eval_type):
    prediction, target = pair()
    cut = psnr_ssim.border(eval_type)
    inner = [image[cut : SIZE[0] - cut, cut : SIZE[1] - cut] for image in (prediction, target)]
    assert psnr_ssim.psnr_y(prediction, target, eval_type) == pytest.approx(direct_psnr(*inner, 0, True), abs=1e-9)
    assert psnr_ssim.psnr_rgb(prediction, target, eval_type) == pytest.approx(direct_psnr(*inner, 0, False), abs=1e-9)
    kind = {"data_range": 1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = structural_similarity(*(image.astype(np.float64) for image in inner), channel_axis=2, **kind)
    assert psnr_ssim.ssim_rgb(prediction, target, eval_type) == pytest.approx(expected, abs=1e-10)


def test_images_without_pixels_are_refused():
    image = np.zeros((20, 30, 3))
    with pytest.raises(UserError, match="20x30 has no pixels left when a border of 10"):
        psnr_ssim.psnr(image, image, "div2k-4")
    with pytest.raises(UserError, match="SSIM needs 11x11 pixels.*4x14 are left"):
        psnr_ssim.ssim(image, image, "benchmark-8")


def test_the_mean_is_over_images():
    rows = [
        evaluate.Row("a", 10, 10, {"psnr": 30.0, "ssim": 0.8}),
        evaluate.Row("b", 1000, 1000, {"psnr": 34.0, "ssim": 0.9}),
    ]
    assert evaluate.mean(rows) == pytest.approx({"psnr": 32.0, "ssim": 0.85})


class Steps:
    """Two pairs of images as a test set, and a prediction that is wrong by a known step."""

    def __len__(self):
        return 2

    def pair(self, index):
        low = make_image(10 + index, 14, seed=index)
        return low, low.repeat(2, axis=0).repeat(2, axis=1)

    def name(self, index):
        return f"p{index}"


def test_evaluation_gives_a_row_per_image():
    def predict(low, height, width, noise):
        assert (height, width) == (2 * low.shape[0], 2 * low.shape[1])
        return rgb8.to_float(low.repeat(2, axis=0).repeat(2, axis=1)) + np.float32(0.1)

    rows = list(
        evaluate.test(
            predict, Steps(), schema.TestConfig.model_construct(eval_type="benchmark-2", metrics=["psnr", "ssim"])
        )
    )
    assert [(row.name, row.height, row.width) for row in rows] == [("p0", 20, 28), ("p1", 22, 28)]
    for row in rows:
        assert row.values["psnr"] == pytest.approx(20 - 20 * math.log10(219.859 / 256), abs=1e-4)  # 0.1 in float32


BICUBIC = [("Set5", 2, 33.67), ("Set5", 3, 30.40), ("Set5", 4, 28.43), ("B100", 2, 29.56)]


@pytest.mark.data
@pytest.mark.parametrize(("name", "scale", "expected"), BICUBIC)
def test_bicubic_scores_what_is_published(name, scale, expected):
    """The sanity row that anybody can check: Pillow's bicubic on the official low-resolution images.

    Published are 33.66, 30.39, 28.42 and 29.56, from MATLAB's bicubic; two decimals are printed, hence 0.01.
    """
    if not (ROOT / "load" / "benchmark" / name / "LR_bicubic" / f"X{scale}").is_dir():
        pytest.skip(f"load/benchmark/{name} is not here: see 'Data' in README.md")
    test_config = load.load(ROOT / "configs" / "test" / f"test-{name.lower()}-{scale}.yaml", "test")
    test_set = sets.make(test_config.test_dataset.model_dump(), seed=0, training=False)
    psnr = evaluate.mean(list(evaluate.test(network.bicubic, test_set, test_config)))["psnr"]
    assert psnr == pytest.approx(expected, abs=0.01)


class Unequal:
    """A test set of one image."""

    def __len__(self):
        return 1

    def pair(self, index):
        return make_image(7, 9), make_image(21, 27)

    def name(self, index):
        return "one.png"


NORM = Normalisation(
    schema.DataNorm.model_validate({"gt": {"sub": [0.5], "div": [0.5]}, "inp": {"sub": [0], "div": [1]}})
)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_value_that_is_no_number_makes_an_image_an_error(value):
    def predict(low, height, width, noise):
        prediction = np.zeros((height, width, 3), np.float32)
        assert NORM.rgb(prediction).max() == 0.5
        prediction[-1, -1, 1] = value
        return NORM.rgb(prediction)

    config = schema.TestConfig(test_dataset={"dataset": {"name": "a"}, "wrapper": {"name": "b"}, "batch_size": 1})
    with pytest.raises(NotFinite, match="one.png: the network gives NaN or infinity.*overflow"):
        list(evaluate.test(predict, Unequal(), config))


def test_a_mean_that_is_nan_is_an_error_and_an_infinite_one_is_not():
    rows = [evaluate.Row("a", 1, 1, {"psnr": value, "ssim": 1.0}) for value in (math.inf, 30.0)]
    assert evaluate.mean(rows)["psnr"] == math.inf
    with pytest.raises(UserError, match="the psnr of 3 images is NaN"):
        evaluate.mean([*rows, evaluate.Row("b", 1, 1, {"psnr": math.nan, "ssim": 1.0})])


# Without a reference, and by networks


@pytest.mark.parametrize(("eval_type", "expected"), [(None, 9.451480954), ("benchmark-4", 9.402818362)])
def test_niqe_equals_another_implementation(monkeypatch, eval_type, expected):
    """The numbers are of basicsr 1.4.2's niqe() on the same rounded Y, with these parameters; it halves the image in
    float64, we in float32."""
    monkeypatch.setattr(niqe, "parameters", lambda: (np.zeros(36), np.eye(36)))
    image = rgb8.to_float(make_image(203, 301, seed=4))
    assert niqe.niqe(image, np.zeros(1), eval_type) == pytest.approx(expected, rel=1e-6)
    blurred = rgb8.to_float(rgb8.resize(rgb8.resize(make_image(203, 301, seed=4), 51, 75), 203, 301))
    assert niqe.niqe(blurred, image) != pytest.approx(expected, rel=0.01)


@pytest.mark.data
def test_niqe_of_baboon_is_that_of_matlab():
    """MATLAB R2021a says 5.72957338, according to basicsr."""
    image = ROOT / "load" / "benchmark" / "Set14" / "HR" / "baboon.png"
    for path in (image, ROOT / "load" / niqe.FILE):
        if not path.is_file():
            pytest.skip(f"{path.relative_to(ROOT)} is not here")
    found = niqe.niqe(rgb8.to_float(rgb8.read_image(image)), np.zeros(1))
    assert found == pytest.approx(5.72957338, abs=1e-6)


def test_niqe_is_no_number_without_contrast_and_refused_where_it_cannot_be_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(niqe, "WORK", tmp_path)
    with pytest.raises(UserError, match=f"metric 'niqe': no {tmp_path}/load/{niqe.FILE}, what NIQE's authors learnt"):
        metrics.find(["psnr", "niqe"])
    (tmp_path / "load").mkdir()
    np.savez(tmp_path / "load" / niqe.FILE, mu_pris_param=np.zeros(36))
    with pytest.raises(UserError, match="is damaged: expected mu_pris_param"):
        metrics.find(["niqe"])
    np.savez(tmp_path / "load" / niqe.FILE, mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36))
    assert [metric.name for metric in metrics.find(["niqe"])] == ["niqe"]
    flat = np.full((96, 199, 3), 0.5, np.float32)
    assert math.isnan(niqe.niqe(flat, flat))
    with pytest.raises(UserError, match="two blocks of 96x96 pixels after the border is cut; 88x191 are left"):
        niqe.niqe(flat, flat, "benchmark-4")


@pytest.mark.parametrize("name", ["lpips", "dists", "fid", "is"])
def test_a_network_is_never_downloaded(monkeypatch, tmp_path, name):
    """Neither a package nor its weights are taken for granted."""
    weights = {"lpips": perceptual.ALEXNET, "dists": perceptual.VGG16}.get(name, perceptual.INCEPTION)
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=f"metric '{name}': the Python package 'torch' is not installed: run `.*pip"):
        metrics.find([name])
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda package: package)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"'{name}': no {tmp_path}/hub/checkpoints/{weights.name}: get it from https"):
        metrics.find([name])
    weights.path.parent.mkdir(parents=True)
    weights.path.write_bytes(b"cut short")
    with pytest.raises(UserError, match=f"{weights.name} is damaged, its SHA-256 does not begin with [0-9a-f]{{8}}"):
        metrics.find([name])


def test_perceptual_distances_of_equal_images_are_nothing_where_the_weights_are_here():
    pytest.importorskip("torchmetrics", reason="torchmetrics, an extra, is not installed")
    image = rgb8.to_float(make_image(71, 93, seed=4))
    blurred = rgb8.to_float(rgb8.resize(rgb8.resize(make_image(71, 93, seed=4), 17, 23), 71, 93))
    for name in ("lpips", "dists"):
        if not {"lpips": perceptual.ALEXNET, "dists": perceptual.VGG16}[name].path.is_file():
            pytest.skip(f"the weights of {name} are not here")
        (metric,) = metrics.find([name])
        assert metric.function(image, image, None) == pytest.approx(0, abs=1e-6) < metric.function(blurred, image, None)

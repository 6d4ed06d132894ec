"""What the encoder sees beyond the image, and the mean over flips and rotations.

Tolerance: coordinates in a larger image are rounded otherwise, as in test_tiling.py.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from helpers import made_images
from helpers.models import MODELS, ONE_FACTOR, narrow_encoder
from helpers.small_run import load_tree
from liif_core.checkpoints import native
from liif_core.config.schema import DataNorm
from liif_core.errors import UserError
from liif_core.geometry import coords, tiling
from liif_core.images import resample, rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network as networks
from liif_core.inference.network import Network
from liif_core.system.places import PRETRAINED

TOLERANCE = 2e-5
RCAN = MODELS["edsr-baseline-liif"].spec | {
    "args": MODELS["edsr-baseline-liif"].spec["args"] | {"encoder_spec": narrow_encoder("rcan")}
}
SPECS = {name: MODELS[name].spec for name in ("edsr-baseline-liif", "edsr-baseline-metasr")} | {"rcan-liif": RCAN}
IMAGE = made_images.make_image(19, 27)


def make_network(spec: dict, **options) -> Network:
    engine = load_tree("torch")()[0](spec)
    engine.seed(3)
    middle = {"inp": {"sub": [0], "div": [1]}, "gt": {"sub": [0.5], "div": [0.3]}}  # so that nothing is clamped
    return Network(engine, Normalisation(DataNorm.model_validate(middle)), **options)


def test_a_plain_image_stays_plain_where_it_goes_on_beyond_its_edge():
    network = networks.load(PRETRAINED, "torch", "cpu", border="mirror")
    grey = np.full((17, 23, 3), 128, np.uint8)
    for border in ("mirror", "repeat"):
        network.border = border
        plain = network(grey, 68, 92) * 255
        # Of the 16 colours that each pixel becomes, the network's own differences by up to a level: all the same.
        assert np.ptp(plain.reshape(17, 4, 23, 4, 3), axis=(0, 2)).max() < 0.01
        assert np.abs(rgb8.to_uint8(plain / 255).astype(int) - 128).max() <= 1
    network.border = "zeros"
    assert np.ptp(network(grey, 68, 92) * 255) > 5  # as LIIF's own code gives it


@pytest.mark.parametrize("name, border", [*((name, "mirror") for name in SPECS), ("edsr-baseline-liif", "repeat")])
def test_the_border_is_as_if_the_image_went_on(name, border):
    network = make_network(SPECS[name])
    radius = network.engine.receptive_radius
    margin = tiling.MARGIN if radius is None else radius + 7  # more than is seen, or the same
    mode = {"mirror": "symmetric", "repeat": "edge"}[border]
    larger = np.pad(IMAGE, ((margin, margin), (margin, margin), (0, 0)), mode=mode)  # farther than the image is wide
    expected = network(larger, 2 * larger.shape[0], 2 * larger.shape[1])[2 * margin :, 2 * margin :][:38, :54]
    other = network(IMAGE, 38, 54)
    network.border = border
    found = network(IMAGE, 38, 54)
    assert np.abs(found - expected).max() <= TOLERANCE < 1e-3 < np.abs(other - expected).max()

    part = network.part(IMAGE, (0, 10, 9, 27), 18, 34)  # touches three sides
    assert np.abs(part - expected[:18, 20:]).max() <= TOLERANCE
    network.tile = 7
    assert np.abs(network(IMAGE, 38, 54) - expected).max() <= TOLERANCE


def symmetric(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirrored else image, turns))


def restored(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    image = np.rot90(image, -turns)
    return image[:, ::-1] if mirrored else image


@pytest.mark.parametrize("border", ["mirror", "zeros"])
def test_the_self_ensemble_is_the_mean_over_the_eight_symmetries(border, monkeypatch):
    network = make_network(SPECS["edsr-baseline-liif"], border=border)
    size, results = (44, 63), []
    for mirrored in (False, True):
        for turns in range(4):
            turned = size if turns % 2 == 0 else size[::-1]
            results.append(restored(network(symmetric(IMAGE, turns, mirrored), *turned), turns, mirrored))
    expected = np.mean(results, axis=0, dtype=np.float64)
    assert np.abs(results[0] - expected).max() > 1e-3

    network.self_ensemble, done = True, []
    for strip in (networks.STRIP, 63 * 11):
        monkeypatch.setattr(networks, "STRIP", strip)
        bands = list(network.bands(IMAGE, *size, advance=done.append))
        assert len(bands) == (1 if strip > 63 * 44 else 4)
        assert np.abs(np.concatenate(bands) - expected).max() <= TOLERANCE
        assert sum(done) == network.passes * 44 * 63 and len(done) >= 8
        done.clear()


def test_coordinates_of_an_image_in_a_larger_one():
    coord, cell = coords.into_window(coords.make_coord((3, 5)), coords.make_cell((3, 5)), ((-0.5, 0.25), (-1, 1)))
    rows = coords.pixel_centres(8)[2:5]  # 8 rows, of which the image is those from the third on
    np.testing.assert_allclose(coord.reshape(3, 5, 2)[:, 0, 0], rows, atol=1e-7)
    np.testing.assert_allclose(coord.reshape(3, 5, 2)[0, :, 1], coords.pixel_centres(5), atol=1e-7)
    np.testing.assert_allclose(cell, [2 / 8, 2 / 5], rtol=1e-6)


# Models of one factor


@pytest.mark.parametrize("options", [{}, {"border": "repeat"}, {"self_ensemble": True}, {"tile": 7}], ids=str)
@pytest.mark.parametrize("name", ["srcnn-x3", "srresnet-x4", "edsr-baseline-x2"])
def test_a_model_of_one_factor_upscales_by_it_and_pillow_downsamples(name, options):
    network = make_network((MODELS | ONE_FACTOR)[name].spec, **options)
    scale = network.engine.scale
    whole = network(IMAGE, 19 * scale, 27 * scale)
    assert scale == int(name[-1]) and whole.std() > 0.005 and not network.notes((19, 27), 19 * scale, 27 * scale)
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in whole.transpose(2, 0, 1)]
    resized = [np.asarray(plane.resize((33, 25), Image.Resampling.BICUBIC)) for plane in planes]
    found = np.concatenate(list(network.bands(IMAGE, 25, 33)))
    difference = np.abs(found - np.stack(resized, axis=-1).clip(0, 1))
    # Where the image goes on beyond its edge, so does what is downsampled.
    assert difference[4:-4, 4:-4].max() <= TOLERANCE and (difference.max() <= TOLERANCE or network.border == "repeat")
    part = network.part(IMAGE, (3, 5, 10, 27), 7 * scale, 22 * scale)
    assert np.abs(part - whole[3 * scale : 10 * scale, 5 * scale :]).max() <= TOLERANCE


def test_a_model_of_one_factor_says_which_it_has():
    network = make_network(ONE_FACTOR["srresnet-x4"].spec)
    with pytest.raises(UserError, match="^this model upscales x4 alone, and 19x27 to 57x81 pixels is x3$"):
        network(IMAGE, 57, 81)
    with pytest.raises(UserError, match="^this model upscales x4 and no further, asked was 95x135 of 19x27 pixels"):
        list(network.bands(IMAGE, 95, 135))
    assert network.notes((19, 27), 57, 81) == ("the model upscales x4 alone: downsampled from 76x108",)


@pytest.mark.parametrize("white", [255, 65535])
def test_a_preupsampled_engine_gets_pillows_bicubic_in_8_bits_and_no_border(white):
    """As the conditions of SR3's training are made, and mirrored where its sides are no multiples."""

    class Engine:
        receptive_radius, scale, preupsampled = None, 4, True
        networks = {"model": SimpleNamespace(predictor=SimpleNamespace(multiple=16))}

        def predict_image(self, inp, height, width, tile, window=coords.WHOLE, noise=None):
            assert inp.shape == (1, 3, height, width) and not (height % 16 or width % 16)
            yield inp[0].transpose(1, 2, 0)

    network = Network(Engine(), Normalisation(DataNorm()), border="mirror")
    image = IMAGE if white == 255 else IMAGE.astype(np.uint16) * 257
    expected = rgb8.resize(IMAGE, 4 * 19, 4 * 27) / 255
    found = np.concatenate(list(network.bands(image, 4 * 19, 4 * 27, white)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    part = network.part(IMAGE, (3, 5, 10, 27), 28, 88)
    np.testing.assert_allclose(part, expected[12:40, 20:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("step", [1, 7, 61])
def test_bands_are_resized_as_the_whole(step):
    image = np.random.default_rng(0).random((61, 47, 3), dtype=np.float32)
    for size, box in (((37, 29), (0, 0, 61, 47)), ((100, 80), (3.25, 2.5, 40.75, 44)), ((5, 9), (10, 3, 15, 12))):
        bands = iter([image[start : start + step] for start in range(0, 61, step)])
        found = np.concatenate(list(resample.in_bands(bands, (61, 47), box, size)))
        assert np.abs(found - resample.resize(image, *size, box)).max() < 1e-5


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("edsr-baseline-liif", "LIIF"),
        ("edsr-baseline-metasr", "MetaSR"),
        ("srcnn-x3", "SRCNN"),
        ("edsr-baseline-x2", "EDSR-baseline"),
    ],
)
def test_images_are_captioned_by_the_name_of_the_model(tmp_path, name, expected):
    spec = (MODELS | ONE_FACTOR)[name].spec
    engine = load_tree("torch")()[0](spec)
    native.save(tmp_path / "a.safetensors", native.Checkpoint(spec, engine.state()))
    assert networks.load(tmp_path / "a.safetensors", "torch", "cpu").caption == expected

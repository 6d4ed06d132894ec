"""An image in overlapping tiles: the spans, the feature map row by row, and encoders in tiles against the whole.

Tolerance: a convolution adds the same products for a tile as for the whole, but in an order that the library chooses
by the shape. Features near 1 then differ by some 1e-7; 1e-5 is far above that, and a radius that is one pixel short
gives more than 1e-3 (the last test but one shows that it would be seen).
"""

import numpy as np
import pytest
import torch

from helpers import made_images
from helpers.models import MODELS, ONE_FACTOR, narrow_encoder
from helpers.small_run import load_tree
from liif_core.config.schema import DataNorm
from liif_core.engine import encoder_of
from liif_core.geometry import tiling
from liif_core.images.normalisation import Normalisation
from liif_core.inference.network import Network
from liif_core.system import devices
from liif_torch.models import build as models
from liif_torch.models.decoders.features import FeatureMap, encode

# Those of the table that may be cut, and more factors: each upsampler sees farther.
ENCODERS = {
    name: model.spec["args"]["encoder_spec"] for name, model in MODELS.items() if model.receptive_radius is not None
} | {
    "edsr-baseline-x3": narrow_encoder("edsr-baseline", scale=3),
    "edsr-baseline-x4": narrow_encoder("edsr-baseline", scale=4),
    "rdn-x4": narrow_encoder("rdn", scale=4),
}
ENCODERS |= {name: model.spec for name, model in ONE_FACTOR.items()}
# Through the 120 layers of the real RDN the farthest pixels fade below float32.
pytestmark = pytest.mark.usefixtures("shallow_rdn")


def make_encoder(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = models.make(ENCODERS[name])
    with torch.no_grad():  # weights that let the farthest pixel be seen: nothing cancels, nothing fades
        for parameter in encoder.parameters():
            parameter.abs_()
            parameter /= parameter[0].sum() if parameter.dim() == 4 else 100
    return encoder.eval()  # BatchNorm that trains sees the whole image


@pytest.mark.parametrize("tile", [1, 7, 40, 93, 94, 1000])
@pytest.mark.parametrize("scale", [1, 3])
def test_spans_cover_an_axis_once_and_overlap_by_the_halo(tile, scale):
    kept = []
    for span in tiling.spans(93, tile, 5, scale):
        first, last = span.pixels.start, span.pixels.stop
        start, stop = first * scale + span.keep.start, first * scale + span.keep.stop
        kept += range(start, stop)
        assert stop - start <= tile * scale and first % 8 == 0
        assert 0 <= max(0, start // scale - 5) - first < 8 and last == min(93, stop // scale + 5)
    assert kept == list(range(93 * scale))


def test_how_large_a_tile_is():
    def count(*arguments):
        return [len(axis) for axis in tiling.tiles((1000, 500), *arguments)]

    assert count(100, 4, 1, "cpu") == [10, 5]
    assert count(0, 4, 1, "cpu") == [1, 1]  # the whole image
    assert count(100, None, 1, "cpu") == [1, 1]  # an encoder that must see it whole
    assert count(None, 4, 1, "cpu") == [3, 2]
    assert count(None, 4, 1, "cuda") == [1, 1]
    assert count(None, 90, 1, "cpu") == [2, 1]  # much overlap asks for larger tiles
    assert count(None, 100, 1, "cpu") == [1, 1]  # no larger than a tile in the middle, which overlaps on both sides


@pytest.mark.parametrize("heights", [[11], [4, 1, 6], [1] * 11])
def test_rows_of_a_feature_map(heights):
    whole = torch.randn(1, 3, 11, 5)
    padded = torch.nn.functional.pad(whole, (0, 0, 2, 3))
    features = FeatureMap((11, 5), whole.split(heights, dim=2))
    for top, bottom in [(-2, 1), (-1, 4), (3, 4), (3, 9), (8, 12), (10, 14)]:
        assert torch.equal(features.rows(top, bottom), padded[:, :, top + 2 : bottom + 2]), (top, bottom)
    assert sum(band.shape[2] for band in features.kept) <= max(heights)  # what is above has been forgotten


def test_a_feature_map_is_not_computed_before_it_is_asked_for():
    taken = []
    bands = (taken.append(i) or torch.zeros(1, 3, 4, 5) for i in range(3))
    features = FeatureMap((12, 5), bands)
    features.rows(0, 4)
    assert taken == [0]
    features.rows(4, 9)
    assert taken == [0, 1, 2]


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_tiles_give_the_features_of_the_whole(name):
    encoder = make_encoder(name)
    radius = encoder.receptive_radius
    inp = torch.rand(1, 3, 2 * radius + 5, 2 * radius + 8)  # in 2 x 2 tiles
    whole = encoder(inp)
    features = encode(encoder, inp, tile=radius + 4)
    assert features.size == tuple(whole.shape[2:])
    found = features.rows(0, features.size[0])
    assert whole.std() > 1e-3
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5 * whole.abs().max().item())


@pytest.mark.parametrize("name", MODELS | ONE_FACTOR)
def test_the_receptive_radius_is_that_of_the_table(name):
    model = (MODELS | ONE_FACTOR)[name]
    assert encoder_of(models.make(model.spec)).receptive_radius == model.receptive_radius


@pytest.mark.parametrize("name", ENCODERS)
def test_the_receptive_radius_is_how_far_the_gradient_reaches(name):
    """The gradient of the features of one pixel reaches as far as the receptive radius, and no farther."""
    encoder = make_encoder(name)
    radius, scale = encoder.receptive_radius, encoder.scale
    side = 2 * radius + 5
    inp = torch.rand(1, 3, side, side, requires_grad=True)
    start = (side // 2) * scale
    encoder(inp)[:, :, start : start + scale, start : start + scale].sum().backward()
    seen = inp.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    reach = max(side // 2 - int(seen[0]), int(seen[-1]) - side // 2)
    # The convolutions behind a pixel shuffle reach 1 + 1/2 + ... pixels; their radius is rounded up.
    assert radius - (scale > 1) <= reach <= radius


@torch.no_grad()
def test_an_encoder_with_means_over_the_image_is_never_cut():
    encoder = models.make(narrow_encoder("rcan"))
    inp = torch.rand(1, 3, 31, 25)
    assert torch.equal(encode(encoder, inp, tile=10).rows(0, 31), encoder(inp))


# Part of an image


@pytest.mark.parametrize("box", [(0, 0, 41, 67), (0, 0, 11, 9), (17, 30, 22, 51), (36, 60, 41, 67)])
@pytest.mark.parametrize("name", ["edsr-baseline-liif", "edsr-baseline-metasr"])
def test_a_part_is_cut_out_of_the_whole(framework, name, box):
    """And only what it depends on is encoded. At x2, where the parts lie on the pixels of the whole, but no query on
    the centre of a feature pixel: at the image's edge LIIF's areas are then rounding errors, here other ones."""
    devices.prepare(framework, "cpu")
    engine = load_tree(framework)()[0](MODELS[name].spec)
    engine.seed(3)
    middle = {"inp": {"sub": [0], "div": [1]}, "gt": {"sub": [0.5], "div": [0.3]}}  # so that nothing is clamped
    network = Network(engine, Normalisation(DataNorm.model_validate(middle)))
    image = made_images.make_image(41, 67)
    whole = network(image, 82, 134)
    top, left, bottom, right = box
    found = network.part(image, box, 2 * (bottom - top), 2 * (right - left))
    expected = whole[2 * top : 2 * bottom, 2 * left : 2 * right]
    assert expected.std() > 0.005
    # float32 coordinates in the crop round otherwise than in the whole, by 1e-7 of up to 67 pixels.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("border", ["zeros", "mirror"])
def test_windows_of_attention_are_those_of_the_whole_in_flipped_parts_too(border):
    engine = load_tree("torch")()[0](MODELS["swinir-lte"].spec)
    engine.seed(3)
    with torch.no_grad():  # at first, blocks add next to nothing
        for layer in engine.networks["model"].module.encoder.layers.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight *= 20
    middle = {"inp": {"sub": [0], "div": [1]}, "gt": {"sub": [0.5], "div": [0.3]}}
    network = Network(engine, Normalisation(DataNorm.model_validate(middle)), border=border, self_ensemble=True)
    image = made_images.make_image(83, 91)
    found = network.part(image, (40, 44, 46, 52), 12, 16)
    expected = network(image, 166, 182)[80:92, 88:104]
    assert expected.std() > 0.005
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_a_part_may_begin_anywhere():
    """What is cut out for it begins at a multiple of 8 pixels from the edge, and ends at one from the other edge."""
    pixels, window = tiling.crop((100, 50), (40.25, 0, 42.75, 50), 6)
    assert pixels == (slice(24, 52), slice(0, 50))
    assert window[1] == (-1, 1)
    first, last = ((place + 1) / 2 * 28 + 24 for place in window[0])
    assert (first, last) == pytest.approx((40.25, 42.75), abs=1e-12)
    assert tiling.crop((100, 50), (40, 10, 41, 11), None)[0] == (slice(0, 100), slice(0, 50))

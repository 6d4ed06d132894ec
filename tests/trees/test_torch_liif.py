"""The PyTorch LIIF against the equations as printed (tests/helpers/equations.py): images, queries, loss and gradients.

Tolerance: the fast decoder adds the same products in another order, in float32. Sums of 580 and 256 products that
come out at about 0.1 carry a rounding of a few 1e-8 (measured against float64: below 5e-8); 1e-5 is far above that
and far below 1/510, half a level of an 8-bit image, and below what any slip in a coordinate would give (1e-3).
"""

import numpy as np
import pytest
import torch

from helpers import equations
from helpers.models import MODELS
from liif_core.geometry import coords, grids
from liif_core.training.initial import initial_parameters
from liif_torch.engine import Engine
from liif_torch.models import build as models
from liif_torch.models.decoders import mlp
from liif_torch.models.decoders.features import FeatureMap

TOLERANCE = 1e-5
# Odd, non-square feature maps: no query of a grid is half-way between two pixels, and a swap of height and width,
# or of rows and columns, cannot cancel out.
SIZE = (11, 7)
ABLATIONS = {
    "full": {},
    "e": {"local_ensemble": False},
    "u": {"feat_unfold": False},
    "c": {"cell_decode": False},
    "euc": {"local_ensemble": False, "feat_unfold": False, "cell_decode": False},
    "imnet-none": {"imnet_spec": None},
}
DECODED = [name for name in ABLATIONS if name != "imnet-none"]  # whose image is the encoder's


def spec(n_feats=24, n_resblocks=1, hidden=(64, 64, 64, 64), **flags) -> dict:
    encoder = {"n_resblocks": n_resblocks, "n_feats": n_feats, "no_upsampling": True}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(hidden)}}
    if "imnet_spec" in flags:  # the feature map is read as RGB, so it must have three channels
        encoder = {"n_resblocks": n_resblocks, "n_feats": n_feats, "scale": 2}
    return {
        "name": "liif",
        "args": {"encoder_spec": {"name": "edsr-baseline", "args": encoder}, "imnet_spec": imnet} | flags,
    }


def make_model(seed=5, **arguments) -> torch.nn.Module:
    model = models.make(spec(**arguments))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    start = {name: torch.from_numpy(array) for name, array in initial_parameters(shapes, seed).items()}
    model.load_state_dict(start)
    return model


def features(model, size=SIZE, batch=1, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.encoder.out_dim, *size, generator=generator)


def upscaled(model, feat, height, width) -> torch.Tensor:
    bands = list(model.decode_image(FeatureMap(feat.shape[2:], [feat]), height, width))
    assert all(band.shape[1:] == (width, 3) for band in bands)
    return torch.cat(bands)


@torch.no_grad()
@pytest.mark.parametrize("precision, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_bias_and_relu_inside_the_product_are_those_outside(precision, tolerance, monkeypatch):
    perceptron = make_model(hidden=(48, 64, 40)).imnet.eval()
    x, calls = torch.randn(37, 48, generator=torch.Generator().manual_seed(1)), []
    assert mlp._has_fused(precision)
    monkeypatch.setattr(mlp, "_fused", lambda *given, fused=mlp._fused: calls.append(given) or fused(*given))
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        inside = perceptron.after_first(x.clone())
        monkeypatch.setattr(mlp, "_has_fused", lambda dtype: False)
        outside = perceptron.after_first(x.clone())
    assert [tuple(weight.shape) for _, weight, _ in calls] == [(64, 48), (40, 64)]
    assert inside.dtype == outside.dtype == precision and outside.abs().max() > 0.01
    torch.testing.assert_close(inside, outside, atol=tolerance * outside.abs().max().item(), rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 1.5, 2, 3.7, 6])
@pytest.mark.parametrize("ablation", DECODED)
def test_an_image_equals_the_equations(ablation, scale):
    model = make_model(**ABLATIONS[ablation])
    feat = features(model)
    height, width = round(SIZE[0] * scale), round(SIZE[1] * scale)
    found = upscaled(model, feat, height, width)
    assert found.shape == (height, width, 3)
    expected = equations.decode_image(model, feat, height, width, torch.float64)
    assert expected.std() > 0.01  # so that the tolerance means something
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("ablation", DECODED)
def test_thirty_times_on_a_tiny_map(ablation):
    model = make_model(**ABLATIONS[ablation])
    feat = features(model, size=(3, 5))
    found = upscaled(model, feat, 90, 150)
    expected = equations.decode_image(model, feat, 90, 150, torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_an_image_smaller_than_the_feature_map():
    model = make_model()
    feat = features(model)
    expected = equations.decode_image(model, feat, 5, 3, torch.float64)
    torch.testing.assert_close(upscaled(model, feat, 5, 3).double(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_bands_and_tiles_leave_no_seams(monkeypatch):
    model = make_model()
    feat = features(model)
    whole = upscaled(model, feat, 40, 31)
    monkeypatch.setitem(grids.TILE, "cpu", 4 * 13 * 2)
    monkeypatch.setattr(grids, "TILE_COLUMNS", 13)  # 31 columns are 13 + 13 + 5, 40 rows are bands of 2
    assert len(list(model.decode_image(FeatureMap(feat.shape[2:], [feat]), 40, 31))) == 20
    # The same sums on blocks of other sizes: the library may add them in another order.
    torch.testing.assert_close(upscaled(model, feat, 40, 31), whole, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_queries_equal_the_equations(ablation):
    model = make_model(**ABLATIONS[ablation])
    feat = features(model, batch=3)
    rng = np.random.default_rng(1)
    coord = rng.uniform(-1, 1, (3, 257, 2)).astype(np.float32)
    cell = rng.uniform(0.01, 0.3, (3, 2)).astype(np.float32)  # height and width differ, and so do the images
    found = model.query_rgb(feat, coord, cell)
    assert found.shape == (3, 257, 3)
    expected = equations.decode(model, feat, torch.from_numpy(coord), torch.from_numpy(cell), torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2, 3.7])
def test_images_and_queries_agree(scale):
    model = make_model()
    feat = features(model)
    height, width = round(SIZE[0] * scale), round(SIZE[1] * scale)
    queries = model.query_rgb(feat, coords.make_coord((height, width))[None], coords.make_cell((height, width))[None])
    image = upscaled(model, feat, height, width)
    torch.testing.assert_close(queries.view(height, width, 3), image, rtol=0, atol=TOLERANCE)


def test_through_the_real_encoder_on_a_41x67_image():
    """The model of the paper, at its full width, through the engine as test.py and demo.py use it."""
    engine = Engine(spec(n_feats=64, n_resblocks=16, hidden=[256] * 4), "cpu")
    shapes = {name: tuple(p.shape) for name, p in engine.networks["model"].module.named_parameters()}
    engine.networks["model"].module.load_state_dict(
        {n: torch.from_numpy(a) for n, a in initial_parameters(shapes, 5).items()}
    )
    inp = np.random.default_rng(2).uniform(-1, 1, (1, 3, 41, 67)).astype(np.float32)
    height, width = 62, 101
    image = np.concatenate(list(engine.predict_image(inp, height, width)))
    cell = coords.make_cell((height, width))[None]
    queries = engine.predict_queries(inp, coords.make_coord((height, width))[None], cell)
    with torch.no_grad():
        model = engine.networks["model"].module.double()
        feat = model.encoder(torch.from_numpy(inp).double())
        expected = equations.decode_image(model, feat, height, width, torch.float64).numpy()
    np.testing.assert_allclose(image, expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(queries.reshape(height, width, 3), expected, rtol=0, atol=TOLERANCE)


def gradients(model, loss) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


def in_float64(model, monkeypatch) -> torch.nn.Module:
    """The model in float64. Positions and weights are worked out in float32 by the core, as the oracle does too."""
    locate = coords.locate

    def locate_in_float64(*arguments):
        index, position, weight = locate(*arguments)
        return index, position.astype(np.float64), weight.astype(np.float64)

    monkeypatch.setattr(coords, "locate", locate_in_float64)
    return model.double()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("ablation", ABLATIONS)
def test_loss_and_gradients_equal_the_equations(ablation, dtype, tolerance, monkeypatch):
    """Float64 shows that the two are the same function; float32 that its rounding does no harm in training.

    In float32 a ReLU unit within 1e-8 of zero may switch between two correct computations, and one switch changes
    a gradient by about 1 / sqrt(number of activations), 1e-3: hence a small batch, and a seed without such a unit.
    """
    model = make_model(**ABLATIONS[ablation])
    model = in_float64(model, monkeypatch) if dtype == torch.float64 else model
    rng = np.random.default_rng(3)
    inp = torch.from_numpy(rng.uniform(-1, 1, (2, 3, *SIZE))).to(dtype)
    coord = rng.uniform(-1, 1, (2, 24, 2)).astype(np.float32)
    cell = rng.uniform(0.02, 0.2, (2, 2)).astype(np.float32)
    gt = torch.from_numpy(rng.uniform(-1, 1, (2, 24, 3))).to(dtype)
    loss = torch.nn.functional.l1_loss(model(inp, coord, cell), gt)
    slow = equations.decode(model, model.encoder(inp), torch.from_numpy(coord), torch.from_numpy(cell), dtype)
    expected_loss = torch.nn.functional.l1_loss(slow, gt)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=tolerance)
    found, expected = gradients(model, loss), gradients(model, expected_loss)
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() / gradient.norm() < tolerance, name


def test_the_papers_model_has_liifs_names():
    """How many parameters they are is in test_models.py."""
    model = models.make(MODELS["edsr-baseline-liif"].full)
    names = [f"encoder.head.0.{kind}" for kind in ("weight", "bias")]
    for block in range(16):
        names += [f"encoder.body.{block}.body.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")]
    names += [f"encoder.body.16.{kind}" for kind in ("weight", "bias")]
    names += [f"imnet.layers.{i}.{kind}" for i in (0, 2, 4, 6, 8) for kind in ("weight", "bias")]
    assert [name for name, _ in model.named_parameters()] == names


def test_a_residual_block_by_hand():
    model = models.make(
        {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "res_scale": 0.1, "no_upsampling": True}}
    )
    x = torch.randn(1, 3, 5, 9)
    head = model.head(x)
    first, _, second = model.body[0].body
    block = head + 0.1 * second(first(head).clamp(min=0))
    torch.testing.assert_close(model(x), head + model.body[1](block))

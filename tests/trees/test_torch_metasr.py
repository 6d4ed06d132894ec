"""The PyTorch MetaSR against its equations as printed (helpers/equations.py): images, queries, loss and gradients.

Tolerance: a colour is a sum of 9 C x 256 float32 products, which comes out at about 4 with these weights and carries a
rounding of a few 1e-6 (against float64, both for the plain formulation and for the fast one). 1e-5 is above that.
"""

import numpy as np
import pytest
import torch

from helpers import equations
from liif_core.geometry import corners, grids
from liif_core.training.initial import initial_parameters
from liif_torch.models import build as models
from liif_torch.models.decoders.features import FeatureMap

TOLERANCE = 1e-5
SIZE = (11, 7)  # odd and not square


def make_model(n_feats=24) -> torch.nn.Module:
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": n_feats, "no_upsampling": True}}
    model = models.make({"name": "metasr", "args": {"encoder_spec": encoder}})
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    model.load_state_dict({n: torch.from_numpy(a) for n, a in initial_parameters(shapes, 5).items()})
    return model


def features(model, size=SIZE, batch=1) -> torch.Tensor:
    return torch.randn(batch, model.encoder.out_dim, *size, generator=torch.Generator().manual_seed(0))


def upscaled(model, feat, height, width) -> torch.Tensor:
    return torch.cat(list(model.decode_image(FeatureMap(feat.shape[2:], [feat]), height, width)))


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 1.5, 2, 3.7, 6, 30])
def test_an_image_equals_the_equations(scale):
    model = make_model()
    feat = features(model)
    height, width = round(SIZE[0] * scale), round(SIZE[1] * scale)
    found = upscaled(model, feat, height, width)
    assert found.shape == (height, width, 3)
    expected = equations.decode_image(model, feat, height, width, torch.float64)
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("size", [(5, 3), (1, 1), (40, 7), (11, 90)])
def test_smaller_images_and_other_shapes(size):
    model = make_model()
    feat = features(model)
    expected = equations.decode_image(model, feat, *size, torch.float64)
    torch.testing.assert_close(upscaled(model, feat, *size).double(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_bands_and_columns_leave_no_seams(monkeypatch):
    model = make_model()
    feat = features(model)
    whole = upscaled(model, feat, 40, 31)
    monkeypatch.setitem(grids.TILE, "cpu", 14)  # weights of 2 feature rows at a time, 3 or 4 output columns
    torch.testing.assert_close(upscaled(model, feat, 40, 31), whole, rtol=0, atol=TOLERANCE)


@torch.no_grad()
def test_queries_equal_the_equations():
    model = make_model()
    feat = features(model, batch=3)
    rng = np.random.default_rng(1)
    coord = rng.uniform(-1, 1, (3, 257, 2)).astype(np.float32)
    cell = rng.uniform(0.01, 0.3, (3, 2)).astype(np.float32)  # height and width differ, and so do the images
    found = model.query_rgb(feat, coord, cell)
    expected = equations.decode_metasr(model, feat, torch.from_numpy(coord), torch.from_numpy(cell), torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE)


def gradients(model, loss) -> dict[str, torch.Tensor]:
    named = dict(model.named_parameters())
    return dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_loss_and_gradients_equal_the_equations(dtype, tolerance, monkeypatch):
    """Float64 shows that the two are the same function; float32 that its rounding does no harm in training."""
    model = make_model().to(dtype)
    locate = corners.locate_corner

    def locate_in_dtype(*arguments):
        index, position = locate(*arguments)
        return index, position.astype(np.float64 if dtype == torch.float64 else np.float32)

    monkeypatch.setattr(corners, "locate_corner", locate_in_dtype)
    rng = np.random.default_rng(3)
    inp = torch.from_numpy(rng.uniform(-1, 1, (2, 3, *SIZE))).to(dtype)
    coord = rng.uniform(-1, 1, (2, 24, 2)).astype(np.float32)
    cell = rng.uniform(0.02, 0.2, (2, 2)).astype(np.float32)
    gt = torch.from_numpy(rng.uniform(-1, 1, (2, 24, 3))).to(dtype)
    loss = torch.nn.functional.l1_loss(model(inp, coord, cell), gt)
    slow = equations.decode_metasr(model, model.encoder(inp), torch.from_numpy(coord), torch.from_numpy(cell), dtype)
    expected_loss = torch.nn.functional.l1_loss(slow, gt)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=tolerance)
    found, expected = gradients(model, loss), gradients(model, expected_loss)
    for name, gradient in expected.items():
        assert gradient.norm() > 0, name
        assert (found[name] - gradient).norm() / gradient.norm() < tolerance, name

"""The PyTorch decoders after LIIF against their equations as printed (helpers/equations.py): images, windows, queries,
loss and gradients.

Tolerance: as in test_torch_liif.py. The models of tests/helpers/models.py are narrow; odd sizes that are not square.
"""

import numpy as np
import pytest
import torch

from helpers import equations
from helpers.models import MODELS
from liif_core.errors import UserError
from liif_core.geometry import coords, grids
from liif_core.training.initial import initial_parameters
from liif_torch.models import build as models
from liif_torch.models.decoders.features import encode, features_of

TOLERANCE = 1e-5
SIZE = (11, 7)
NAMES = ["edsr-baseline-lte"]
ORACLES = {"lte": equations.decode_lte}


def make_model(name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    model = models.make(MODELS[name].spec)
    shapes = {key: tuple(parameter.shape) for key, parameter in model.named_parameters()}
    model.load_state_dict({key: torch.from_numpy(array) for key, array in initial_parameters(shapes, 5).items()})
    return model.to(dtype)


def image(batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def upscaled(model, inp, height, width, window=coords.WHOLE) -> torch.Tensor:
    return torch.cat(list(model.decode_image(encode(model, inp), height, width, window)))


@torch.no_grad()
@pytest.mark.parametrize("scale", [1, 2, 3.7, 6])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_equals_the_equations_in_tiles_too(name, scale, monkeypatch):
    monkeypatch.setitem(grids.TILE, "cpu", 4 * 13 * 2)
    monkeypatch.setattr(grids, "TILE_COLUMNS", 13)
    model = make_model(name)
    height, width = round(SIZE[0] * scale), round(SIZE[1] * scale)
    found = upscaled(model, image(), height, width)
    expected = equations.decode_image(model, features_of(model, image()), height, width, torch.float64)
    assert expected.std() > 0.1
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_a_window_equals_the_same_pixels_of_the_whole(name):
    """Rows 6 to 20 of 33, columns 5 to 18 of 21."""
    model = make_model(name)
    whole = upscaled(model, image(), 33, 21)
    window = ((2 * 6 / 33 - 1, 2 * 20 / 33 - 1), (2 * 5 / 21 - 1, 2 * 18 / 21 - 1))
    found = upscaled(model, image(), 14, 13, window)
    torch.testing.assert_close(found, whole[6:20, 5:18], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", NAMES)
def test_queries_loss_and_gradients_equal_the_equations(name, dtype, tolerance, monkeypatch):
    """Positions and weights are worked out in float32 by the core, as the oracle does too."""
    model = make_model(name, dtype)
    if dtype == torch.float64:
        for function in ("neighbours", "relative_cell", "bilinear"):
            monkeypatch.setattr(coords, function, in_float64(getattr(coords, function)))
    rng = np.random.default_rng(3)
    inp = image(2).to(dtype)
    coord = rng.uniform(-1, 1, (2, 24, 2)).astype(np.float32)
    cell = rng.uniform(0.02, 0.2, (2, 2)).astype(np.float32)
    gt = torch.from_numpy(rng.uniform(-1, 1, (2, 24, 3))).to(dtype)
    found = model(inp, coord, cell)
    oracle = ORACLES[MODELS[name].spec["name"]]
    expected = oracle(model, features_of(model, inp), torch.from_numpy(coord), torch.from_numpy(cell), dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=max(tolerance, 1e-6))
    losses = [torch.nn.functional.l1_loss(rgb, gt) for rgb in (found, expected)]
    parameters = dict(model.named_parameters())
    gradients = [torch.autograd.grad(loss, list(parameters.values())) for loss in losses]
    for name, first, second in zip(parameters, *gradients, strict=True):
        assert second.norm() > 0, name
        assert (first - second).norm() / second.norm() < tolerance, name


def in_float64(function):
    """The same values, those that are no indices as float64."""

    def wrapped(*arguments):
        found = function(*arguments)
        parts = found if isinstance(found, tuple) else (found,)
        parts = tuple(part.astype(np.float64) if part.dtype.kind == "f" else part for part in parts)
        return parts if isinstance(found, tuple) else parts[0]

    return wrapped


@torch.no_grad()
def test_bilinear_interpolation_is_grid_samples():
    inp = image(2)
    coord = np.random.default_rng(0).uniform(-1, 1, (2, 99, 2)).astype(np.float32)
    coord[0, :4] = [[-1, -1], [1, 1], [-1, 1], [0, 0]]
    index, weight = coords.bilinear(coord, SIZE)
    rows = inp.permute(0, 2, 3, 1).reshape(-1, 3)
    found = (rows[torch.from_numpy(index).long()] * torch.from_numpy(weight).unsqueeze(-1)).sum(dim=0)
    torch.testing.assert_close(found, equations.at_bilinear(inp, torch.from_numpy(coord)), rtol=0, atol=1e-6)


def test_what_lte_refuses():
    spec = MODELS["edsr-baseline-lte"].spec
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 8, "scale": 3}}
    for arguments, sentence in [({"hidden_dim": 25}, "even hidden_dim"), ({"encoder_spec": encoder}, "no_upsampling")]:
        with pytest.raises(UserError, match=sentence):
            models.make(spec | {"args": spec["args"] | arguments})

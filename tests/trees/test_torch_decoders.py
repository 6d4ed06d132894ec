"""The PyTorch decoders after LIIF against their equations as printed (helpers/equations.py): images, windows, queries,
loss and gradients.

Tolerance: as in test_torch_liif.py. The models of tests/helpers/models.py are narrow; odd sizes that are not square.
"""

import numpy as np
import pytest
import torch

from helpers import equations, made_images
from helpers.models import ADAM, MODELS
from liif_core.config.schema import DataNorm
from liif_core.engine import NetworkState
from liif_core.errors import UserError
from liif_core.geometry import coords, grids
from liif_core.images.normalisation import Normalisation
from liif_core.inference import api
from liif_core.inference.network import Network
from liif_core.training.initial import initial_parameters
from liif_torch.engine import Engine
from liif_torch.models import build as models
from liif_torch.models.decoders import sronet
from liif_torch.models.decoders.features import encode, features_of

TOLERANCE = 1e-5
SIZE = (11, 7)
NAMES = [
    "edsr-baseline-lte",
    "edsr-baseline-srno",
    "edsr-baseline-lmliif",
    "edsr-baseline-thera-air",
    "edsr-baseline-lmlte",
]


def make_model(name: str, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    model = models.make(MODELS[name].spec)
    shapes = {key: tuple(parameter.shape) for key, parameter in model.named_parameters()}
    initial = initial_parameters(shapes, 5, getattr(model, "starts", {}))
    model.load_state_dict({key: torch.from_numpy(array) for key, array in initial.items()})
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
    monkeypatch.setitem(sronet.QUERIES, "cpu", 4 * 13)
    monkeypatch.setitem(sronet.KEPT, "cpu", 1000)  # at x1 and x2, recomputed beyond
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


@pytest.mark.parametrize("name", NAMES)
def test_a_box_of_an_image_equals_the_same_pixels_of_the_whole(name):
    """Through the engine, which encodes no more than the box depends on: of SRNO all of the image."""
    engine = Engine(MODELS[name].spec, "cpu")
    engine.seed(3)
    assert engine.receptive_radius == (None if "srno" in name else 8)
    middle = {"inp": {"sub": [0], "div": [1]}, "gt": {"sub": [0.5], "div": [0.3]}}  # so that nothing is clamped
    network = Network(engine, Normalisation(DataNorm.model_validate(middle)))
    pixels = made_images.make_image(41, 67)
    found = network.part(pixels, (17, 30, 22, 51), 10, 42)
    torch.testing.assert_close(found, network(pixels, 82, 134)[34:44, 60:102], rtol=0, atol=2e-5)


def test_queries_of_srno_are_answered_together_however_many(monkeypatch):
    engine = Engine(MODELS["edsr-baseline-srno"].spec, "cpu")
    engine.seed(3)
    model = api.Model(Network(engine, Normalisation(DataNorm())))
    pixels, coord = made_images.make_image(*SIZE), coords.make_coord((9, 13)).reshape(9, 13, 2)
    whole = model.query(pixels, coord)
    monkeypatch.setattr(api, "QUERIES", 10)
    monkeypatch.setitem(sronet.QUERIES, "cpu", 10)
    np.testing.assert_allclose(model.query(pixels, coord), whole, rtol=0, atol=1e-6)
    assert np.abs(model.query(pixels, coord[:4]) - whole[:4]).max() > 1e-5


def test_more_pixels_than_srno_sums_over_are_refused_in_a_window_too():
    model = make_model("edsr-baseline-srno")
    window = ((0, 1e-3), (0, 1e-3))
    with pytest.raises(UserError, match="it has 20000x20000: accepted are at most"):
        upscaled(model, image(), 10, 10, window)


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
    oracle = equations.ORACLES[type(model).__name__]
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


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("lte", {"hidden_dim": 25}, "even hidden_dim"),
        ("lte", {"encoder_spec": {"name": "edsr-baseline", "args": {"scale": 3}}}, "feature per pixel.*no_upsampling"),
        ("srno", {"width": 30}, "multiple of blocks, twice it at least, got 30 and 4"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name, arguments, sentence):
    spec = MODELS[f"edsr-baseline-{name}"].spec
    with pytest.raises(UserError, match=sentence):
        models.make(spec | {"args": spec["args"] | arguments})


@torch.no_grad()
@pytest.mark.parametrize("mod_input", [True, False])
def test_lmliif_without_its_parts_equals_the_equations(mod_input):
    spec = MODELS["edsr-baseline-lmliif"].spec
    off = {"local_ensemble": False, "feat_unfold": False, "cell_decode": False, "mod_input": mod_input}
    model = models.make(spec | {"args": spec["args"] | off})
    feat = features_of(model, image())
    found = upscaled(model, image(), 24, 17)
    torch.testing.assert_close(found, equations.decode_image(model, feat, 24, 17), rtol=0, atol=TOLERANCE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "mod_input"),
    [("edsr-baseline-lmliif", True), ("edsr-baseline-lmliif", False), ("edsr-baseline-lmlte", True)],
)
def test_lmf_takes_a_cell_for_every_query(name, mod_input):
    spec = MODELS[name].spec
    model = models.make(spec | {"args": spec["args"] | {"mod_input": mod_input}})
    rng = np.random.default_rng(4)
    coord, cell = rng.uniform(-1, 1, (1, 9, 2)).astype(np.float32), rng.uniform(0.1, 2, (1, 9, 2)).astype(np.float32)
    together = model(image(), coord, cell)
    alone = torch.cat([model(image(), coord[:, [i]], cell[:, i]) for i in range(9)], dim=1)
    torch.testing.assert_close(together, alone, rtol=0, atol=TOLERANCE)
    assert (together - model(image(), coord, cell[:, 0])).abs().max() > 1e-3


def test_lmliif_modulates_an_lmmlp_and_nothing_else():
    spec = MODELS["edsr-baseline-lmliif"].spec
    with pytest.raises(UserError, match="expected lmmlp"):
        models.make(spec | {"args": spec["args"] | {"imnet_spec": spec["args"]["hypernet_spec"]}})


def test_the_jacobian_of_thera_is_the_fields_own_before_it_cools(monkeypatch):
    """By differences of 2e-3 feature pixels, at queries that stay in their feature pixel; a cell of 0 is no time."""
    model = make_model("edsr-baseline-thera-air", torch.float64)
    inp, step = image().double(), 1e-4
    monkeypatch.setattr(coords, "relative_cell", in_float64(coords.relative_cell))
    coord = coords.make_coord(SIZE)[None].astype(np.float64) + np.array([0.03, -0.04])
    real = coords.neighbours

    def exactly(coord, size, corners):
        index, _, weight = real(coord.astype(np.float32), size, corners)
        centres = coords.make_coord(size).astype(np.float64)[index]
        return index, (coord - centres) * np.array(size), weight.astype(np.float64)

    monkeypatch.setattr(coords, "neighbours", exactly)
    feat, cell = features_of(model, inp), np.zeros((1, 2), np.float32)
    _, found = model.query_field(feat, coord, cell)
    for axis in (0, 1):
        moved = np.eye(2)[axis] * step * 2 / np.array(SIZE)  # so many feature pixels
        ahead, behind = (model.query_rgb(feat, coord + sign * moved, cell) for sign in (1, -1))
        torch.testing.assert_close(found[:, :, axis], (ahead - behind) / (2 * step), rtol=1e-3, atol=1e-3)
    assert found.std() > 1


def test_thera_cools_by_the_height_of_a_pixel():
    """t = 1 / scale^2: at x1 waves are damped by exp(-|c|^2 k)."""
    model = make_model("edsr-baseline-thera-air")
    expected = np.exp(-(model.components.detach().numpy() ** 2).sum(axis=0) * model.k.item() / np.array([[1], [9.0]]))
    found = model.cooled(torch.tensor([2.0, 2 / 3])).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-30)
    assert abs(model.k.item() - 0.0596) < 1e-4 and 40 < model.components.norm(dim=0).max() < np.pi * 16


def test_the_total_variation_of_theras_field_joins_the_loss():
    """And of no other model: LIIF has no field."""
    losses = {}
    batch = {"inp": image(2).numpy()} | {
        "coord": np.random.default_rng(1).uniform(-1, 1, (2, 9, 2)).astype(np.float32),
        "cell": np.full((2, 2), 0.1, np.float32),
        "gt": np.zeros((2, 9, 3), np.float32),
    }
    model = make_model("edsr-baseline-thera-air")
    with torch.no_grad():
        _, jacobian = model.query_field(features_of(model, image(2)), batch["coord"], batch["cell"])
    state = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    for weight in (0, 0.01):
        method = {"name": "regression", "args": {"total_variation": weight}}
        engine = Engine(MODELS["edsr-baseline-thera-air"].spec, "cpu", method, ADAM)
        engine.load_state({"model": NetworkState(state)})
        engine.train_step(batch)
        losses[weight] = engine.read_losses()[0]["loss"]
    assert losses[0.01] - losses[0] == pytest.approx(0.01 * jacobian.abs().mean().item(), rel=1e-3)
    method = {"name": "regression", "args": {"total_variation": 1e-4}}
    with pytest.raises(UserError, match="expected the model thera, or total_variation 0"):
        Engine(MODELS["edsr-baseline-liif"].spec, "cpu", method, ADAM)

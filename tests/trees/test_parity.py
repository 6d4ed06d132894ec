"""The two frameworks against each other: the claim of this repository.

Jittor compiles every new shape for seconds, so the models are small and the shapes few. Tolerances:
both sum the same float32 products in another order; on outputs near 1 that is some 1e-7, and 1e-5 leaves
room for other processors.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT
from helpers.models import ADAM, MODELS, ONE_FACTOR, REGRESSION, SMALL, batch, crops, spec_with
from helpers.small_run import WITHOUT_JITTOR, losses_of
from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load
from liif_core.config.schema import DataNorm
from liif_core.data import sets
from liif_core.data.batching import Batches
from liif_core.evaluation import evaluate
from liif_core.images.normalisation import Normalisation
from liif_core.system import devices
from liif_core.system.places import PRETRAINED

if WITHOUT_JITTOR:
    pytest.skip("LIIF_WITHOUT_JITTOR is set", allow_module_level=True)
devices.prepare("jittor", "cpu")

import jittor as jt
import torch

from liif_core.checkpoints import formats
from liif_core.inference import network as networks
from liif_jittor.datasets import make_loader as jittor_loader
from liif_jittor.engine import Engine as JittorEngine
from liif_torch.datasets import make_loader as torch_loader
from liif_torch.engine import Engine as TorchEngine

pytestmark = pytest.mark.jittor

SGD = {"name": "sgd", "args": {"lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-3}}
HALF = DataNorm.model_validate({"inp": {"sub": [0.5], "div": [0.5]}, "gt": {"sub": [0.5], "div": [0.5]}})


def both(spec: dict, optimizer: dict = ADAM, seed: int = 5, method: dict = REGRESSION) -> list:
    engines = [engine(spec, "cpu", method, optimizer) for engine in (TorchEngine, JittorEngine)]
    for engine in engines:
        engine.seed(seed)
    return engines


def whole(engine, image: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.concatenate(list(engine.predict_image(image, height, width)))


def normalised_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory) -> Path:
    """The image that the project ships, alone in a folder."""
    folder = tmp_path_factory.mktemp("images")
    shutil.copy(ROOT / "examples" / "chelsea.png", folder)
    return folder


def training_set(folder: Path, name: str = "sr-implicit-downsampled", **arguments):
    spec = {
        "dataset": {"name": "image-folder", "args": {"root_path": str(folder), "repeat": 40, "cache": "in_memory"}},
        "wrapper": {
            "name": name,
            "args": {"inp_size": 24, "scale_max": 4, "augment": True, "sample_q": 256, **arguments},
        },
    }
    return sets.make(spec, seed=0, training=True)


def test_initial_parameters_are_the_same_bits_under_the_same_names():
    first, second = (engine.state()["model"].parameters for engine in both(SMALL))
    assert list(first) == list(second)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("scale", [2, 3.7, 6])
def test_a_whole_image(scale):
    height, width = round(41 * scale), round(67 * scale)
    first, second = (whole(engine, normalised_image(41, 67), height, width) for engine in both(SMALL))
    assert first.shape == second.shape == (height, width, 3)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


@pytest.mark.parametrize("flags", [{"local_ensemble": False}, {"feat_unfold": False}, {"cell_decode": False}], ids=str)
def test_every_ablation(flags):
    engines = both(spec_with(**flags))
    first, second = (whole(engine, normalised_image(11, 17), 41, 63) for engine in engines)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)
    queries = batch(1)
    first, second = (engine.predict_queries(queries["inp"], queries["coord"], queries["cell"]) for engine in engines)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)


# swinir-lte has the blocks of edsr-baseline-thera-pro and the decoder of edsr-baseline-lte.
OTHER_MODELS = [name for name in MODELS if MODELS[name].spec != SMALL and name != "swinir-lte"]


@pytest.mark.usefixtures("shallow_rdn")
@pytest.mark.parametrize("name", OTHER_MODELS)
def test_images_queries_and_gradients_of_the_other_models(name):
    """MetaSR's random weights give colours up to 4, whose float32 sums of 72 x 256 products carry some 1e-6."""
    engines = both(MODELS[name].spec, {"name": "sgd", "args": {"lr": 1.0}})
    scale = engines[0].scale or 3.7
    size = round(41 * scale), round(67 * scale)
    first, second = (whole(engine, normalised_image(41, 67), *size) for engine in engines)
    assert first.shape == (*size, 3) and first.std() > 1e-3
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)
    queries = batch(1)
    first, second = (engine.predict_queries(queries["inp"], queries["coord"], queries["cell"]) for engine in engines)
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)
    compare_gradients(engines)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("srcnn-x3", {"loss": "mse", "channels": "y", "border": 2}),
        ("srresnet-x4", {"loss": "charbonnier"}),
        ("msrresnet-x2", {"loss": "l1"}),
    ],
)
def test_images_gradients_and_statistics_of_models_of_one_factor(name, arguments):
    """A step at the rate 1 is the gradient; statistics of BatchNorm after ten steps at the rate 0 are those of ten
    batches."""
    method, scale = {"name": "regression", "args": arguments}, ONE_FACTOR[name].full["args"]["scale"]
    engines = both(ONE_FACTOR[name].spec, {"name": "sgd", "args": {"lr": 1.0}}, method=method)
    size, inp = (9 * scale, 11 * scale), crops(0, scale)["inp"][:1]
    first, second = (whole(engine, inp, *size) for engine in engines)
    assert first.shape == (*size, 3) and first.std() > 1e-2
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-5)
    for engine in engines:
        for step in range(10):
            engine.begin_step(step, lambda base: 0 * base)
            engine.train_step(crops(step, scale))
        engine.begin_step(10, lambda base: base)
    losses = [losses_of(engine) for engine in engines]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    buffers = [engine.state()["model"].buffers for engine in engines]
    assert buffers[0].keys() == buffers[1].keys() and bool(buffers[0]) == name.startswith("srresnet")
    for key in buffers[0]:
        np.testing.assert_allclose(buffers[0][key], buffers[1][key], rtol=0, atol=1e-6)
    # The derivative of Charbonnier's loss turns within 1e-3 of zero, which makes 1e-4 of a colour's last bit.
    compare_gradients(engines, crops(3, scale), 1e-4 if arguments["loss"] == "charbonnier" else 1e-5)


@pytest.mark.parametrize("optimizer", [ADAM, SGD], ids=["adam", "sgd"])
def test_loss_and_parameters_after_two_steps(optimizer):
    engines = both(SMALL, optimizer)
    before = engines[0].state()["model"].parameters
    losses = []
    for engine in engines:
        engine.train_step(batch(1))
        engine.train_step(batch(2))
        losses.append(losses_of(engine))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    states = [engine.state()["model"] for engine in engines]
    assert set(states[0].optimizer) == set(states[1].optimizer)
    for name in before:
        moved = [state.parameters[name] - before[name] for state in states]
        # SGD's steps are sums of gradients, which agree to 1e-6, on parameters near 0.1, which keep 1e-8. Adam
        # divides by the size of the gradient, so a rounding error near zero can turn a step of lr around: what it
        # does with a gradient is tested on its own below.
        relative, absolute = (1e-2, 0) if optimizer is ADAM else (1e-5, 2e-8)
        allowed = relative * np.linalg.norm(moved[0]) + absolute * np.sqrt(before[name].size)
        assert np.linalg.norm(moved[0] - moved[1]) <= allowed, name


def test_gradients():
    compare_gradients(both(SMALL, {"name": "sgd", "args": {"lr": 1.0}}))


def compare_gradients(engines: list, samples: dict | None = None, tolerance: float = 1e-5) -> None:
    before = engines[0].state()["model"].parameters
    for engine in engines:
        engine.train_step(samples or batch(3))  # with a rate of 1 and no momentum the step is the gradient
    after = [engine.state()["model"].parameters for engine in engines]
    for name in before:
        gradients = [before[name].astype(np.float64) - parameters[name] for parameters in after]
        error = np.linalg.norm(gradients[0] - gradients[1])
        # float32 parameters near 0.1 keep a difference of 1e-8, those that begin at 1 one of 1e-7; the gradients are
        # around 1e-3 and above.
        kept = 1e-7 * max(0.1, float(np.abs(before[name]).max()))
        assert error <= tolerance * np.linalg.norm(gradients[0]) + kept * np.sqrt(before[name].size), name


DEGRADED = load.load("train-bsds400/train_edsr-baseline-liif-photo.yaml", "train").train_dataset.wrapper
DEGRADATION = {"degradation": DEGRADED.args["degradation"]}


@pytest.mark.parametrize(
    ("wrapper", "arguments"), [("sr-implicit-downsampled", {}), (DEGRADED.name, DEGRADATION)], ids=["clean", "degraded"]
)
def test_loaders_give_the_same_bits_with_and_without_workers(image_folder, wrapper, arguments):
    dataset = training_set(image_folder, wrapper, **arguments)
    expected = list(Batches(dataset, 4, seed=7, epoch=3, start_batch=2))
    assert len(expected) == 8
    for make_loader in (torch_loader, jittor_loader):
        for workers in (0, 2):
            found = list(make_loader(Batches(dataset, 4, seed=7, epoch=3, start_batch=2), workers))
            assert len(found) == len(expected)
            for a, b in zip(expected, found, strict=True):
                assert a.keys() == b.keys()
                assert all(a[key].dtype == b[key].dtype and np.array_equal(a[key], b[key]) for key in a)


def test_two_hundred_steps_of_training(image_folder):
    dataset, normalisation = training_set(image_folder), Normalisation(HALF)
    engines = both(SMALL)
    for epoch in range(1, 21):
        for samples in Batches(dataset, 4, seed=0, epoch=epoch):
            for engine in engines:
                engine.train_step(normalisation.batch(samples))
    first, second = (np.array(losses_of(engine)) for engine in engines)
    assert len(first) == 200 and first[-20:].mean() < 0.5 * first[:20].mean()  # it learns
    np.testing.assert_allclose(first[:20], second[:20], rtol=1e-4)
    # Rounding grows with every step, so single losses drift apart; their mean must not.
    assert abs(first.mean() - second.mean()) <= 0.01 * first.mean()


@pytest.mark.parametrize("writer, reader", [(0, 1), (1, 0)], ids=["torch to jittor", "jittor to torch"])
def test_a_run_goes_on_in_the_other_framework(tmp_path, writer, reader):
    engines = both(SMALL)
    engines[writer].train_step(batch(1))
    saved = Checkpoint(SMALL, engines[writer].state(), optimizer=ADAM)
    native.save(tmp_path / "run.safetensors", saved)
    native.restore(engines[reader], formats.load(tmp_path / "run.safetensors").state, "run")
    states = [engine.state()["model"] for engine in engines]
    for part in ("parameters", "optimizer"):
        first, second = (getattr(state, part) for state in states)
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[name], second[name]) for name in first)
    losses = []
    for engine in engines:
        engine.read_losses()
        engine.train_step(batch(2))
        losses.append(losses_of(engine))
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_jittors_adam_counts_its_steps_like_pytorchs():
    """A gradient as small as eps shows where eps is added: at the first step the two differ by a factor of 16."""
    from liif_jittor import optim as jittor_optim
    from liif_torch import optim as torch_optim

    ours = jt.array(np.ones(3, np.float32))
    optimizer = jittor_optim.make(ADAM, params=[ours])
    theirs = torch.ones(3, requires_grad=True)
    reference = torch_optim.make(ADAM, params=[theirs])
    scale = np.array([1e-8, 1e-6, 1.0], np.float32)
    for _ in range(3):
        optimizer.step((ours * jt.array(scale)).sum())
        reference.zero_grad()
        (theirs * torch.from_numpy(scale)).sum().backward()
        reference.step()
    # steps of 1e-3 from 1.0: float32 keeps 6e-8 of them
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "adam", "args": {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.1}},
        {"name": "adamw", "args": {"lr": 1e-2, "betas": (0.8, 0.95), "weight_decay": 0.5}},
        {"name": "sgd", "args": {"lr": 1e-2, "momentum": 0.7, "weight_decay": 0.1, "nesterov": True}},
    ],
    ids=["adam", "adamw", "sgd"],
)
def test_optimizers_make_the_same_of_the_same_gradients(spec):
    from liif_jittor import optim as jittor_optim
    from liif_torch import optim as torch_optim

    start = np.random.default_rng(0).uniform(0.5, 1, 5).astype(np.float32)
    ours, theirs = jt.array(start), torch.tensor(start, requires_grad=True)
    optimizer, reference = jittor_optim.make(spec, params=[ours]), torch_optim.make(spec, params=[theirs])
    for step in range(6):
        slope = np.random.default_rng(step).uniform(-2, 2, 5).astype(np.float32)
        optimizer.step((ours * jt.array(slope)).sum())
        reference.zero_grad()
        (theirs * torch.from_numpy(slope)).sum().backward()
        reference.step()
    # Six float32 updates of numbers near 1. An error of 1 % in a beta or in the momentum moves them by 1e-4.
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=0, atol=2e-6)


@pytest.mark.skipif(not (ROOT / "load/benchmark/Set5").exists(), reason="needs load/benchmark/Set5")
@pytest.mark.skipif(not PRETRAINED.exists(), reason="needs the weights in pretrained/")
@pytest.mark.data
@pytest.mark.parametrize("scale", [3, *(pytest.param(scale, marks=pytest.mark.nightly) for scale in (2, 4, 6, 8))])
def test_psnr_of_set5(scale):
    # Here two images of five; all of them at the other scales, in `make nightly`.
    some = ["test_dataset.dataset.args.first_k=2"] if scale == 3 else []
    settings = load.load(f"test/test-set5-{scale}.yaml", "test", some)
    test_set = sets.make(settings.test_dataset.model_dump(), seed=0, training=False)
    found = formats.load(PRETRAINED)
    rows = []
    for engine_class in (TorchEngine, JittorEngine):
        engine = engine_class(found.model)
        native.restore(engine, found.state, PRETRAINED)
        network = networks.Network(engine, Normalisation(DataNorm.model_validate(found.data_norm)))
        rows.append(list(evaluate.test(network, test_set, settings)))
    for first, second in zip(*rows, strict=True):
        assert abs(first.values["psnr"] - second.values["psnr"]) < 1e-3, first.name
    bicubic = list(evaluate.test(networks.bicubic, test_set, settings))
    assert evaluate.mean(rows[0])["psnr"] > evaluate.mean(bicubic)["psnr"]

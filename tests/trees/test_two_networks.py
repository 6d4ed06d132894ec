"""The seam: a method of the tests' own with two networks, statistics of BatchNorm, named losses and random numbers.

What regression needs, this method needs twice: the same numbers in both trees, and the same bits after a kill.
"""

import importlib
import shutil
import sys

import numpy as np
import pytest

from helpers import made_images
from helpers.small_run import (
    FRAMEWORKS,
    GENERATOR,
    SRGAN,
    WITHOUT_JITTOR,
    gan_config,
    load_tree,
    model_spec,
    records,
    stopped_process,
    write_yaml,
)
from liif_core.checkpoints import formats, native, vgg
from liif_core.checkpoints.native import Checkpoint
from liif_core.data import sampling
from liif_core.engine import Update, is_buffer
from liif_core.errors import UserError
from liif_core.system import devices, provenance

METHOD = {"name": "test-two-networks", "args": {}}
ADAM = {"name": "adam", "args": {"lr": 1e-3}}
RULES = Update(accumulate=2, ema=0.75)
MODEL_SPEC = model_spec(8)
MODEL_SPEC["args"]["encoder_spec"] = {"name": "test-bn-encoder", "args": {"n_feats": 8}}


@pytest.fixture(autouse=True)
def own_names():
    """What the helpers register is gone after each test: others list what is registered."""
    yield
    for tree in FRAMEWORKS:
        if sys.modules.pop(f"helpers.two_networks_{tree}", None):
            for kind in ("models", "methods"):
                entries = getattr(importlib.import_module(f"liif_{tree}.{kind}.registry"), kind).entries
                for name in [name for name in entries if name.startswith("test-")]:
                    del entries[name]


def batch(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    uniform = {"inp": (3, 3, 9, 11), "gt": (3, 17, 3), "coord": (3, 17, 2), "cell": (3, 2)}
    return {key: rng.uniform(-0.9, 0.9, shape).astype(np.float32) for key, shape in uniform.items()}


def make(framework: str, update: Update = RULES, optimizer: dict | None = ADAM):
    devices.prepare(framework, "cpu")
    importlib.import_module(f"helpers.two_networks_{framework}")
    engine_class, _ = load_tree(framework)()
    engine = engine_class(MODEL_SPEC, "cpu", METHOD, optimizer, "fp32", update)
    engine.seed(3)
    return engine


def step(engine, seed: int) -> None:
    engine.begin_step(seed, lambda base: base)
    engine.train_step(batch(seed))


def variables(engine) -> dict[str, np.ndarray]:
    found = {}
    for name, network in engine.state().items():
        for kind in ("parameters", "buffers", "optimizer", "average"):
            found |= {f"{name} {kind} {key}": array for key, array in getattr(network, kind).items()}
    return found


def test_networks_have_parameters_and_statistics_apart(framework):
    state = make(framework).state()
    assert list(state) == ["model", "discriminator"]
    norm = {"encoder.norm.running_mean", "encoder.norm.running_var"}
    assert set(state["model"].buffers) == norm and not any(map(is_buffer, state["model"].parameters))
    assert set(state["model"].average) == set(state["model"].parameters) | norm
    assert not state["discriminator"].average and set(state["discriminator"].buffers) == {
        "norm.running_mean",
        "norm.running_var",
    }


def test_norms_and_prelu_start_at_constants_and_networks_of_one_shape_differ(framework):
    state = make(framework).state()
    parameters = state["model"].parameters
    assert (parameters["encoder.norm.weight"] == 1).all() and (parameters["encoder.norm.bias"] == 0).all()
    assert (parameters["encoder.act.weight"] == 0.25).all()
    assert np.abs(state["discriminator"].parameters["head.weight"]).max() > 0.1


@pytest.mark.skipif(WITHOUT_JITTOR, reason="compares both frameworks")
@pytest.mark.jittor
def test_both_frameworks_take_the_same_steps():
    engines = [make(name) for name in FRAMEWORKS]
    first, second = (variables(engine) for engine in engines)
    assert first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)
    for engine in engines:
        step(engine, 0)
    first, second = (variables(engine) for engine in engines)
    for key in (key for key in first if "buffers" in key):  # float32 sums over 198 pixels near 1
        np.testing.assert_allclose(first[key], second[key], rtol=1e-5, atol=1e-6, err_msg=key)
    for seed in (1, 2):
        for engine in engines:
            step(engine, seed)
    losses = [engine.read_losses() for engine in engines]
    assert [list(one) for one in losses[0]] == [["loss", "loss_discriminator"]] * 3
    for ours, theirs in zip(*losses, strict=True):
        # Rounding of float32 sums over 153 pixels and 51 colours, after up to two steps of Adam at 1e-3
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_statistics_are_the_batches_and_prediction_uses_their_average(framework):
    """By hand: BatchNorm (Ioffe and Szegedy, 2015) keeps (1 - 0.1) old + 0.1 new, the variance unbiased."""
    engine = make(framework, Update(ema=0.5))
    before = engine.state()["model"]
    kernel, bias = (before.parameters[f"encoder.head.{name}"] for name in ("weight", "bias"))
    step(engine, 1)
    padded = np.pad(batch(1)["inp"].astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # (3, 3, 9, 11, 3, 3)
    x = np.einsum("bchwij,ocij->obhw", windows, kernel) + bias[:, None, None, None]
    state = engine.state()["model"]
    mean, variance = 0.1 * x.mean(axis=(1, 2, 3)), 0.9 + 0.1 * x.var(axis=(1, 2, 3), ddof=1)
    np.testing.assert_allclose(state.buffers["encoder.norm.running_mean"], mean, atol=1e-6)  # float32 below 1
    np.testing.assert_allclose(state.buffers["encoder.norm.running_var"], variance, atol=1e-6)
    np.testing.assert_allclose(state.average["encoder.norm.running_mean"], mean / 2, atol=1e-6)
    predictor = make(framework, optimizer=None)
    native.restore(predictor, engine.state(), "run")
    asked = batch(2)
    found, expected = (one.predict_queries(asked["inp"], asked["coord"], asked["cell"]) for one in (predictor, engine))
    np.testing.assert_array_equal(found, expected)
    again = engine.predict_queries(asked["inp"][:1], asked["coord"][:1], asked["cell"][:1])
    np.testing.assert_allclose(again, expected[:1], atol=1e-6)  # in training mode it would depend on the other images
    step(engine, 2)  # gradients flow again after a prediction
    name = "encoder.head.weight"
    assert (engine.state()["model"].parameters[name] != state.parameters[name]).any()


@pytest.mark.jittor
@pytest.mark.skipif(WITHOUT_JITTOR, reason="compares both frameworks")
@pytest.mark.parametrize(("writer", "reader"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_checkpoint_holds_all_of_it(tmp_path, writer, reader):
    source, target, goes_on = make(FRAMEWORKS[writer]), make(FRAMEWORKS[reader]), make(FRAMEWORKS[writer])
    step(source, 1)
    native.save(tmp_path / "run.safetensors", Checkpoint(MODEL_SPEC, source.state(), optimizer=ADAM, method=METHOD))
    found = formats.load(tmp_path / "run.safetensors")
    assert found.method == METHOD
    assert native.restore(target, found.state, "run") == []
    first, second = variables(source), variables(target)
    assert first.keys() == second.keys() and all(np.array_equal(first[key], second[key]) for key in first)
    if writer == reader:
        native.restore(goes_on, found.state, "run")
        for engine in (source, goes_on):
            step(engine, 2)
        first, second = variables(source), variables(goes_on)
        assert all(np.array_equal(first[key], second[key]) for key in first)


def test_bare_weights_lack_the_other_network_and_say_so(tmp_path, framework):
    engine = make(framework)
    native.save(tmp_path / "bare.safetensors", Checkpoint(MODEL_SPEC, {"model": engine.state()["model"]}))
    assert native.restore(make(framework), formats.load(tmp_path / "bare.safetensors").state, "bare") == [
        "discriminator"
    ]


@pytest.mark.jittor
def test_what_a_prediction_draws_comes_from_the_core():
    images = []
    for name in FRAMEWORKS:
        engine = make(name, optimizer=None)
        inp = batch(4)["inp"][:1]
        for seed in (0, 0, 1):
            bands = engine.predict_image(inp, 13, 17, noise=sampling.noise(seed, 5))
            images.append(np.concatenate(list(bands)))
    for first, second, other in (images[k : k + 3] for k in range(0, len(images), 3)):
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - other).max() > 0.01
    np.testing.assert_allclose(images[0], images[-3], rtol=0, atol=1e-6)  # float32 near 1, in two frameworks


# SRGAN


def srgan(framework: str, optimizer: dict, **arguments):
    devices.prepare(framework, "cpu")
    engine_class, _ = load_tree(framework)()
    method = SRGAN | {"args": SRGAN["args"] | arguments}
    engine = engine_class(GENERATOR, "cpu", method, optimizer, "fp32", Update())
    engine.seed(1)
    return engine


@pytest.mark.jittor
@pytest.mark.skipif(WITHOUT_JITTOR, reason="compares both frameworks")
def test_srgan_has_the_same_losses_for_fifty_steps():
    """With SGD. With Adam at 1e-4 they are within 1.5e-3 only, but so are those of PyTorch and of PyTorch with weights
    that are one bit away (0.9e-3; 1.7e-3 with eps 1e-6): where a LeakyReLU is bent or an L1 loss
    turns, rounding decides, and it divides by the gradient's size."""
    found = []
    for framework in FRAMEWORKS:
        engine = srgan(framework, {"name": "sgd", "args": {"lr": 0.002}})
        for number in range(50):
            low = np.random.default_rng(number).uniform(0, 1, (4, 3, 8, 8)).astype(np.float32)
            engine.begin_step(number, lambda base: base)
            engine.train_step({"inp": low, "gt": low.repeat(4, axis=2).repeat(4, axis=3)})
            if number == 9:
                statistics = [network.buffers for network in engine.state().values()]
        found.append((engine.read_losses(), statistics))
    (first, buffers), (second, others) = found
    assert list(first[0]) == ["loss", "content", "adversarial", "discriminator", "real", "fake"]
    assert first[-1]["loss"] < 0.9 * first[0]["loss"] and first[-1]["discriminator"] < 0.96 * first[0]["discriminator"]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(list(one.values()), list(other.values()), rtol=1e-4)
    for one, other in zip(buffers, others, strict=True):
        assert one and all(np.abs(one[key] - other[key]).max() < 1e-6 for key in one)


def test_a_generator_learns_to_pass_and_its_judge_to_tell(framework):
    """Each network is updated by its own loss, with the other as it is: without the other's part nothing changes."""
    engine = srgan(framework, ADAM, adversarial_weight=0, content_weight=0)
    before = {name: network.parameters for name, network in engine.state().items()}
    low = np.random.default_rng(0).uniform(0, 1, (4, 3, 8, 8)).astype(np.float32)
    engine.train_step({"inp": low, "gt": low.repeat(4, axis=2).repeat(4, axis=3)})
    after = engine.state()
    still = {
        name: all(np.array_equal(old[key], after[name].parameters[key]) for key in old) for name, old in before.items()
    }
    assert still == {"model": True, "discriminator": False}


def test_what_srgan_cannot_be_trained_with_is_one_sentence(framework, tmp_path):
    low = np.zeros((2, 3, 9, 9), np.float32)
    with pytest.raises(UserError, match="judges crops of 32x32 pixels, got 36x36: set its size, or the wrapper's"):
        srgan(framework, ADAM).train_step({"inp": low, "gt": low.repeat(4, axis=2).repeat(4, axis=3)})
    with pytest.raises(UserError, match="'size' is 30: expected a multiple of 16 from 32 on"):
        srgan(framework, ADAM, discriminator={"name": "srgan-discriminator", "args": {"size": 30}})
    with pytest.raises(UserError, match="no vgg_weights are named: get https://.* or take content: pixel"):
        srgan(framework, ADAM, content="vgg")
    (tmp_path / "vgg19-0123abcd.pth").write_bytes(b"cut short")
    with pytest.raises(UserError, match="is damaged or cut short: its SHA-256 begins with .*, its name says 0123abcd"):
        srgan(framework, ADAM, content="vgg", vgg_weights=str(tmp_path / "vgg19-0123abcd.pth"))


def test_weights_of_another_network_than_vgg19_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "w.pth")
    path = tmp_path / f"vgg16-{provenance.sha256(tmp_path / 'w.pth')[:8]}.pth"
    (tmp_path / "w.pth").rename(path)
    expected = {"features.0.weight": np.zeros((64, 3, 3, 3)), "features.0.bias": np.zeros(64)}
    with pytest.raises(UserError, match="another network than VGG-19: expected features.0.bias of 64, got none"):
        vgg.read(path, expected)
    assert list(vgg.read(path, {"features.0.weight": expected["features.0.weight"]})) == ["features.0.weight"]


def random_vgg(folder):
    """A file as torchvision's, of VGG-19 or a narrower network, whose values neither vanish nor grow."""
    torch = pytest.importorskip("torch")
    from liif_torch.models.extractors.vgg import VGG19

    rng, weights = np.random.default_rng(1), {}
    for name, parameter in VGG19().named_parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 0
        size = rng.normal(0, np.sqrt(2 / fan_in), parameter.shape) if fan_in else rng.uniform(0, 0.1, parameter.shape)
        weights[name] = torch.from_numpy(size.astype(np.float32))
    weights["classifier.0.weight"] = torch.zeros(7, 5)  # as in the original, which has more than is needed
    torch.save(weights, folder / "w.pth")
    path = folder / f"vgg19-{provenance.sha256(folder / 'w.pth')[:8]}.pth"
    (folder / "w.pth").rename(path)
    return path


@pytest.mark.jittor
@pytest.mark.skipif(WITHOUT_JITTOR, reason="compares both frameworks")
@pytest.mark.parametrize("divisor", [16, pytest.param(1, marks=pytest.mark.nightly)])
def test_content_of_vgg_features_is_the_same_in_both(tmp_path, monkeypatch, divisor):
    """Float32 sums of up to 4,608 products, sixteen times in a row, round by some 1e-6 of what the features are, and
    losses do. Where a ReLU is bent, rounding decides, so that single gradients part by more."""
    for tree in FRAMEWORKS:
        devices.prepare(tree, "cpu")
        module = importlib.import_module(f"liif_{tree}.models.extractors.vgg")
        narrow = tuple(tuple(number // divisor for number in group) for group in module.GROUPS)
        monkeypatch.setattr(module, "GROUPS", narrow)
    path = str(random_vgg(tmp_path))
    features, losses, generators = [], [], []
    for framework in FRAMEWORKS:
        sgd = {"name": "sgd", "args": {"lr": 0.02}}
        engine = srgan(framework, sgd, content="vgg", vgg_weights=path, gt_sub=0.5, gt_div=0.5, content_weight=1)
        assert set(engine.state()) == {"model", "discriminator"}  # no weights of VGG-19 in a checkpoint
        before, method = engine.state()["model"].parameters, engine.method
        images = np.random.default_rng(2).uniform(0, 1, (2, 3, 32, 32)).astype(np.float32)
        features.append(np.array(method.extractor(method.backend.images(images)).detach().numpy()))
        for number in range(4):
            low = np.random.default_rng(number).uniform(-1, 1, (2, 3, 8, 8)).astype(np.float32)
            engine.begin_step(number, lambda base: base)
            engine.train_step({"inp": low, "gt": low.repeat(4, axis=2).repeat(4, axis=3)})
        losses.append([list(one.values()) for one in engine.read_losses()])
        after = engine.state()["model"].parameters
        generators.append(np.concatenate([(after[name] - before[name]).ravel() for name in before]))
    assert features[0].shape == (2, 512 // divisor, 2, 2) and features[0].std() > 0.1
    assert np.abs(features[0] - features[1]).max() < 1e-5 * np.abs(features[0]).max()
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert np.linalg.norm(generators[0] - generators[1]) < 1e-3 * np.linalg.norm(generators[0])
    assert np.abs(generators[0]).max() > 1e-5  # gradients of the features reach it
    bad = {"inp": low, "gt": 3 * low.repeat(4, axis=2).repeat(4, axis=3)}
    with pytest.raises(UserError, match="VGG-19 expects 0 to 1: give the sub and div"):
        engine.train_step(bad)


@pytest.mark.slow
def test_a_killed_srgan_ends_with_the_same_bits(framework, tmp_path):
    """And so does one that starts with the weights of a run beside it."""
    made_images.folder(tmp_path / "images" / "train", {"a.png": (37, 45), "b.png": (41, 33), "c.png": (52, 36)})
    config = gan_config(tmp_path / "images", epoch_max=2)
    path = write_yaml(tmp_path / "config.yaml", config)
    first = write_yaml(tmp_path / "first.yaml", config | {"method": {"name": "regression"}, "epoch_max": 1})
    done = stopped_process(
        framework, 99, "SIGKILL", "--config", first, "--name", "first", "--save-dir", tmp_path / "whole"
    )
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    arguments = ["--config", path, "--set", "start_from=first", "--name", "run", "--save-dir"]
    whole = stopped_process(framework, 99, "SIGKILL", *arguments, tmp_path / "whole")
    assert whole.returncode == 0 and "discriminator=" in whole.stdout, whole.stderr
    killed = stopped_process(framework, 5, "SIGKILL", *arguments, tmp_path / "killed")
    assert killed.returncode == -9, killed.stderr
    resumed = stopped_process(framework, 99, "SIGKILL", *arguments, tmp_path / "killed", "--resume")
    assert resumed.returncode == 0 and "resumed at epoch 1, step 4" in resumed.stdout, resumed.stderr
    runs = [tmp_path / name / "run" for name in ("whole", "killed")]
    one, other = (formats.load(run / "epoch-last.safetensors").state for run in runs)
    for name in ("model", "discriminator"):
        for kind in ("parameters", "buffers", "optimizer", "average"):
            ours, theirs = (getattr(state[name], kind) for state in (one, other))
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[key], theirs[key]) for key in ours), (name, kind)
    assert records(runs[0]) == records(runs[1]) and {"real", "fake", "content"} <= set(records(runs[0])[0])

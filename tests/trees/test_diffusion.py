"""Method `diffusion`: losses by hand, trajectories that both frameworks walk, and what is kept of a run."""

import math

import numpy as np
import pytest

from helpers import made_images
from helpers.models import ADAM, denoiser
from helpers.plain_unet import unet
from helpers.small_run import (
    FRAMEWORKS,
    WITHOUT_JITTOR,
    load_tree,
    losses_of,
    model_spec,
    records,
    stopped_process,
    train_config,
    write_yaml,
)
from liif_core.checkpoints import formats, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.config.schema import DataNorm, TrainConfig
from liif_core.data import sampling
from liif_core.diffusion import samplers, targets
from liif_core.diffusion.samplers import Sampler
from liif_core.diffusion.schedules import Schedule
from liif_core.engine import PLAIN, Update
from liif_core.errors import UserError
from liif_core.evaluation import evaluate
from liif_core.images import comparison, rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference.network import Network
from liif_core.system import devices
from liif_core.training import loop

SCHEDULE = {"name": "linear", "steps": 100, "start": 1e-4, "end": 0.1}
METHOD = {"name": "diffusion", "args": {"schedule": SCHEDULE, "sampler": {"name": "ddim", "steps": 3}}}
SGD = {"name": "sgd", "args": {"lr": 1.0}}
SIZE = 12, 20
HALF = DataNorm.model_validate({name: {"sub": [0.5], "div": [0.5]} for name in ("inp", "gt")})


def make(framework: str, spec: dict, optimizer=SGD, update: Update = PLAIN, **sampler):
    devices.prepare(framework, "cpu")
    engine_class, _ = load_tree(framework)()
    engine = engine_class(spec, "cpu", samplers.overridden(METHOD, **sampler), optimizer, "fp32", update)
    engine.seed(3)
    return engine


def batch(seed: int, kind: str = "sr3") -> dict[str, np.ndarray]:
    """Two samples as a loader gives them."""
    rng = np.random.default_rng(seed)
    samples = [
        {key: rng.uniform(-1, 1, (3, *SIZE)).astype(np.float32) for key in ("inp", "gt")}
        | targets.draw(rng, Schedule(**SCHEDULE), (3, *SIZE), kind)
        for _ in range(2)
    ]
    return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}


@pytest.mark.parametrize(("name", "kind"), [("sr3-unet", "sr3"), ("ddpm-unet", "ddpm")])
def test_the_loss_is_that_of_the_noise(framework, name, kind):
    """SR3, section 2.2: |noise - f(condition, sqrt(gamma) x_0 + sqrt(1 - gamma) noise, sqrt(gamma))|."""
    engine, samples = make(framework, denoiser(name)), batch(1, kind)
    parameters = engine.state()["model"].parameters
    level = samples["level"].astype(np.float64)[:, None, None, None]
    noisy = level * samples["gt"] + np.sqrt(1 - level**2) * samples["noise"]
    told = samples["step" if kind == "ddpm" else "level"]
    found = unet(parameters, np.concatenate([samples["inp"], noisy], axis=1), told, denoiser(name)["args"])
    engine.train_step(samples)
    assert losses_of(engine) == [pytest.approx(np.abs(found - samples["noise"]).mean(), rel=1e-6)]


@pytest.mark.jittor
@pytest.mark.skipif(WITHOUT_JITTOR, reason="compares both frameworks")
@pytest.mark.parametrize(("name", "kind"), [("sr3-unet", "sr3"), ("ddpm-unet", "ddpm")])
def test_gradients_are_the_same_in_both_frameworks(name, kind):
    engines = {framework: make(framework, denoiser(name)) for framework in FRAMEWORKS}
    for engine in engines.values():
        engine.train_step(batch(1, kind))
    first, second = (gradients(*item) for item in engines.items())
    assert first.keys() == second.keys() and len(first) > 100
    for key in first:
        assert np.linalg.norm(first[key] - second[key]) <= 1e-5 * np.linalg.norm(first[key]), key


def gradients(framework: str, engine) -> dict[str, np.ndarray]:
    """What the last step left behind, by parameter."""
    network = engine.networks["model"]
    if framework == "torch":
        return {key: parameter.grad.numpy() for key, parameter in network.module.named_parameters()}
    values = network.updater.optimizer.param_groups[0]["grads"]
    return {key: value.numpy() for key, value in zip(network.names, values, strict=True)}


def condition() -> np.ndarray:
    return np.random.default_rng(8).uniform(-1, 1, (1, 3, *SIZE)).astype(np.float32)


def walk(parameters: dict, args: dict, rows: list, generator: np.random.Generator, start: float) -> np.ndarray:
    """The samplers' loop in numpy, with the plain network."""
    (noise,) = generator.spawn(1)
    x = noise.standard_normal((1, 3, *SIZE), np.float32)
    if start < 1:
        x = rows[0].level * condition() + math.sqrt(1 - rows[0].level ** 2) * x
    last = x
    for row in rows:
        told = np.array([row.level], np.float32)
        found = unet(parameters, np.concatenate([condition(), x], axis=1), told, args)
        x0 = np.clip(row.of_x * x + row.of_noise * found, -1, 1)
        x, last = row.keep * x + row.new * x0 + row.old * last, x0
        if row.chance:
            x = x + row.chance * noise.standard_normal(x.shape, np.float32)
    return x[0].transpose(1, 2, 0)


@pytest.mark.parametrize(
    "sampler", [{"name": "ancestral", "steps": 4}, {"name": "dpmpp-2m", "steps": 4, "start": 0.4}], ids=str
)
def test_an_image_is_what_the_loop_makes_of_the_tables(framework, sampler):
    engine = make(framework, denoiser("sr3-unet"), optimizer=None, **sampler)
    rows = samplers.table(Schedule(**SCHEDULE), Sampler(**sampler))
    args, start = denoiser("sr3-unet")["args"], sampler.get("start", 1)
    expected = walk(engine.state()["model"].parameters, args, rows, sampling.noise(7, 2), start)
    (found,) = engine.predict_image(condition(), *SIZE, noise=sampling.noise(7, 2))
    assert found.shape == (*SIZE, 3) and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)  # float32, of which early steps keep 1e-6


@pytest.mark.jittor
@pytest.mark.skipif(WITHOUT_JITTOR, reason="compares both frameworks")
@pytest.mark.parametrize(
    "sampler",
    [{"name": "ddim", "steps": 20}, {"name": "dpmpp-2m", "steps": 20}, {"name": "ancestral", "steps": 10}],
    ids=lambda sampler: sampler["name"],
)
def test_both_frameworks_walk_the_same_trajectory(sampler):
    found = []
    for framework in FRAMEWORKS:
        engine, process = make(framework, denoiser("sr3-unet"), optimizer=None, **sampler), []
        engine.sample(1, *SIZE, sampling.noise(0, 1), condition(), process)
        found.append(np.array(process))
    shown = {20: 7, 10: 10}[sampler["steps"]]  # every (1 | steps // 10)-th, and the last
    assert found[0].shape == found[1].shape == (shown, 1, *SIZE, 3) and found[0][-1].std() > 0.1
    np.testing.assert_allclose(*found, rtol=0, atol=1e-4)


def test_an_image_is_the_same_however_many_are_drawn_at_once(framework):
    engine = make(framework, denoiser("ddpm-unet", scale=None), optimizer=None, name="ancestral")
    both, alone = engine.sample(2, *SIZE, sampling.noise(1, 0)), engine.sample(1, *SIZE, sampling.noise(1, 0))
    assert both.shape == (2, *SIZE, 3) and np.abs(both[0] - both[1]).max() > 0.1
    np.testing.assert_allclose(both[:1], alone, rtol=0, atol=1e-4)
    one_by_one = sampling.noise(1, 0)
    engine.sample(1, *SIZE, one_by_one)
    np.testing.assert_allclose(engine.sample(1, *SIZE, one_by_one)[0], both[1], rtol=0, atol=1e-4)


def test_a_resumed_run_has_the_same_bits_and_samples_its_average(framework, tmp_path):
    """With dropout, whose numbers are those of the step's seed."""
    spec, update = denoiser("sr3-unet", dropout=0.3), Update(accumulate=2, ema=0.75)

    def steps(engine, seeds) -> None:
        for seed in seeds:
            engine.begin_step(seed, lambda base: base)
            engine.train_step(batch(seed))

    whole, first, second = (make(framework, spec, ADAM, update) for _ in range(3))
    steps(whole, (1, 2, 3))
    steps(first, (1, 2))
    (before,) = first.predict_image(condition(), *SIZE, noise=sampling.noise(0, 0))
    native.save(tmp_path / "run.safetensors", Checkpoint(spec, first.state(), optimizer=ADAM, method=METHOD))
    found = formats.load(tmp_path / "run.safetensors")
    native.restore(second, found.state, "run")
    steps(second, (3,))
    one, other = (engine.state()["model"] for engine in (whole, second))
    for kind in ("parameters", "optimizer", "average"):
        ours, theirs = getattr(one, kind), getattr(other, kind)
        assert ours.keys() == theirs.keys() and ours
        assert all(np.array_equal(ours[key], theirs[key]) for key in ours), kind
    predictor = make(framework, spec, optimizer=None)
    native.restore(predictor, found.state, "run")
    (again,) = predictor.predict_image(condition(), *SIZE, noise=sampling.noise(0, 0))
    np.testing.assert_array_equal(again, before)


def test_what_diffusion_cannot_do_is_one_sentence(framework):
    conditional, free = (make(framework, denoiser("sr3-unet", scale=scale)) for scale in (4, None))
    with pytest.raises(UserError, match="upscales an image, and none was given"):
        conditional.sample(1, *SIZE, sampling.noise(0, 0))
    with pytest.raises(UserError, match="makes images of noise alone and upscales none"):
        next(iter(free.predict_image(condition(), *SIZE)))
    with pytest.raises(UserError, match="whole images, not colours at coordinates"):
        free.predict_queries(condition(), *(np.zeros((1, 1, 2), np.float32),) * 2)
    with pytest.raises(UserError, match="'steps' is 101: expected 1 to 100, which the schedule has"):
        make(framework, denoiser("sr3-unet"), steps=101)
    with pytest.raises(UserError, match="'sampler.steps' is 0: input should be greater than 0"):
        make(framework, denoiser("sr3-unet"), steps=0)
    with pytest.raises(UserError, match="the wrapper gives no 'step': take one that is for diffusion"):
        make(framework, denoiser("ddpm-unet")).train_step(batch(1))
    with pytest.raises(UserError, match="the condition is 6x20 pixels, the image 12x20: expected one size"):
        conditional.train_step(batch(1) | {"inp": batch(1)["inp"][:, :, :6]})


class Pairs:
    """A validation set of one pair."""

    def __len__(self):
        return 1

    def pair(self, index):
        return made_images.make_image(3, 5), made_images.make_image(12, 20)

    def name(self, index):
        return "a"


def test_validation_shows_how_an_image_came_about():
    """The last of the process is the prediction, which is what a test of the same image measures."""
    engine, normalisation = make("torch", denoiser("sr3-unet")), Normalisation(HALF)
    network = Network(engine, normalisation)
    process = network.process(Pairs().pair(0)[0], sampling.noise(0, 0))
    np.testing.assert_array_equal(process[-1], network(Pairs().pair(0)[0], *SIZE, sampling.noise(0, 0)))
    assert len(process) == 3 and np.abs(process[0] - process[-1]).max() > 0.1
    pages = dict(evaluate.comparisons(engine, Pairs(), 2, normalisation))
    assert list(pages) == ["0-a", "0-a-process"]
    row = (comparison.CAPTION + 12, 4 * (20 + comparison.GAP) - comparison.GAP, 3)
    assert pages["0-a-process"].shape == row
    np.testing.assert_array_equal(pages["0-a-process"][-12:, -20:], rgb8.to_uint8(process[-1]))
    np.testing.assert_array_equal(pages["0-a-process"][-12:, -20:], pages["0-a"][-12:, 28:48])
    free = make("torch", denoiser("sr3-unet", scale=None))
    sheet = evaluate.drawn(free, SIZE, 2, normalisation)
    assert sheet.shape == (comparison.CAPTION + 12, 48, 3) and (sheet[-12:, :20] != sheet[-12:, 28:]).any()


def test_images_that_are_not_brought_to_their_range_are_one_sentence(framework, image_folders):
    engine = make(framework, denoiser("sr3-unet"))
    config = train_config(image_folders, model=denoiser("sr3-unet"), method=METHOD)
    loop.require_fit(engine, (None, None), TrainConfig.model_validate(config))
    with pytest.raises(UserError, match="val_dataset: .* of noise alone: take val_dataset away"):
        free = make(framework, denoiser("sr3-unet", scale=None))
        loop.require_fit(free, (None, "any"), TrainConfig.model_validate(config))
    config["data_norm"]["gt"] = {"sub": [0.4], "div": [0.5]}
    with pytest.raises(UserError, match=r"images in \[-1, 1\]: expected the data_norm .* got .*0.4"):
        loop.require_fit(engine, (None, None), TrainConfig.model_validate(config))


def test_a_method_is_given_a_model_of_its_kind(framework):
    engine_class = type(make(framework, denoiser("sr3-unet")))
    with pytest.raises(UserError, match="'sr3-unet' gives noise, not images: take the method 'diffusion'"):
        engine_class(denoiser("sr3-unet"))
    with pytest.raises(UserError, match="'liif' gives images, not noise: method 'diffusion' takes sr3-unet or ddpm-un"):
        engine_class(model_spec(8), "cpu", METHOD)
    with pytest.raises(UserError, match="method 'regression' draws no samples, 'diffusion' does"):
        engine_class(model_spec(8)).sample(1, *SIZE, sampling.noise(0, 0))


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bits(framework, image_folders, tmp_path):
    """Images to checkpoint: the wrapper's noise, dropout, the average, validation by few steps."""
    made_images.folder(tmp_path / "images", {"a.png": (37, 45), "b.png": (41, 33), "c.png": (52, 36)})
    model = denoiser("sr3-unet", dropout=0.2, channel_mults=[1, 2], attn_res=[])
    config = train_config(image_folders, model=model, method=METHOD, ema=0.9, accumulate=2, epoch_max=2, val_images=1)
    wrapper = {"name": "sr-diffusion-downsampled", "args": {"scale": 4, "inp_size": 4}}
    for part in ("train_dataset", "val_dataset"):
        config[part]["dataset"]["args"]["root_path"] = str(tmp_path / "images")
        config[part]["wrapper"] = wrapper
    path = write_yaml(tmp_path / "config.yaml", config)
    arguments = ["--config", path, "--name", "run", "--save-dir"]
    whole = stopped_process(framework, 99, "SIGKILL", *arguments, tmp_path / "whole")
    assert whole.returncode == 0 and "psnr=" in whole.stdout, whole.stderr
    killed = stopped_process(framework, 5, "SIGKILL", *arguments, tmp_path / "killed")
    assert killed.returncode == -9, killed.stderr
    resumed = stopped_process(framework, 99, "SIGKILL", *arguments, tmp_path / "killed", "--resume")
    assert resumed.returncode == 0 and "resumed at epoch 1, step 4" in resumed.stdout, resumed.stderr
    runs = [tmp_path / name / "run" for name in ("whole", "killed")]
    assert records(runs[0]) == records(runs[1])
    one, other = (formats.load(run / "epoch-last.safetensors").state["model"] for run in runs)
    for kind in ("parameters", "optimizer", "average"):
        ours, theirs = getattr(one, kind), getattr(other, kind)
        assert ours and all(np.array_equal(ours[key], theirs[key]) for key in ours), kind

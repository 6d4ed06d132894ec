"""What commands draw with a model of diffusion: test.py, demo.py and sample.py with a sampler, and what they refuse."""

import json
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image

from helpers import made_images
from helpers.models import denoiser
from helpers.small_run import load_tree, outcome, run, write_yaml
from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_core.commands import demo, entry, sample, test
from liif_core.data import sampling
from liif_core.engine import MODEL, NetworkState
from liif_core.evaluation import sr3
from liif_core.experiments import trained
from liif_core.images import comparison, rgb8
from liif_core.inference import network
from liif_core.report import samplers

SCHEDULE = {"name": "linear", "steps": 30, "start": 1e-3, "end": 0.2}
METHOD = {"name": "diffusion", "args": {"schedule": SCHEDULE, "sampler": {"name": "ddim", "steps": 2}}}
HALF = {part: {"sub": [0.5], "div": [0.5]} for part in ("inp", "gt")}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A network that upscales x4 and one without a condition, small ones with initial weights."""
    engine_class, _ = load_tree("torch")()
    place = tmp_path_factory.mktemp("models")
    for name, spec in {"up": denoiser("sr3-unet"), "free": denoiser("ddpm-unet", scale=None)}.items():
        engine = engine_class(spec, "cpu", METHOD)
        engine.seed(1)
        state = {MODEL: NetworkState(engine.state()[MODEL].parameters)}
        native.save(place / f"{name}.safetensors", Checkpoint(spec, state, HALF, method=METHOD))
    return place


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Type one of the three commands in an empty folder; returns exit status, stdout and stderr."""
    commands = {"test": test.test, "demo": demo.demo, "sample": sample.sample}
    environ, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)

    def typed(name, *words, framework="torch"):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, words), "--gpu", "cpu"])
        return outcome(lambda: entry.run(commands[name], framework, load_tree(framework)), capsys)

    yield typed
    os.environ.clear()
    os.environ.update(environ)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def config(tmp_path):
    made_images.folder(tmp_path / "hr", {"a.png": (12, 20), "b.png": (16, 12)})
    dataset = {"name": "image-folder", "args": {"root_path": str(tmp_path / "hr")}}
    wrapper = {"name": "sr-diffusion-downsampled", "args": {"scale": 4}}
    return write_yaml(
        tmp_path / "test-set.yaml",
        {
            "test_dataset": {"dataset": dataset, "wrapper": wrapper, "batch_size": 1},
            "metrics": ["psnr-8bit", "consistency"],
        },
    )


def test_a_test_draws_with_the_sampler_and_the_seed_that_are_named(models, call, config, tmp_path):
    def tested(*words):
        status, out, err = call("test", "--config", config, "--model", models / "up.safetensors", "--json", "j", *words)
        assert status == 0, err
        return json.loads((tmp_path / "j" / "test-set.json").read_text())

    plain, other = tested(), tested("--seed", 1)
    assert plain["consistency"] != other["consistency"] and other["seed"] == 1
    given = {"steps": 3, "eta": 0.5, "start": 0.6}
    words = [word for name, value in given.items() for word in (f"--{name}", value)]
    one = tested("--sampler", "ddim", *words, "--images", "im", "--sr3-names")
    assert one["sampler"] == {"name": "ddim"} | given
    loaded = network.load(models / "up.safetensors", "torch", "cpu", sampler=one["sampler"])
    high = rgb8.read_image(tmp_path / "hr" / "a.png")
    low = rgb8.resize(high, 3, 5)
    expected = loaded(low, 12, 20, sampling.noise(0, 0))
    assert one["rows"][0]["consistency"] == sr3.consistency(expected, rgb8.to_float(low))
    kept = {"hr": high, "lr": low, "inf": rgb8.resize(low, 12, 20), "sr": rgb8.to_uint8(expected)}
    for kind, image in kept.items():
        np.testing.assert_array_equal(rgb8.read_image(tmp_path / "im" / "test-set" / f"0_1_{kind}.png"), image)
    assert len(list((tmp_path / "im" / "test-set").iterdir())) == 8


def test_a_demo_shows_several_samples_of_one_image(models, call, tmp_path):
    low = made_images.write(tmp_path / "a.png", 3, 5)
    words = ["a.png", "--scale", 4, "--model", models / "up.safetensors", "-o", "out.png", "--seed", 2]
    status, _, err = call("demo", *words, "--samples", 3)
    assert status == 0, err
    sheet, result = (rgb8.read_image(tmp_path / name) for name in ("out_samples.png", "out.png"))
    images = [sheet[comparison.CAPTION :, k * (20 + comparison.GAP) :][:, :20] for k in range(4)]
    np.testing.assert_array_equal(images[0], rgb8.resize(low, 12, 20))
    np.testing.assert_array_equal(images[1], result)
    assert (images[2] != images[1]).any() and (images[3] != images[2]).any()


def test_samples_stay_where_existing_files_are_skipped_and_are_of_one_image(models, call, tmp_path):
    made_images.write(tmp_path / "a.png", 3, 5)
    words = ["--scale", 4, "--model", models / "up.safetensors", "--samples", 2]
    (tmp_path / "a_liif_samples.png").write_text("mine")
    status, _, err = call("demo", "a.png", *words, "--skip-existing")
    assert status == 0, err
    assert (tmp_path / "a_liif.png").exists() and (tmp_path / "a_liif_samples.png").read_text() == "mine"
    frames = [Image.fromarray(made_images.make_image(3, 5, seed)) for seed in range(3)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:], duration=40)
    status, _, err = call("demo", "b.gif", *words)
    assert status == 2 and "b.gif: --samples draws one image several times, and this has 3 of them" in err
    assert not (tmp_path / "b_liif.gif").exists()
    (tmp_path / "c_liif_samples.png").mkdir()
    made_images.write(tmp_path / "c.png", 3, 5)
    status, _, err = call("demo", "c.png", *words)
    assert status == 2 and "c_liif_samples.png" in err and not (tmp_path / "c_liif.png").exists()


def test_the_batch_runner_tests_a_network_at_its_factor_and_none_without_a_condition(models, tmp_path, config):
    """A test without a protocol is at the factor of its wrapper."""
    tests = [str(config), "test/test-set5-4.yaml", "test/test-set5-2.yaml", "test/test-emoji-16-128.yaml"]
    up, free = (trained.single(str(models / f"{name}.safetensors"), tmp_path) for name in ("up", "free"))
    assert up.at_its_scale(tests) == tests[:2] and free.at_its_scale(tests) == []
    assert trained.bicubic(tmp_path).at_its_scale(tests) == tests


def test_samples_are_the_same_in_both_frameworks_and_however_many(models, call, tmp_path, framework):
    words = ["--model", models / "free.safetensors", "--size", "16,24", "--seed", 3, "--images", "all"]
    status, out, err = call("sample", *words, "--count", 3, "-o", "sheet.png", framework=framework)
    assert status == 0, err
    assert "3 images of 16x24 -> sheet.png" in out
    sheet = rgb8.read_image(tmp_path / "sheet.png")
    assert sheet.shape == (32, 48, 3) and (sheet[16:, 24:] == 255).all()
    loaded = network.load(models / "free.safetensors", "torch", "cpu")
    expected = loaded.normalisation.rgb(loaded.engine.sample(3, 16, 24, sampling.noise(3, 0)))
    for number, place in enumerate([sheet[:16, :24], sheet[:16, 24:], sheet[16:, :24]]):
        found = rgb8.read_image(tmp_path / "all" / f"{number:05d}.png")
        np.testing.assert_array_equal(found, place)
        assert np.abs(found.astype(int) - rgb8.to_uint8(expected[number])).max() <= (framework != "torch")
    assert not (tmp_path / "all" / "00003.png").exists()
    again = ["sample", *words[:6], "--count", 1]
    for there in (["-o", "sheet.png"], ["-o", "other.png", "--images", "all"]):
        status, _, err = call(*again, *there, framework=framework)
        assert status == 2 and "exists already: --overwrite replaces it" in err
    status, _, err = call(*again[:-1], 1200, "-o", "wide.webp", "--size", 512, framework=framework)
    assert status == 2 and ".webp holds at most 16,383 pixels" in err


@pytest.mark.parametrize(
    ("name", "model", "words", "message"),
    [
        ("sample", "free", ["--steps", 0], "--steps: expected 1 or more, got 0"),
        ("sample", "free", ["--steps", 31], "sampler: 'steps' is 31: expected 1 to 30, which the schedule has"),
        ("sample", "free", ["--eta", 2], "--eta: expected 0 to 1, got 2"),
        ("sample", "free", ["--start", 0], "--start: expected more than 0, at most 1, got 0"),
        ("sample", "free", ["--start", 0.5], "'start' is 0.5: expected 1, since this model has no condition"),
        ("sample", "free", ["--sampler", "ancestral", "--eta", 1], "--eta is of ddim, not of ancestral"),
        ("sample", "free", ["--seed", -1], "--seed: expected 0 or more, got -1"),
        ("sample", "free", ["--count", 0], "--count: expected 1 or more images, got 0"),
        ("sample", "free", ["--size", "16x9"], "--size: expected a side, or height and width, in pixels"),
        ("sample", "up", [], "this model upscales an image, and none was given"),
        ("sample", None, [], "method 'regression' draws no samples"),
        ("test", None, ["--steps", 3], "its method 'regression' draws nothing, so it has no sampler (steps 3)"),
        ("test", "bicubic", ["--start", 0.5], "--sampler, --steps, --eta and --start: expected a network, got bicubic"),
        ("test", "up", ["--sr3-names"], "--sr3-names says how images are kept: give --images FOLDER too"),
        ("test", "free", [], "this model makes images of noise alone and upscales none"),
        ("demo", "free", ["--scale", 1], "this model makes images of noise alone and upscales none"),
        ("demo", None, ["--scale", 2, "--samples", 2], "draws nothing, its samples would be equal"),
        ("demo", "up", ["--scale", 2, "--samples", 0], "--samples: expected 1 or more, and 1 with --zoom, got 0"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(models, call, config, tmp_path, name, model, words, message):
    own = {None: [], "bicubic": ["--model", "bicubic"]}.get(model, ["--model", models / f"{model}.safetensors"])
    own = own or (["--model", "pretrained/edsr-baseline-liif_bsds400-further.safetensors"] if name == "sample" else [])
    made_images.write(tmp_path / "a.png", 3, 5)
    first = {
        "test": ["--config", config, "--set", "test_dataset.wrapper.args.scale=1"],
        "demo": ["a.png"],
        "sample": [],
    }
    status, _, err = call(name, *first[name], *own, *words)
    assert status == 2 and message in err and len(err.splitlines()) == 1


@pytest.mark.slow
def test_samplers_are_measured_once_and_the_longest_on_fewer_images(models, config, tmp_path):
    command = [sys.executable, "benchmarks/samplers.py", "--model", models / "up.safetensors", "--config", config]
    command += ["--output", tmp_path, "--few", "1", "--only", "bicubic", "ancestral"]
    first = run(list(map(str, command)))
    assert first.returncode == 0, first.stderr
    bicubic, drawn = samplers.read(tmp_path)["methods"]
    assert (bicubic["asked"], list(bicubic["images"])) == (None, ["a", "b"])
    assert (drawn["name"], drawn["asked"], list(drawn["images"])) == ("ancestral 30", 30, ["a"])
    low, high = rgb8.resize(rgb8.read_image(tmp_path / "hr/a.png"), 3, 5), rgb8.read_image(tmp_path / "hr/a.png")
    expected = sr3.psnr_8bit(rgb8.to_float(rgb8.resize(low, 12, 20)), rgb8.to_float(high))
    assert bicubic["images"]["a"]["psnr-8bit"] == pytest.approx(expected, abs=1e-3)
    again = run(list(map(str, command)))
    assert "a: " in first.stderr and "a: " not in again.stderr and again.stdout == first.stdout
    one = run(list(map(str, [*command[:-2], "ddim 20"])))
    assert one.returncode == 0 and "a: " in one.stderr
    assert [one["name"] for one in samplers.read(tmp_path)["methods"]] == ["bicubic", "ddim 20", "ancestral 30"]
    other = run(list(map(str, [*command, "--set", "test_dataset.dataset.args.first_k=1"])))
    assert other.returncode == 2 and "give another --output" in other.stderr
    (tmp_path / samplers.FILE).unlink()
    command[3] = models / "free.safetensors"
    refused = run(list(map(str, command)))
    assert refused.returncode == 2 and "expected a network of diffusion that upscales" in refused.stderr

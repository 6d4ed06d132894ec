"""A Jittor run of 60 steps with evaluations of ever other sizes, by benchmarks/long_run.py: nothing is compiled or kept
after its warm-up, which is the first 20 steps and the first evaluation."""

import itertools
import json
import sys

import pytest

from helpers.small_run import WITHOUT_JITTOR, run

pytestmark = [
    pytest.mark.skipif(WITHOUT_JITTOR, reason="asked to do without Jittor"),
    pytest.mark.jittor,
    pytest.mark.nightly,
]

STEPS, EVERY = 60, 20
MODEL = {
    "model.args.encoder_spec.args.n_resblocks": 1,
    "model.args.encoder_spec.args.n_feats": 8,
    "model.args.imnet_spec.args.hidden_list": [16],
}
# 15 images, 4 a batch: the last batch of an epoch has 3.
SIZES = ["--batch", "4", "--side", "16", "--queries", "256", "--images", "15"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[dict]:
    """What the run saw of itself after the warm-up, the last of that first."""
    folder = tmp_path_factory.mktemp("long_run")
    command = [sys.executable, "benchmarks/long_run.py", str(folder), "--frameworks", "jittor", "--known-operators"]
    command += ["--steps", str(STEPS), "--evaluate", str(EVERY), *SIZES]
    # oneDNN keeps the last 1024 programs for convolutions of some size, 0.4 MiB for every new image; here none, so
    # that what is measured is ours.
    changes = [f"{key}={value}" for key, value in MODEL.items()]
    result = run([*command, "--set", *changes], ONEDNN_PRIMITIVE_CACHE_CAPACITY="0")
    assert result.returncode == 0, result.stderr
    found = json.loads((folder / "long_run.json").read_text())["samples"]["jittor"]
    assert [sample["step"] for sample in found if sample["what"] == "evaluation"] == list(
        range(EVERY, STEPS + 1, EVERY)
    )
    return found[2:]


def test_training_compiles_nothing_after_its_warm_up(samples):
    for before, after in itertools.pairwise(samples):
        if after["what"] == "steps":
            assert after["operators"] == before["operators"], f"up to step {after['step']}"


def test_images_of_other_sizes_compile_nothing(samples):
    assert len({sample["operators"] for sample in samples}) == 1


def test_no_variable_is_left_behind(samples):
    """Parameters and moments, and nothing of any step or image."""
    assert len({sample["variables"] for sample in samples}) == 1


def test_memory_stays(samples):
    """2 MiB were measured, which malloc keeps since some image was larger than all before. The 16 images would be 6
    more if they were kept."""
    assert samples[-1]["anonymous"] - samples[0]["anonymous"] < 5

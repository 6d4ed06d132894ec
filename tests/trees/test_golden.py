"""The losses of 20 training steps against those in tests/golden/, which only a change of the numbers may change.

    python tests/trees/test_golden.py            # how many of the losses are the same bits here
    python tests/trees/test_golden.py --write    # after a change that should change them

The bits are those of one machine: another processor, or another number of threads, adds up in another order.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

if __name__ == "__main__":
    sys.path[0:1] = [str(Path(__file__).resolve().parents[k]) for k in (1, 2)]

from helpers import ROOT
from helpers.small_run import FRAMEWORKS, model_spec
from liif_core.config.schema import DataNorm
from liif_core.data import sets
from liif_core.data.batching import Batches
from liif_core.data.sampling import step_seed
from liif_core.images.normalisation import Normalisation
from liif_core.system import devices

STEPS = 20
HALF = {"sub": [0.5], "div": [0.5]}
# Relative. Another order of sums: one thread and two (OMP_NUM_THREADS) part by up to 2.3e-7 here, the two frameworks by
# 5.8e-7. Twenty times that, for processors that were not tried.
TOLERANCE = 1e-5


def losses(framework: str) -> list[float]:
    """Of a small LIIF on the two images of examples/, batches of 3 crops."""
    split = {"split_file": str(ROOT / "tests" / "golden" / "split.json"), "split_key": "train"}
    dataset = {"name": "image-folder", "args": {"root_path": str(ROOT / "examples"), "repeat": 30} | split}
    crops = {"inp_size": 11, "scale_max": 2.5, "sample_q": 77, "augment": True}
    wrapper = {"name": "sr-implicit-downsampled", "args": crops}
    samples = sets.make({"dataset": dataset, "wrapper": wrapper}, seed=5, training=True)
    devices.prepare(framework, "cpu")
    engine_class = importlib.import_module(f"liif_{framework}.engine").Engine
    make_loader = importlib.import_module(f"liif_{framework}.datasets").make_loader
    engine = engine_class(model_spec(8), "cpu", {"name": "regression"}, {"name": "adam", "args": {"lr": 1e-3}})
    engine.seed(5)
    normalisation = Normalisation(DataNorm.model_validate({"inp": HALF, "gt": HALF}))
    batches = Batches(samples, 3, seed=5, epoch=1)
    for step, batch in zip(range(STEPS), make_loader(batches), strict=False):
        engine.begin_step(step_seed(5, step), lambda base: base)
        engine.train_step(normalisation.batch(batch))
    return [losses["loss"] for losses in engine.read_losses()]


def kept(framework: str) -> Path:
    return ROOT / "tests" / "golden" / f"regression_{framework}.json"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_losses_of_twenty_steps_are_those_of_before(framework):
    found, expected = losses(framework), json.loads(kept(framework).read_text())
    assert len(found) == len(expected) == STEPS
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE)


if __name__ == "__main__":
    for name in FRAMEWORKS:
        now = losses(name)
        if sys.argv[1:] == ["--write"]:
            kept(name).write_text(json.dumps(now, indent=1) + "\n")
        same = sum(a == b for a, b in zip(now, json.loads(kept(name).read_text()), strict=True))
        print(f"{name}: {same} of {STEPS} losses are the same bits")

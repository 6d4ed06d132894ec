"""A few of the ends that kill_runs.py gives to trainings, and whether its comparison bites."""

import random
import shutil
import sys
from types import SimpleNamespace

import pytest

from helpers import ROOT, run_process
from helpers.small_run import run
from robustness import kill_runs, kill_scenes

pytestmark = pytest.mark.slow

KILLS = {"torch": 3, "jittor": 1}


def any_seed() -> int:
    """Other moments each time: all of them have to do."""
    return random.SystemRandom().randrange(1000)


@pytest.mark.nightly
def test_a_killed_training_ends_with_the_same_bytes(framework, trained, tmp_path):
    seed = any_seed()
    trial = kill_runs.make_trial(framework, tmp_path, seed, large=False, undisturbed=trained)
    kill_runs.kills(trial, KILLS[framework])
    kinds = [row["scene"] for row in trial.rows]
    assert kinds.count("kill") == KILLS[framework] and "compared" in kinds[-1]
    assert not [fault for row in trial.rows for fault in row["faults"]], f"seed {seed}: {trial.rows}"


@pytest.mark.nightly
def test_a_gan_that_is_killed_five_times_ends_with_the_same_bytes(framework, tmp_path):
    seed = any_seed()
    trial = kill_runs.make_trial(framework, tmp_path, seed, large=False, gan=True)
    kill_runs.kills(trial, 5)
    assert [row["scene"] for row in trial.rows].count("kill") == 5
    assert not [fault for row in trial.rows for fault in row["faults"]], f"seed {seed}: {trial.rows}"


def test_the_loop_survives_all_that_can_happen(tmp_path):
    """Kills, damaged checkpoints, full disks, signals, second processes and ends at some changes of files."""
    command = [sys.executable, "tests/robustness/kill_runs.py", "--framework", "numpy", "--folder", str(tmp_path)]
    seed = any_seed()
    result = run([*command, "--kills", "2", "--every", "23", "--seed", str(seed)])
    assert result.returncode == 0, f"seed {seed}: {result.stdout}{result.stderr}"
    for scene in ("kill ", "damaged: zeros", "disk: no file may grow", "SIGHUP to it", "second process", "run ends"):
        assert scene in result.stdout


# A training that forgets something when it goes on, and what of the last checkpoint differs then.
FORGETS_MOMENTUM = """
def load_state(self, state):
    self.weights = state["model"].parameters["weights"]

numpy_engine.Engine.load_state = load_state
"""
FORGETS_PLACE = """
from liif_core.training import loop

batches = loop.Batches
loop.Batches = lambda *given: batches(*given[:4], 0, *given[5:])
"""
PROGRAM = """
import sys
from pathlib import Path
sys.path[0:1] = [{tests!r}, {root!r}]
from helpers import numpy_engine
from robustness import kill_runs, kill_scenes
{forgets}
trial = kill_runs.make_trial("numpy", Path({folder!r}), 0, large=False)
print(kill_scenes.ends_well(trial, trial.late("killed")))
"""


@pytest.mark.parametrize(
    ("forgets", "found"), [(FORGETS_MOMENTUM, "parameters weights"), (FORGETS_PLACE, "progress: ")]
)
def test_a_training_that_forgets_something_is_found_out(forgets, found, tmp_path):
    words = {"tests": str(ROOT / "tests"), "root": str(ROOT), "folder": str(tmp_path), "forgets": forgets}
    result = run([sys.executable, "-c", PROGRAM.format(**words)])
    assert result.returncode == 0, result.stderr
    assert found in result.stdout.splitlines()[-1]


def test_differences_are_found(framework, trained, tmp_path):
    expected = run_process.Run(framework, tmp_path, trained.parent, trained.name)
    assert run_process.differences(expected.copy(tmp_path, "same"), expected) == []
    other = expected.copy(tmp_path, "other")
    data = (other.folder / "epoch-2.safetensors").read_bytes()
    (other.folder / "epoch-2.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    (other.folder / "epoch-best.safetensors").unlink()
    (other.folder / ".writing-abc.safetensors").touch()
    lines = (other.folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other.folder / "metrics.jsonl").write_text("".join(lines[:4] + lines[5:]))
    found = run_process.differences(other, expected)
    assert [complaint.split()[0] for complaint in found] == [
        ".writing-abc.safetensors",
        "epoch-2.safetensors",
        "epoch-best.safetensors",
        "metrics.jsonl:",
    ]
    assert "the first 4 are equal" in found[-1]
    shutil.copy(other.folder / "epoch-2.safetensors", other.folder / run_process.LAST)
    assert "no whole checkpoint" in kill_scenes.lost_too_much(SimpleNamespace(step_save=4), other)[0]
    shutil.copy(expected.folder / "epoch-2.safetensors", other.folder / run_process.LAST)
    assert kill_scenes.lost_too_much(SimpleNamespace(step_save=4), other) == ["6 steps are in no checkpoint"]


@pytest.mark.parametrize(
    ("status", "said", "complaint"),
    [
        (2, "error: cannot write x.safetensors", None),
        (2, "error: cannot write y.safetensors", "'x.' is not in"),
        (1, "error: cannot write x.safetensors", "status 1 instead of 2"),
        (2, "error: cannot write x.safetensors\nTraceback\n", "not one sentence"),
    ],
)
def test_more_or_less_than_a_sentence_is_found(status, said, complaint):
    life = SimpleNamespace(wait=lambda: status, status=status, err=said, out="")
    found = "; ".join(kill_scenes.sentence(life, 2, "cannot write", "x."))
    assert complaint in found if complaint else not found

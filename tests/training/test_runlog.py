"""The log of a run: what lies beyond the checkpoint is dropped, and a full disk is one sentence."""

import json
import subprocess
import sys

import numpy as np
import pytest

from helpers import ROOT
from liif_core.errors import UserError
from liif_core.training import tensorboard
from liif_core.training.runlog import RunLog


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def write_two_epochs(folder) -> None:
    log = RunLog(folder, 0, 1)
    for epoch in (1, 2):
        log.record([{"step": 2 * epoch - 1 + i, "epoch": epoch, "loss": 0.5} for i in (0, 1)])
        log.record([{"step": 2 * epoch, "epoch": epoch, "lr": 1e-4, "train_loss": 0.5}])
    log.text("epoch 2/2")
    log.close()


def test_a_new_log_goes_on_where_the_old_one_ends(tmp_path):
    write_two_epochs(tmp_path)
    before = lines(tmp_path)
    assert [record["step"] for record in before] == [1, 2, 2, 3, 4, 4]
    RunLog(tmp_path, 4, 3).close()
    assert lines(tmp_path) == before
    assert (tmp_path / "log.txt").read_text() == "epoch 2/2\n"


def test_log_lines_beyond_the_checkpoint_are_dropped(tmp_path):
    # Step 3 of epoch 2 is done: epoch 1 is whole, the record of epoch 2 and step 4 will come again.
    write_two_epochs(tmp_path)
    RunLog(tmp_path, 3, 2).close()
    assert [(record["step"], record["epoch"], "loss" in record) for record in lines(tmp_path)] == [
        (1, 1, True),
        (2, 1, True),
        (2, 1, False),
        (3, 2, True),
    ]


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    write_two_epochs(tmp_path)
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole + '{"step": 5, "epo')
    RunLog(tmp_path, 9, 9).close()
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_a_damaged_line_costs_no_other(tmp_path):
    write_two_epochs(tmp_path)
    whole = (tmp_path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "metrics.jsonl").write_bytes(
        b"".join([whole[0].encode(), b"\0\xff" * 20 + b"\n", *map(str.encode, whole[2:])])
    )
    RunLog(tmp_path, 9, 9).close()
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(whole[:1] + whole[2:])


def test_a_full_disk_is_one_sentence(tmp_path):
    program = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from liif_core.errors import UserError
from liif_core.training import tensorboard
from liif_core.training.runlog import RunLog
log = RunLog(Path({str(tmp_path)!r}), 0, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for write in (lambda: log.text("x" * 200), lambda: log.record([{{"step": 1, "epoch": 1, "loss": 0.5}}] * 9)):
    try:
        write()
    except UserError as error:
        print("refused:", error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    refused = [line for line in result.stdout.splitlines() if line.startswith("refused:")]
    assert len(refused) == 2 and all("(File too large)" in line for line in refused), result.stdout + result.stderr
    assert "Traceback" not in result.stderr


class FakeWandb:
    """Takes what wandb is given."""

    def __init__(self):
        self.records, self.settings, self.finished = [], {}, False

    def init(self, **settings):
        self.settings = settings
        return self

    def define_metric(self, *names, **options):
        pass

    def log(self, record):
        self.records.append(record)

    def finish(self):
        self.finished = True


def test_wandb_gets_what_the_log_gets(tmp_path, monkeypatch):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tmp_path / "config.yaml").write_text("epoch_max: 2")
    log = RunLog(tmp_path, 0, 1, wandb_project="faces")
    log.record([{"step": 1, "epoch": 1, "loss": 0.5}])
    log.close()
    assert wandb.records == lines(tmp_path) and wandb.finished
    first = wandb.settings
    assert (first["project"], first["name"], first["config"]) == ("faces", tmp_path.name, {"epoch_max": 2})
    RunLog(tmp_path, 1, 1, wandb_project="faces").close()
    assert wandb.settings["id"] == first["id"] and wandb.settings["resume"] == "allow"  # a resumed run is the same
    (tmp_path / "wandb-id").unlink()  # a new run, where there was another before
    RunLog(tmp_path, 1, 1, wandb_project="faces").close()
    assert wandb.settings["id"] != first["id"]


def test_wandb_that_fails_does_not_end_the_training(tmp_path, monkeypatch, capsys):
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    (tmp_path / "config.yaml").write_text("epoch_max: 2")
    log = RunLog(tmp_path, 0, 1, wandb_project="faces")

    def fail(record):
        raise ConnectionError("no network")

    monkeypatch.setattr(wandb, "log", fail)
    for step in (1, 2):
        log.record([{"step": step, "epoch": 1, "loss": 0.5}])
    log.close()
    assert len(lines(tmp_path)) == 2
    assert capsys.readouterr().out.count("no more for Weights & Biases (no network)") == 1
    monkeypatch.setattr(wandb, "init", fail)
    with pytest.raises(UserError, match="--wandb faces: .*WANDB_MODE=offline"):
        RunLog(tmp_path, 0, 1, wandb_project="faces")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is not installed: run `.* -m pip install wandb`"),
        (
            "raise TypeError('Descriptors\\ncannot be created')",
            r"is installed, but .* \(TypeError: Descriptors cannot be cr",
        ),
        ("import no_such_module", r"is installed, but .* \(ModuleNotFoundError: No module named 'no_such_module'\)"),
    ],
)
def test_wandb_that_cannot_be_imported_is_one_sentence(tmp_path, monkeypatch, content, reason):
    monkeypatch.setitem(sys.modules, "wandb", None)
    if content is not None:
        monkeypatch.delitem(sys.modules, "wandb")
        monkeypatch.syspath_prepend(tmp_path)
        (tmp_path / "wandb.py").write_text(content)
    with pytest.raises(UserError, match=f"the Python package 'wandb' {reason}"):
        RunLog(tmp_path, 0, 1, wandb_project="faces")


def test_without_its_package_there_are_no_curves_and_the_log_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tensorboard, "lacking", "it needs another protobuf")
    log = RunLog(tmp_path, 3, 1)
    log.record([{"step": 4, "epoch": 1, "loss": 0.5}])
    log.image("val/a", np.zeros((3, 5, 3), np.uint8), 4)
    log.close()
    assert len(lines(tmp_path)) == 1 and not (tmp_path / "tensorboard").exists()
    assert capsys.readouterr().out == (
        "warning: no curves for tensorboard: it needs another protobuf; metrics.jsonl goes on\n"
    )


def test_a_silent_log_writes_nothing(tmp_path, capsys):
    log = RunLog(tmp_path, 0, 1, silent=True)
    log.text("epoch 1")
    log.record([{"step": 1, "epoch": 1, "loss": 0.5}])
    log.image("val/a", np.zeros((4, 4, 3), np.uint8), 1)
    log.close()
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out

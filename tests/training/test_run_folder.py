"""Run folders: one process at a time, and the checkpoint to go on from."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from helpers import ROOT
from liif_core.checkpoints import formats, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.engine import NetworkState
from liif_core.errors import UserError
from liif_core.training import run_folder

HOLD = f"""
import os, sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from liif_core.training import run_folder
run_folder.lock(Path(sys.argv[1]))
if os.fork() == 0:  # as a loader's worker, which may outlive the process
    time.sleep(60)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that trains in tmp_path."""
    # Jittor, if an earlier test has imported it, ends this process when a child of it is killed.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    yield int(process.stdout.readline())
    os.killpg(process.pid, 9)
    process.wait()


def test_a_folder_has_one_process_until_it_is_killed(tmp_path, holder):
    with pytest.raises(UserError, match=f"is in use by process {holder} on .*: wait for it"):
        run_folder.lock(tmp_path)
    os.kill(holder, 9)
    os.waitid(os.P_PID, holder, os.WEXITED | os.WNOWAIT)
    run_folder.lock(tmp_path)  # though its worker lives
    run_folder.lock(tmp_path)  # one's own folder
    other = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path"
    other += "; from liif_core.training import run_folder"
    command = [sys.executable, "-c", f"{other}; run_folder.lock(Path(sys.argv[1]))", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert f"is in use by process {os.getpid()} on " in refused.stderr


def content(step: int) -> Checkpoint:
    return Checkpoint(
        {"name": "x"}, {"model": NetworkState({"w": np.full(3, step, np.float32)})}, progress={"step": step}
    )


def save(path, step: int) -> None:
    native.save(path, content(step))


def damage(path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_newest_whole_checkpoint_is_found(tmp_path, capsys):
    names = ["epoch-last", "epoch-previous", "epoch-3", "epoch-12"]
    paths = [tmp_path / f"{name}.safetensors" for name in names]
    for path, step in zip(paths, (20, 18, 3, 12), strict=True):
        save(path, step)
    for count, expected in enumerate((20, 18, 12, 3)):
        path, found, damaged = run_folder.last_checkpoint(tmp_path)
        assert found.progress["step"] == expected
        order = [paths[0], paths[1], paths[3], paths[2]]
        assert set(damaged) == set(order[:count]) and path == order[count]
        assert capsys.readouterr().out.count("is damaged, or another program has changed it: its SHA-256") == count
        damage(order[count])
    with pytest.raises(UserError, match="no checkpoint in .* is whole"):
        run_folder.last_checkpoint(tmp_path)


def test_nothing_damaged_takes_the_place_of_another(tmp_path):
    for number in range(3):
        (tmp_path / run_folder.LAST).write_text(str(number))
        run_folder.set_aside([tmp_path / run_folder.LAST])
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["0", "1", "2"]


def test_damaged_checkpoints_are_set_aside_and_not_deleted(tmp_path):
    save(tmp_path / run_folder.LAST, 2)
    save(tmp_path / run_folder.PREVIOUS, 1)
    damage(tmp_path / run_folder.LAST)
    bad = (tmp_path / run_folder.LAST).read_bytes()
    _, found, damaged = run_folder.last_checkpoint(tmp_path)
    run_folder.set_aside(damaged)
    assert (tmp_path / "damaged-epoch-last.safetensors").read_bytes() == bad
    assert run_folder.last_checkpoint(tmp_path)[1].progress == found.progress == {"step": 1}


def test_the_one_before_stays(tmp_path):
    last, previous = tmp_path / run_folder.LAST, tmp_path / run_folder.PREVIOUS
    for step in (1, 2, 3):
        native.save(last, content(step), previous)
    assert [formats.load(path).progress["step"] for path in (previous, last)] == [2, 3]
    # A kill between the two renames: the one before is all there is.
    last.rename(previous)
    assert run_folder.last_checkpoint(tmp_path)[1].progress["step"] == 3


def test_a_full_disk_leaves_both(tmp_path, monkeypatch):
    last, previous = tmp_path / run_folder.LAST, tmp_path / run_folder.PREVIOUS
    for step in (1, 2):
        native.save(last, content(step), previous)
    before = {path: path.read_bytes() for path in (last, previous)}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*epoch-last.safetensors \(No space left on device\); what was"):
        native.save(last, content(3), previous)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_empty_folder_has_none(tmp_path):
    assert run_folder.last_checkpoint(tmp_path) is None

"""The fixtures of the batch scripts and of the sweep."""

import signal
import sys
from pathlib import Path

import pytest

from helpers.batch_scripts import PLAN, STUB
from helpers.small_run import load_script
from liif_core.experiments import jobs


@pytest.fixture
def plan(tmp_path, monkeypatch) -> Path:
    """A folder for the stubs, which stand in for the commands from now on."""
    folder = tmp_path / "plan"
    folder.mkdir()
    monkeypatch.setenv(PLAN, str(folder))
    monkeypatch.setattr(jobs, "script", lambda framework, name: [sys.executable, str(STUB)])
    return folder


@pytest.fixture
def call(monkeypatch, capsys):
    """Call a batch script in this process; returns (exit status, output)."""

    def call_script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # Jittor's handler would end this process with a child
        with pytest.raises(SystemExit) as leaving:
            jobs.exit_with(load_script(name).main)
        output = capsys.readouterr()
        return leaving.value.code, output.out + output.err

    return call_script

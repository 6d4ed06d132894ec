"""Processes that begin with PyTorch imported: one process imports it, and the others are forked from that one.

As `run` of small_run.py, for tests of what a process does; a start takes milliseconds instead of seconds. What a
command does before it imports its framework is done again in each. Tests of the start itself take `run`.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from helpers import ROOT

# Nothing is computed before the forks: threads would be missing in them.
PARENT = """
import atexit, gc, json, os, runpy, signal, sys, threading, traceback
sys.path.insert(0, sys.argv[1])
from liif_core.commands import demo, train
from liif_core.system import devices
devices.prepare("torch", "cpu")
import torch._dynamo  # as the first optimiser does
import liif_torch.datasets, liif_torch.engine
gc.freeze()  # what collecting would write to would be copied for each
for line in sys.stdin:
    pids = []
    for life in json.loads(line):
        pids.append(os.fork())
        if not pids[-1]:
            break
    if not pids[-1]:
        break
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)
else:
    sys.exit()
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGHUP, signal.SIGTSTP):
    signal.signal(number, signal.SIG_DFL)
for number, path in enumerate((os.devnull, *life["outputs"])):
    os.dup2(os.open(path, os.O_RDWR), number)
os.environ.update(life["environ"])
if "OMP_NUM_THREADS" in os.environ:  # which is read when PyTorch is imported
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
os.chdir(life["folder"])
first, *sys.argv = life["words"]
status = 0
try:
    if first == "-c":
        code, sys.argv[0] = sys.argv[0], first
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv.insert(0, first)
        sys.path.insert(0, os.path.dirname(os.path.abspath(first)))
        runpy.run_path(first, run_name="__main__")
except SystemExit as leaving:
    status = leaving.code
except BaseException:
    traceback.print_exc()
    status = 1
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
os._exit(status or 0)  # taking thousands of modules down would take a second
"""

_parent: list[subprocess.Popen] = []


@dataclass(frozen=True)
class Line:
    """A command line after `python`, `-c` and code or a script, and what it finds around it."""

    words: list[str]
    folder: Path = ROOT
    environ: dict[str, str] = field(default_factory=dict)


def run(*lines: Line) -> list[subprocess.CompletedProcess]:
    """Run command lines at the same time, to their ends, whatever these are."""
    if not _parent:
        # In a session of its own, which what is sent to the tests' group does not reach; it ends with its input.
        _parent.append(
            subprocess.Popen(
                [sys.executable, "-c", PARENT, str(ROOT)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        atexit.register(_parent[0].stdin.close)
    lives = []
    with tempfile.TemporaryDirectory() as folder:
        for number, line in enumerate(lines):
            outputs = [Path(folder, f"{number}-{name}") for name in ("out", "err")]
            for path in outputs:
                path.touch()
            life = {"words": line.words, "folder": str(line.folder), "environ": os.environ | line.environ}
            lives.append(life | {"outputs": [str(path) for path in outputs]})
        print(json.dumps(lives), file=_parent[0].stdin, flush=True)
        statuses = json.loads(_parent[0].stdout.readline())
        return [
            subprocess.CompletedProcess(line.words, status, *(Path(path).read_text() for path in life["outputs"]))
            for line, status, life in zip(lines, statuses, lives, strict=True)
        ]

"""A training run that ends in other ways than it should, and goes on: processes, folders, what must be equal."""

import itertools
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers import ROOT, numpy_engine, small_run
from liif_core.checkpoints import formats

LIMIT = 300  # seconds for anything, on a busy machine
RESUME = ("--resume", "auto")
LAST, PREVIOUS = "epoch-last.safetensors", "epoch-previous.safetensors"


@dataclass(frozen=True)
class Run:
    """A run folder `place/name`, and what train.py is called with to make it and to go on with it."""

    framework: str
    config: Path
    place: Path
    name: str

    @property
    def folder(self) -> Path:
        return self.place / self.name

    def copy(self, place: Path, name: str) -> "Run":
        """The same run in another folder, to be ended in another way."""
        shutil.copytree(self.folder, place / name)
        return Run(self.framework, self.config, place, name)

    def step(self) -> int:
        """The last step in metrics.jsonl, 0 without any."""
        try:
            with open(self.folder / "metrics.jsonl", "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return 0
        found = [re.match(rb'{"step": (\d+), .*"loss": .*}\n$', line) for line in lines]
        return max((int(match[1]) for match in found if match), default=0)

    def newest(self) -> dict:
        """The progress of the newest whole checkpoint that a resumed run begins with; step 0 without any."""
        for name in (LAST, PREVIOUS):
            if (self.folder / name).exists():
                return formats.load(self.folder / name).progress
        return {"step": 0}

    def records(self) -> list[dict]:
        """metrics.jsonl without what no second run can repeat."""
        return small_run.records(self.folder)

    def seconds(self) -> float:
        """What the epochs took together."""
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return sum(line.get("seconds", 0) for line in lines)

    def inode(self, name: str) -> int | None:
        try:
            return (self.folder / name).stat().st_ino
        except FileNotFoundError:
            return None

    def half_files(self) -> list[str]:
        """Files that are being written, or were when their process was killed."""
        return [entry.name for entry in os.scandir(self.folder) if entry.name.startswith(".writing-")]


class Life:
    """One process of a run."""

    def __init__(self, run: Run, *words: str, operation: int | None = None, without_hangup: bool = False):
        self.run, self.began = run, time.monotonic()
        log = run.folder / "log.txt"
        self.log_before = log.stat().st_size if log.exists() else 0
        output = run.config.parent / "output"
        output.mkdir(exist_ok=True)
        number = len(list(output.glob(f"{run.name}.*.out"))) + 1
        self.output = output / f"{run.name}.{number}.out", output / f"{run.name}.{number}.err"
        self.words = ["--config", str(run.config), "--name", run.name, "--save-dir", str(run.place), "--gpu", "cpu"]
        self.words += [*RESUME, *words]
        hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN) if without_hangup else None  # a child inherits it
        try:
            self._start(operation)
        finally:
            if hangup is not None:
                signal.signal(signal.SIGHUP, hangup)
        self.pid = self.process.pid

    def _start(self, operation: int | None) -> None:
        if self.run.framework == "numpy":
            arguments = (self.words, self.output, self.run.folder, operation)
            self.process = multiprocessing.get_context("fork").Process(target=numpy_engine.train, args=arguments)
            self.process.start()
            return
        # Jittor: where it has been imported, its handler ends this process when a child is killed.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        command = [sys.executable, f"liif_{self.run.framework}/train.py", *self.words]
        # What a killed process has said must be there: nothing waits in a buffer.
        variables = {"PYTHONUNBUFFERED": "1"}
        with open(self.output[0], "wb") as out, open(self.output[1], "wb") as err:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | variables, stdout=out, stderr=err, start_new_session=True
            )

    @property
    def status(self) -> int | None:
        """How it ended, minus the signal's number where one killed it; None while it runs."""
        return self.process.exitcode if self.run.framework == "numpy" else self.process.poll()

    @property
    def out(self) -> str:
        return self.output[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        return self.output[1].read_text(errors="replace")

    @property
    def log(self) -> str:
        """What it has written into log.txt."""
        try:
            return (self.run.folder / "log.txt").read_bytes()[self.log_before :].decode(errors="replace")
        except FileNotFoundError:
            return ""

    def start(self) -> int | None:
        """The step that it went on from, 0 for a start from nothing; None until it says so."""
        found = re.search(r"^\w+ on \w+, .*?(?:resumed at epoch \d+, step (\d+).*)?\n", self.log, re.MULTILINE)
        return int(found[1] or 0) if found else None

    def until(self, condition: Callable[[], object], limit: float = LIMIT, pause: float = 0.003) -> bool:
        """Wait for something, looking again after each pause; False if the process ended before it, or the limit."""
        end = time.monotonic() + limit
        while self.status is None and time.monotonic() < end:
            if condition():
                return True
            time.sleep(pause)
        if self.status is None and limit == LIMIT:
            os.killpg(self.pid, signal.SIGKILL)
            raise TimeoutError(f"{self.output[0]}: after {limit} s still the same; ended now")
        return False

    def has_stepped(self) -> bool:
        """Wait for its first own step; False if it ended before."""
        return self.until(lambda: self.start() is not None) and self.until(lambda: self.run.step() > self.start())

    def stays(self, seconds: float) -> bool:
        """Let it run so long; False if it ended before."""
        self.until(lambda: False, seconds)
        return self.status is None

    def wait(self) -> int:
        """Its exit status."""
        self.until(lambda: False)
        return self.status

    def kill(self, number: int = signal.SIGKILL, group: bool = False) -> None:
        """Send a signal to it, or to its workers as well, as a terminal does; after SIGKILL it is gone."""
        (os.killpg if group else os.kill)(self.pid, number)
        if number == signal.SIGKILL:
            self.wait()

    def limit_files(self, size: int) -> None:
        """From now on none of its files can grow beyond so many bytes, as on a full disk."""
        resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (size, size))

    def family(self) -> list[int]:
        """Its workers, dying ones not counted, whether it lives or not."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = entry.read_text(errors="replace").rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == self.pid and int(entry.parent.name) != self.pid and state not in "ZX":
                found.append(int(entry.parent.name))
        return found

    def lives_on(self, limit: float = 20) -> list[str]:
        """A complaint if workers are still there so long after its end; they are ended then."""
        end = time.monotonic() + limit
        while self.family() and time.monotonic() < end:
            time.sleep(0.05)
        left = self.family()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return [f"{len(left)} workers still there {limit} s after their process"] if left else []


def differences(run: Run, undisturbed: Run) -> list[str]:
    """What is not as in a run that nothing has disturbed: all checkpoints byte for byte, all records, no other files.

    epoch-previous is left out: it may be of the time between two lives, and knows how long its epoch had taken.
    """
    found, expected = (_kept(place.folder) for place in (run, undisturbed))
    complaints = []
    for name in sorted(found.keys() | expected.keys()):
        if name not in found or name not in expected:
            complaints.append(f"{name} is {'missing' if name in expected else 'too much'}")
        elif name.endswith(".safetensors") and found[name].read_bytes() != expected[name].read_bytes():
            complaints.append(f"{name} differs in {_what_differs(found[name], expected[name])}")
    records, expected_records = run.records(), undisturbed.records()
    if records != expected_records:
        equal = sum(itertools.takewhile(bool, (a == b for a, b in zip(records, expected_records, strict=False))))
        complaints.append(
            f"metrics.jsonl: {len(records)} records, expected {len(expected_records)}; the first {equal} are equal"
        )
    return complaints


def _kept(folder: Path) -> dict[str, Path]:
    own = (PREVIOUS, f"damaged-{LAST}", f"damaged-{PREVIOUS}")
    return {path.name: path for path in folder.iterdir() if path.name not in own}


def _what_differs(path: Path, other: Path) -> str:
    try:
        one, two = formats.load(path), formats.load(other)
    except Exception as error:
        return str(error)
    names = []
    for network, kind in itertools.product(one.state, ("parameters", "buffers", "optimizer", "average")):
        a, b = (getattr(file.state[network], kind) for file in (one, two))
        of = "" if network == "model" else f"{network} "
        names += [f"{of}{kind} {name}" for name in a if name in b and a[name].tobytes() != b[name].tobytes()]
    if one.progress != two.progress:
        names.append(f"progress: {one.progress} instead of {two.progress}")
    return ", ".join(names) or "the file's form"

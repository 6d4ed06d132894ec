"""What the benchmarks share: candidates in processes of their own that are timed in turn, options, Markdown tables.

Settings of malloc, OpenMP and the frameworks hold for a whole process. So every candidate is built in a child process
and does there what it is told over a pipe. One child computes at a time; the others sleep.
"""

import argparse
import atexit
import contextlib
import importlib.metadata
import importlib.util
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from liif_core.system import process

process.begin()

from originals import clone

from liif_core.experiments.jobs import exit_with  # noqa: F401
from liif_core.system import devices, provenance
from liif_core.system.arguments import Parser

PRECISIONS = ("fp32", "bf16", "fp16")
MIB = 2**20


class Work:
    """What a child does, again and again. A subclass has `once`, the work to be timed, which returns what is kept for
    `output`; and `warm_up` if once is too long for that."""

    result: Any = None
    base = 0.0

    def warm_up(self, *arguments) -> None:
        """Before anything is timed."""
        self.once(*arguments)

    def run(self, *arguments) -> float:
        """Seconds of `once`."""
        self.result = None
        time.sleep(0.05)  # the threads of the child before spin for some milliseconds, and would slow this one
        start = time.perf_counter()
        self.result = self.once(*arguments)
        synchronise()
        return time.perf_counter() - start

    def output(self) -> Any:
        """What the last run returned."""
        return self.result

    def mark_base(self) -> None:
        """From here on `peak` counts: the model is built."""
        if cuda := torch_on_gpu():
            cuda.reset_peak_memory_stats()
            self.base = cuda.memory_allocated() / MIB
            return
        with contextlib.suppress(OSError):  # the kernel's way to begin a new maximum; without it, the whole process's
            Path("/proc/self/clear_refs").write_text("5")
        self.base = memory("VmRSS")

    def highest(self) -> float:
        """MiB of resident memory, the base included, at most since `mark_base`."""
        return memory("VmHWM")

    def peak(self) -> float | None:
        """MiB above the base: of the GPU's memory, where PyTorch works there, otherwise resident."""
        if cuda := torch_on_gpu():
            return cuda.max_memory_allocated() / MIB - self.base
        jittor = sys.modules.get("jittor")
        return None if jittor and jittor.flags.use_cuda else memory("VmHWM") - self.base


def memory(field: str) -> float:
    """MiB of this process, by a name in /proc/self/status."""
    return int(re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)[1]) / 1024


def torch_on_gpu() -> Any:
    """torch.cuda if this process uses it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


def synchronise() -> None:
    """Wait for what has been queued."""
    if cuda := torch_on_gpu():
        cuda.synchronize()
    if jittor := sys.modules.get("jittor"):
        jittor.sync_all(True)


class Gone(Exception):
    """A child that has ended before it was told to."""


class Child:
    """A Work in a process of its own: child("run") is work.run() there. Raises Gone."""

    def __init__(self, make: Callable[..., Work], *arguments):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, make, arguments))
        self.process.start()
        theirs.close()
        atexit.register(self.pipe.close)  # a child ends when nobody can tell it anything any more

    def __call__(self, method: str, *arguments) -> Any:
        try:
            self.pipe.send((method, arguments))
            return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise Gone(f"exit status {self.process.exitcode}; what it said stands above") from None

    def close(self) -> None:
        """Let it end, and give its memory back."""
        self.pipe.close()
        self.process.join()


def serve(pipe: Any, make: Callable[..., Work], arguments: tuple) -> None:
    """In the child. An error ends it, with its traceback."""
    work = make(*arguments)
    work.mark_base()
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            method, given = pipe.recv()
            pipe.send(getattr(work, method)(*given))


def whole_process(command: list) -> tuple[float, float, str]:
    """Seconds, peak resident MiB and standard output of a command that runs in the repository root."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        if process.returncode:
            sys.exit(f"{err.read()}\n{' '.join(map(str, command))}: exit status {process.returncode}")
        return seconds, usage.ru_maxrss / 1024, out.read()


def in_turn(candidates: dict[Any, Callable[[], float]], runs: int, quiet: bool = False) -> dict[Any, list[float]]:
    """Seconds of each candidate, by turns, so that a drifting machine drifts for all."""
    seconds: dict[Any, list[float]] = {name: [] for name in candidates}
    for number in range(runs):
        for name, candidate in candidates.items():
            seconds[name].append(candidate())
            if not quiet:
                print(f"run {number + 1} of {runs}, {name}: {seconds[name][-1]:.3f} s", file=sys.stderr, flush=True)
    return seconds


def print_times(
    title: str, seconds: dict[str, list[float]], against: list[str], more: dict[str, dict[str, str]]
) -> None:
    """Markdown: median seconds, how many times as fast as each of `against`, `more` columns by header and candidate."""
    against = [name for name in against if name in seconds and len(seconds) > 1]
    rows = []
    for name, values in seconds.items():
        pairs = [zip(seconds[other], values, strict=True) for other in against]
        ratios = [f"{statistics.median(first / second for first, second in pair):.2f}" for pair in pairs]
        rows.append([name, f"{statistics.median(values):.3f}", *ratios, *(more[key].get(name, "-") for key in more)])
    print(f"\n{title}. Against X: how many times as fast, the median of the ratios of runs that took turns.\n")
    print_table(["variant", "median s", *(f"against {name}" for name in against), *more], rows)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Markdown, numbers to the right."""
    print("| " + " | ".join(header) + " |")
    print("| --- |" + " ---: |" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    sys.stdout.flush()


def options(description: str, runs: int = 5, of_liif: bool = True) -> argparse.ArgumentParser:
    """What all scripts are asked; of_liif: also for the authors' code."""
    parser = Parser(description=description.splitlines()[0])
    if of_liif:
        parser.add_argument(
            "--upstream", type=clone, metavar="PATH", help="a clone of the authors' code, to measure too"
        )
    parser.add_argument(
        "--precision", nargs="+", choices=PRECISIONS, help="default: fp32, and bf16 on a GPU or a CPU that has it"
    )
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="candidates whose names contain one of these")
    parser.add_argument("--runs", type=int, default=runs, help=f"default: {runs}")
    parser.add_argument("--gpu", default="cpu", help="GPU number (default: cpu)")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, and in `kind` the device that --gpu comes to: "cpu" or "cuda"."""
    arguments = parser.parse_args()
    arguments.kind = devices.choose_device(arguments.gpu).kind
    if "precision" in arguments and arguments.precision is None:
        arguments.precision = ["fp32", "bf16"] if arguments.kind == "cuda" or devices.cpu_has_bf16() else ["fp32"]
    return arguments


def selected(name: str, only: list[str] | None) -> bool:
    """Whether `--only` names this candidate."""
    return not only or any(text.lower() in name.lower() for text in only)


def machine(kind: str) -> str:
    """Processor and cores, or the GPU and its driver."""
    if kind == "cuda":
        number = os.environ["CUDA_VISIBLE_DEVICES"].split(",")[0]  # as choose_device has set it
        command = ["nvidia-smi", f"--id={number}", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError):  # a container may have the driver alone
            return subprocess.run(command, capture_output=True, text=True).stdout.strip()
        return f"GPU {number}"
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    return f"{processor}, {os.cpu_count()} cores"


def print_head(kind: str) -> None:
    """For the head of a results page: processor, cores, GPU, versions, and what the tables mean."""
    there = [name for name in ("torch", "jittor") if importlib.util.find_spec(name)]
    versions = [f"{name} {importlib.metadata.version(name)}" for name in there]
    parts = [machine("cpu"), f"Python {platform.python_version()}", *versions]
    if kind == "cuda":
        parts.append(machine(kind))
    print(f"{', '.join(parts)}; commit {(provenance.commit() or 'unknown')[:12]}")
    if "OMP_WAIT_POLICY" in os.environ:
        print(f"OMP_WAIT_POLICY={os.environ['OMP_WAIT_POLICY']} for all.")

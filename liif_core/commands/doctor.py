"""Examine this machine: `python -m liif_core doctor` says what is missing and the command that fixes it.

Prints a table of what both frameworks need, then imports each of them in a process of its own and runs
a small convolution there. `--quick` leaves those runs out. Exit status: 0 if all is well, 1 otherwise.
Works with nothing but Python installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from liif_core.errors import UserError
from liif_core.system import devices, jittor_setup, packages
from liif_core.system.arguments import Parser
from liif_core.system.places import CODE, INSTALLED, SHIPPED

OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 12)
RUN_LIMIT_SECONDS = 1800

# A 3x3 convolution of ones, 8 to 8 channels, 16x16 -> 14x14 pixels: 8 * 14 * 14 * 8 * 9 = 112896.
RUN_START = """
from liif_core.system.devices import prepare
from liif_core.errors import UserError
try:
    device = prepare({framework!r}, None)
except UserError as error:
    raise SystemExit(str(error))
"""
RUN_TORCH = """
import torch
ones = torch.ones(1, 8, 16, 16, device=device.kind), torch.ones(8, 8, 3, 3, device=device.kind)
total = torch.nn.functional.conv2d(*ones).sum().item()
"""
RUN_JITTOR = """
import jittor
jittor.flags.use_cuda = int(device.kind == "cuda")
total = jittor.nn.conv2d(jittor.ones((1, 8, 16, 16)), jittor.ones((8, 8, 3, 3))).sum().item()
"""
RUN_END = """
if total != 112896:
    raise SystemExit(f"the convolution gives {total} instead of 112896")
print(f"RESULT a convolution is right ({device.note})")
"""


@dataclass(frozen=True)
class Finding:
    """One line of the table; `fix` is the command or advice that fixes it."""

    name: str
    found: str
    expected: str = ""
    good: bool = True
    fix: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Print the examination; returns the exit status."""
    parser = Parser(description="Examine this machine.")
    parser.add_argument("--quick", action="store_true", help="do not start the frameworks")
    quick = parser.parse_args(arguments).quick
    good = True
    for finding in examine():
        good = report(finding) and good
    for framework in () if quick else packages.FRAMEWORKS:
        if framework == "torch" or _jittor_belongs_here():
            good = report(run(framework)) and good
    print("\nEverything is in order." if good else "\nSomething is missing: see the lines after 'fix:'.")
    return 0 if good else 1


def report(finding: Finding) -> bool:
    """Print one line, and one more where something is to be fixed; returns `finding.good`."""
    expected = f"  (expected: {finding.expected})" if finding.expected else ""
    print(f"{'ok     ' if finding.good else 'MISSING'} {finding.name:<22} {finding.found}{expected}", flush=True)
    if not finding.good and finding.fix:
        print(f"{'':7} {'':<22} fix: {finding.fix}", flush=True)
    return finding.good


def examine() -> Iterator[Finding]:
    """Everything that can be told without importing a framework."""
    yield _python()
    yield from _packages()
    gpus = devices.count_gpus()
    yield Finding("GPUs", str(gpus) if gpus else "none: everything runs on the CPU")
    if _jittor_belongs_here():
        yield from _jittor(gpus)
    else:
        here = f"{platform.system()} on {platform.machine()}"
        yield Finding("Jittor", f"not installed, and not required for {here}: PyTorch does the same")


def _jittor_belongs_here() -> bool:
    """Whether it is required, or was installed all the same."""
    return packages.jittor_is_required() or importlib.util.find_spec("jittor") is not None


def _jittor(gpus: int) -> Iterator[Finding]:
    """What Jittor needs around it."""
    yield _attempt("C++ compiler", jittor_setup.require_compiler, "found")
    yield _attempt("Python headers", jittor_setup.require_python_headers, "found")
    try:
        home = jittor_setup.jittor_home()
    except UserError as error:
        yield Finding("Jittor's cache", "unreadable", good=False, fix=str(error))
        return
    if gpus:
        nvcc, problem = jittor_setup.find_cuda_toolkit(home)
        yield Finding("CUDA for Jittor", nvcc or f"not usable, Jittor runs on the CPU: {problem}")
    cache = home / ".cache" / "jittor"
    yield _writable(cache)
    if jittor_setup.onednn_is_needed():
        yield _attempt("oneDNN for Jittor", lambda: jittor_setup.link_onednn(home), "linked into Jittor's cache")
    compiled = jittor_setup.core_is_compiled(home, cuda=False)
    yield Finding("Jittor's CPU core", "compiled" if compiled else "not yet compiled: the first import will")


def _python() -> Finding:
    expected = ".".join(map(str, OLDEST_PYTHON)) + " to " + ".".join(map(str, NEWEST_PYTHON))
    good = OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON
    fix = f"install into a Python of {expected}" if INSTALLED else "rm -rf .venv && make test PYTHON=python3.11"
    return Finding("Python", platform.python_version(), expected, good, fix)


def _packages() -> Iterator[Finding]:
    """One finding per line of requirements.txt that applies to this platform."""
    try:
        lines = (SHIPPED / "requirements.txt").read_text(encoding="utf-8").splitlines()
    except OSError:
        yield Finding("requirements.txt", "not found", good=False, fix=f"restore {SHIPPED / 'requirements.txt'}")
        return
    here = {"sys_platform": sys.platform, "platform_machine": platform.machine()}
    for line in lines:
        requirement, _, marker = line.partition("#")[0].partition(";")
        match = re.fullmatch(r"([\w.-]+)(.*)", requirement.strip())
        if not match or any(here.get(key) != value for key, value in re.findall(r'(\w+)\s*==\s*"(\S+)"', marker)):
            continue
        name, expected = match.groups()
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        good = found != "not installed" and _satisfies(found, expected)
        yield Finding(name, found, expected, good, packages.pip_install(requirement.strip()))


def _satisfies(version: str, expected: str) -> bool:
    """Whether `version` ("2.15.0+cu132") meets `expected` (">=1.26,<2"); only ==, >= and < occur."""
    for operator, bound in re.findall(r"(==|>=|<)\s*([\d.]+)", expected):
        here, there = (_numbers(text) for text in (version, bound))
        if not {"==": here == there, ">=": here >= there, "<": here < there}[operator]:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(part) for part in re.findall(r"\d+", version.split("+")[0])]
    return tuple(numbers + [0] * (5 - len(numbers)))


def _attempt(name: str, check: Callable[[], None], success: str) -> Finding:
    """A finding from a check that raises UserError with its own remedy."""
    try:
        check()
    except UserError as error:
        return Finding(name, "missing", good=False, fix=str(error))
    return Finding(name, success)


def _writable(cache: Path) -> Finding:
    existing = next((folder for folder in (cache, *cache.parents) if folder.exists()), Path("/"))
    good = os.access(existing, os.W_OK)
    fix = f"sudo chown -R $USER {existing}   (or: export JITTOR_HOME=a folder of yours)"
    return Finding("Jittor's cache", str(cache), "writable", good, fix)


def run(framework: str) -> Finding:
    """Import `framework` in a fresh process and compute there; the first time Jittor compiles for minutes."""
    if framework == "jittor" and not _jittor_is_compiled():
        print("        Jittor compiles its core now, once: one to five minutes ...", flush=True)
    program = RUN_START.format(framework=framework) + (RUN_TORCH if framework == "torch" else RUN_JITTOR) + RUN_END
    paths = [str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    begin = time.monotonic()
    try:
        process = subprocess.run(
            [sys.executable, "-c", program],
            env=variables,
            check=False,
            text=True,
            capture_output=True,
            errors="replace",
            timeout=RUN_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Finding(f"{framework} runs", f"not within {RUN_LIMIT_SECONDS} s", good=False)
    seconds = time.monotonic() - begin
    results = [line[7:] for line in process.stdout.splitlines() if line.startswith("RESULT ")]
    if process.returncode == 0 and results:
        return Finding(f"{framework} runs", f"{results[-1]}: {seconds:.1f} s with the import")
    lines = [line.strip() for line in (process.stdout + process.stderr).splitlines() if line.strip()]
    reason = lines[-1] if lines else f"it ended with status {process.returncode}"
    return Finding(f"{framework} runs", f"no, after {seconds:.1f} s: {reason}", good=False)


def _jittor_is_compiled() -> bool:
    try:
        return jittor_setup.core_is_compiled(jittor_setup.jittor_home(), cuda=False)
    except UserError:
        return True

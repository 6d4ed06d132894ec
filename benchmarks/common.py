"""What the benchmarks share: paired timing, models with the same weights, the user's own clone of upstream."""

import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
sys.path += [str(ROOT / "tests"), str(ROOT / "scripts")]


def paired(candidates: dict[str, Callable], runs: int) -> dict[str, list[float]]:
    """Seconds of each candidate: once to warm up, then in turn, so that a drifting machine drifts for all."""
    for candidate in candidates.values():
        candidate()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(runs):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def print_table(title: str, seconds: dict[str, list[float]]) -> None:
    """Markdown: median seconds and the median of the paired ratios against the first candidate."""
    base = next(iter(seconds.values()))
    print(f"\n{title}\n\n| variant | median s | times as fast as the first |\n|---|---|---|")
    for name, values in seconds.items():
        ratio = statistics.median(first / value for first, value in zip(base, values, strict=True))
        print(f"| {name} | {statistics.median(values):.3f} | {ratio:.2f} |")


def describe_machine() -> str:
    """Processor, cores and versions, for the head of a results page."""
    import os

    import torch

    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}, PyTorch {torch.__version__}"

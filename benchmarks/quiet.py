"""Whether other programs run, which makes every rate too low."""

import os
import time
from pathlib import Path


def busy_cores(seconds: float = 1.0) -> float:
    """How many cores others keep busy while this program and its children sleep; what a hypervisor takes counts."""
    before = _busy()
    time.sleep(seconds)
    return (_busy() - before) / os.sysconf("SC_CLK_TCK") / seconds


def _busy() -> int:
    """Ticks since the machine started, of all cores, in which they were not idle."""
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return user + nice + system + sum(rest)


def sentence(busy: float) -> str:
    """What a reader must know of so many busy cores."""
    if busy < 0.1:
        return "The machine was quiet."
    return f"Not quiet: other programs took {busy:.1f} of {os.cpu_count()} cores, and rates are too low."

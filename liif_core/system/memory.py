"""Memory of this process and of the machine: limits, peaks, freed pages that are kept."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
from pathlib import Path

# mallopt's parameter numbers, from glibc's malloc.h
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def limit_memory() -> None:
    """Let the system refuse memory that it does not have, which can be handled, instead of ending the process later.

    Linux gives out more than there is and kills whoever uses it. The limit is on the process's own data (RLIMIT_DATA):
    what it has now and what is free, in the machine and in its container (cgroup). Called again when memory was
    refused, it returns freed pages first. Does nothing where none of this can be read; never lifts a user's limit.
    """
    with contextlib.suppress(OSError, ValueError, ImportError, AttributeError):
        import resource

        ctypes.CDLL(None).malloc_trim(0)
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        own = int(re.findall(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)[0]) << 10
        global _limit_at_start
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        _limit_at_start = soft if _limit_at_start is None else _limit_at_start
        limits = [limit for limit in (_limit_at_start, hard, own + free_memory()) if limit != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))


_limit_at_start: int | None = None


def renew_limit() -> None:
    """`limit_memory` again, in a process that has called it; others have no limit from us."""
    if _limit_at_start is not None:
        limit_memory()


def peak_resident_memory() -> int:
    """The most bytes that this process has had in memory at once; 0 where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def free_memory() -> int:
    """Bytes that may still be used. Raises OSError or ValueError where /proc does not tell."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    free = [int(number) << 10 for number in re.findall(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)]
    with contextlib.suppress(OSError, ValueError):  # "max": no limit
        group = Path("/sys/fs/cgroup")
        used = int((group / "memory.current").read_text()) - int(
            re.findall(r"^inactive_file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)[0]
        )
        free.append(max(0, int((group / "memory.max").read_text()) - used))
    return min(free)


def keep_freed_pages() -> bool:
    """Let glibc keep freed memory for the next tensor; True if it does, False (harmless) elsewhere.

    By default glibc returns every large block to the system, and the page faults of taking it back
    double the time of a training step on the CPU. The price is up to 1 GB more resident memory.
    A user's own MALLOC_* settings win.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return False
        mallopt = ctypes.CDLL(None).mallopt
        # Older glibc refuses more than 32 MiB here; mallopt returns 1 for success.
        unmapped = any(mallopt(M_MMAP_THRESHOLD, size) == 1 for size in (1 << 30, 32 << 20))
        return mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1 and unmapped
    except (AttributeError, OSError, TypeError, ValueError):
        return False

"""Locks of open files, which end with their process; Windows has none of them."""

import errno
from typing import IO

try:
    import fcntl
except ImportError:
    fcntl = None  # type: ignore[assignment]


def lock_for_process(file: IO) -> None:
    """Lock a file against other processes, forked ones included (POSIX).

    Raises BlockingIOError or PermissionError while another one holds it, another OSError where there are no locks.
    """
    _require_locks()
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_open_file(file: IO, wait: bool) -> None:
    """Lock a file against all others who opened it, in this process too (BSD).

    Raises BlockingIOError while another one holds it, unless it shall wait, another OSError where there are no locks.
    """
    _require_locks()
    fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _require_locks() -> None:
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no such locks")

"""Locks of open files, which end with their process; Windows has none of them."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tqdm import tqdm

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


@contextlib.contextmanager
def alone(path: Path, doing: str, stays: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is there meanwhile, or stays; says what another process is doing if that must be
    waited for. Where there are no locks, nothing is held. Raises OSError where the file cannot be written."""
    while True:
        with open(path, "a") as file:
            try:
                lock_open_file(file, wait=False)
            except BlockingIOError:
                tqdm.write(f"waiting for another process that {doing}")
                lock_open_file(file, wait=True)
            except OSError:
                pass
            if not _is(path, file):  # the one who held it has taken it away
                continue
            try:
                yield
            finally:
                if not stays:
                    with contextlib.suppress(OSError):
                        os.unlink(path)
            return


def _is(path: Path, file: IO) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _require_locks() -> None:
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no such locks")

"""Exceptions that end a command with one sentence; everything else is a bug and keeps its traceback."""

import errno
import os
import re


def one_line(text: str) -> str:
    """Text in one line, as it can be printed: file names may hold line breaks, escapes and bytes that are no text."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda found: ascii(found[0])[1:-1], text)


class UserError(ValueError):
    """Bad input (exit status 2): the message names the file or value and says what would be accepted."""

    def __str__(self) -> str:
        return one_line(super().__str__())


class NotFinite(UserError):
    """A network's output is NaN or infinite, though its weights are not."""


# What the machine refuses. A file that is not there, for one, is left out: that may be a bug.
REFUSALS = "EACCES EPERM ENAMETOOLONG ELOOP EROFS ENOSPC EDQUOT EMFILE ENFILE EIO ESTALE EBUSY".split()
FEW_FILES = 32  # so many may be open while a framework compiles, which says at length that it cannot, but not why


def sentence(error: BaseException) -> str | None:
    """What the user is told of an error, None for a bug: a UserError's text, or what the machine refuses, a path or
    memory, where nobody nearer to it has said so."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return one_line(f"not enough memory: {error}".rstrip(": "))
    if isinstance(error, OSError) and error.filename is not None:
        if errno.errorcode.get(error.errno or 0) in REFUSALS:
            return one_line(f"cannot use {error.filename}: {error.strerror}")
    if isinstance(error, (OSError, RuntimeError)) and (left := left_to_open()) < FEW_FILES:  # which is its cause then
        return f"only {left} more files can be opened: raise their number (ulimit -n), or lower num_workers"
    return None


def left_to_open() -> int:
    """How many files this process can still open; many where the system does not tell."""
    try:
        import resource

        return resource.getrlimit(resource.RLIMIT_NOFILE)[0] % (1 << 62) - len(os.listdir("/proc/self/fd"))
    except (ImportError, OSError):
        return 1 << 20


class Unsavable(UserError):
    """After it the state in memory must not be saved: it may hold NaN, or other processes are not at the same step."""


class Stopped(BaseException):
    """Ctrl-C or SIGTERM (exit status 130): the message says where the work was saved."""

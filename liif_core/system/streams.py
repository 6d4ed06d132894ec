"""stdout and stderr that survive a closed terminal, a broken pipe, a full disk, and letters that they lack."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any


class LastingStream:
    """A stream whose other end may go, or whose disk may fill: from then on the text is dropped, the work goes on."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name: str):
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """As a text stream does it."""
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        """As a text stream does it."""
        self._try(self.stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except OSError:  # of a pipe, a terminal, a disk
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # takes what is still in the buffer as well
            os.close(nowhere)


def keep_descriptors() -> None:
    """Have 0, 1 and 2 lead nowhere if they were closed when Python was started, before a file gets such a number:
    what is printed, by a library written in C too, would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))


def _lasting(stream: Any) -> LastingStream:
    if hasattr(stream, "reconfigure"):  # a replaced one may be of any kind
        stream.reconfigure(errors="backslashreplace")
    return LastingStream(stream)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Inside, stdout and stderr outlive their reader, and escape what they cannot encode."""
    keep_descriptors()
    out, err = _lasting(sys.stdout), _lasting(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            yield
        finally:
            out.flush()
            err.flush()

"""stdout and stderr that survive a closed terminal or a broken pipe."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Iterator


class LastingStream:
    """A stream to a terminal or pipe whose other end may go: from then on the text is dropped, the work goes on."""

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
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # of a pipe, of a terminal
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.stream.fileno())  # takes what is still in the buffer as well
            os.close(nowhere)


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Inside, stdout and stderr outlive their reader."""
    with contextlib.redirect_stdout(LastingStream(sys.stdout)), contextlib.redirect_stderr(LastingStream(sys.stderr)):
        yield

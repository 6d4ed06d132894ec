"""The processes that load data for a framework's own loader: how they are started, watched and ended."""

import atexit
import contextlib
import errno
import multiprocessing
import signal
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

from liif_core.errors import UserError

REMEDIES = {
    errno.EMFILE: "lower num_workers, or raise the number of open files (ulimit -n)",
    errno.ENFILE: "lower num_workers, or raise the number of open files of this system",
    errno.EAGAIN: "lower num_workers, or raise the number of processes (ulimit -u)",
    errno.ENOMEM: "lower num_workers",
}
CHILD_ENDED = getattr(signal, "SIGCHLD", None)  # Windows has none
SHARED = "they need /dev/shm, with room and to be written to; num_workers: 0 does without"


class Lost(UserError):
    """A process that loads data has ended. What is in the memory of this one is sound."""


class Workers:
    """The processes of one loader. Whoever waits for them is told when one of them ends, wherever it waits."""

    def __init__(self, count: int):
        self.count = count
        self.processes: list[Any] = []
        self.waiting = False
        self.previous: Any = self  # what handled the end of a child before; itself, if that is not to be restored
        _all.add(self)

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Takes note of what is started inside. Raises UserError if not all can be, and ends those that could."""
        before = set(multiprocessing.active_children())
        self.previous = CHILD_ENDED and signal.getsignal(CHILD_ENDED)
        _handle(self._child_ended)
        failed = None
        try:
            yield
        except (OSError, MemoryError, RuntimeError) as error:  # RuntimeError: a thread that cannot be started
            failed = self._why(error)
            traceback.clear_frames(error.__traceback__)  # the files that they hold open
        self.processes = [process for process in multiprocessing.active_children() if process not in before]
        if failed:
            self.end()
            raise UserError(failed) from None
        _handle(self._child_ended)  # PyTorch: sets one of its own, which would break into a training step

    def _why(self, error: Exception) -> str:
        number = errno.ENOMEM if isinstance(error, MemoryError) else getattr(error, "errno", None)
        if isinstance(error, RuntimeError):
            number = errno.EMFILE if "open files" in str(error) else errno.EAGAIN
        reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
        return f"cannot start {self.count} processes that load data ({reason}): {REMEDIES.get(number or 0, SHARED)}"

    def _child_ended(self, number, frame) -> None:
        if self.waiting:  # elsewhere an exception would break into a training step
            self.check()

    def check(self, all_needed: bool = False) -> None:
        """Raise Lost if one has ended. all_needed: also if it has done so in good order."""
        for process in self.processes:
            status = process.exitcode
            if status or (all_needed and status == 0):
                how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                raise Lost(
                    f"a process that loads data {how}: memory may have run out (lower num_workers or batch_size), or "
                    "what reads an image has crashed"
                )

    def watch(self, batches: Iterator) -> Iterator:
        """The batches of a loader that these processes fill, until it is exhausted or left; then they are ended."""
        nothing = object()
        try:
            while True:
                with self._waited_for():
                    batch = next(batches, nothing)
                if batch is nothing:
                    return
                yield batch
        finally:
            self.end()

    @contextlib.contextmanager
    def _waited_for(self) -> Iterator[None]:
        self.waiting = True
        try:
            self.check()
            yield
        except (OSError, EOFError, RuntimeError) as error:
            self.waiting = False
            self.check(all_needed=True)  # of whose end this may be the consequence
            if "Too many open files" in str(error):
                raise UserError(self._why(error)) from None
            raise
        finally:
            self.waiting = False

    def end(self) -> None:
        """End them at once, wherever they are; they own nothing that would have to be put in order."""
        processes, self.processes = self.processes, []
        for process in processes:
            process.kill()
        for process in processes:
            process.join(10)
        if self.previous is not self:
            _handle(self.previous or signal.SIG_DFL)
            self.previous = self


def _handle(handler: Any) -> None:
    """From now on when a child ends; a thread that is not the main one may not say so."""
    if CHILD_ENDED and threading.current_thread() is threading.main_thread():
        signal.signal(CHILD_ENDED, handler)


_all: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """Before multiprocessing waits for processes that leave it to this one to say when it is over."""
    for workers in list(_all):
        workers.end()

"""Signals: a request to stop after the current step, and what the children of a process leave to it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator

AT_ONCE = 3.0  # seconds: timeout, launchers and batch systems may send one request to a process twice


class StopRequest:
    """Ctrl-C, SIGTERM, the end of the terminal and SIGUSR2, by which Slurm warns, ask for a stop after the current step
    instead of breaking into it. A second Ctrl-C does not wait, nor does a second SIGTERM that comes a while later.
    """

    def __init__(self):
        self.requested = False
        self.terminated: float | None = None  # when SIGTERM came first
        for name in ("SIGINT", "SIGTERM", "SIGUSR2", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has the first two
            nohup = name == "SIGHUP" and number and signal.getsignal(number) == signal.SIG_IGN  # which asks to go on
            if number and not nohup:
                signal.signal(number, self._request)

    def _request(self, number, frame):
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if number == signal.SIGTERM:
            now = time.monotonic()
            self.terminated = now if self.terminated is None else self.terminated
            if now - self.terminated > AT_ONCE:
                raise KeyboardInterrupt


@contextlib.contextmanager
def kept_handlers() -> Iterator[None]:
    """Leaves the handling of Ctrl-C and of children that end as it was: Jittor's import takes both, and then ends the
    process at once, at a Ctrl-C and whenever a signal ends a child."""
    numbers = [signal.SIGINT, *([signal.SIGCHLD] if hasattr(signal, "SIGCHLD") else [])]
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)


PR_SET_PDEATHSIG = 1  # Linux's name for "a signal when the parent dies", from sys/prctl.h


def shield_children() -> None:
    """See to it that children forked from now on leave Ctrl-C, Ctrl-Z and the end of the terminal to this process.

    Such a signal goes to the whole group. This process may want to save first, with the children that load its data;
    and Jittor, while it is imported, ends at once when one of its compilers is killed or stopped. Who waits for a
    process that is stopped comes to rest by itself. SIGTERM ends them, whatever this process does at it.
    """
    global _shielding
    if not _shielding and hasattr(os, "register_at_fork"):  # Windows has no forks
        os.register_at_fork(after_in_child=_shield)
    _shielding = True


_shielding = False


def _shield() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def serve() -> None:
    """In a child that loads data: let the parent alone say when it is over, and end with it, however that ends."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a batch system sends it to all, while the parent still saves
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL"):  # frameworks print of a crash; the parent says what it was
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

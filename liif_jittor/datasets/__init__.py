"""Jittor's own loader over liif_core.data."""

import ctypes
import os
import signal
from collections.abc import Iterable

from jittor.dataset import Dataset

from liif_core.data.batching import Batches
from liif_core.data.sets import make
from liif_core.system.signals import serve

__all__ = ["make", "make_loader"]

OVER = signal.SIGRTMIN  # what ends a worker


def make_loader(batches: Batches, num_workers: int = 0) -> Iterable[dict]:
    """The batches of an epoch in order, as numpy arrays, fetched by `num_workers` processes (0: in this one)."""
    return _in_order(_BatchDataset(batches, num_workers)) if len(batches) else []


class _BatchDataset(Dataset):
    """Batches come whole, with their number, and stay in numpy."""

    def __init__(self, batches: Batches, num_workers: int):
        # Jittor: each worker gets a ring buffer, of 512 MB unless told, and dies of a batch that is larger.
        size = sum(getattr(array, "nbytes", 0) for array in batches[0].values()) if num_workers else 0
        super().__init__(batch_size=1, num_workers=num_workers, keep_numpy_array=True, buffer_size=4 * size + (1 << 24))
        self.total_len = len(batches)
        self.batches = batches
        signal.pthread_sigmask(signal.SIG_BLOCK, {OVER})  # the workers inherit this, and lift it when they are ready

    def _worker_main(self, *arguments) -> None:
        serve()
        # Jittor: a worker that waits in C++ would never run a handler in Python; one in C ends it there.
        c = ctypes.CDLL(None)
        c.signal.argtypes, c.signal.restype = [ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
        c.signal(OVER, ctypes.cast(c._exit, ctypes.c_void_p))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {OVER})
        super()._worker_main(*arguments)

    def terminate(self) -> None:
        """Jittor: would send SIGTERM, which `serve` ignores; for a child that another signal kills it ends itself."""
        for worker in getattr(self, "workers", ()):
            if worker.p.is_alive():
                os.kill(worker.p.pid, OVER)

    def __getitem__(self, k: int) -> tuple[int, dict]:
        return int(k), self.batches[int(k)]

    def collate_batch(self, items: list) -> tuple[int, dict]:
        return items[0]


def _in_order(loader: _BatchDataset) -> Iterable[dict]:
    """Jittor: with several workers a batch can overtake another; it waits here for its turn."""
    waiting: dict[int, dict] = {}
    due = 0
    try:
        for k, batch in loader:
            waiting[int(k)] = batch
            while due in waiting:
                yield waiting.pop(due)
                due += 1
    finally:
        loader.terminate()  # Jittor: an epoch's workers would live on

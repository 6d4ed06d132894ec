"""Jittor's own loader over liif_core.data."""

import time
from collections.abc import Iterable
from typing import Any

from jittor.dataset import Dataset

from liif_core.data.batching import Batches
from liif_core.data.sets import make
from liif_core.data.workers import Workers
from liif_core.system.signals import serve

__all__ = ["make", "make_loader"]


def make_loader(batches: Batches, num_workers: int = 0) -> Iterable[dict]:
    """The batches of an epoch in order, as numpy arrays, fetched by `num_workers` processes (0: in this one)."""
    return _in_order(_BatchDataset(batches, num_workers)) if len(batches) else []


class _BatchDataset(Dataset):
    """Batches come whole, with their number, and stay in numpy."""

    def __init__(self, batches: Batches, num_workers: int):
        # Jittor: each worker gets a ring buffer, of 512 MB unless told, and dies of a batch that is larger.
        size = sum(getattr(array, "nbytes", 0) for array in batches[0].values()) if num_workers else 0
        largest = int(size * batches.growth()) if num_workers else 0
        room = 4 * largest + (1 << 24)
        super().__init__(batch_size=1, num_workers=num_workers, keep_numpy_array=True, buffer_size=room)
        self.total_len = len(batches)
        self.batches = batches
        self.processes = Workers(num_workers)

    def _init_workers(self, index_list) -> None:
        with self.processes.starting():
            super()._init_workers(index_list)
        self.idqueue: Any = _Polled(self.idqueue, self.processes)
        for worker in self.workers:
            worker.buffer = _Polled(worker.buffer, self.processes)

    def _worker_main(self, *arguments) -> None:
        serve()
        super()._worker_main(*arguments)

    def terminate(self) -> None:
        """Jittor: would send SIGTERM, which `serve` ignores."""
        self.processes.end()

    def __getitem__(self, k: int) -> tuple[int, dict]:
        return int(k), self.batches[int(k)]

    def collate_batch(self, items: list) -> tuple[int, dict]:
        return items[0]


class _Polled:
    """Jittor: a ring buffer waits in C++, where no signal is heeded, for ever if the worker that fills it has died."""

    def __init__(self, ring: Any, processes: Workers):
        self.ring, self.processes = ring, processes

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ring, name)

    def pop(self) -> Any:
        while self.ring.total_pop() == self.ring.total_push():
            self.processes.check(all_needed=True)
            time.sleep(0.0005)
        return self.ring.pop()

    recv = pop


def _in_order(loader: _BatchDataset) -> Iterable[dict]:
    """Jittor: with several workers a batch can overtake another; it waits here for its turn."""
    waiting: dict[int, dict] = {}
    due = 0
    try:
        for k, batch in loader.processes.watch(iter(loader)):
            waiting[int(k)] = batch
            while due in waiting:
                yield waiting.pop(due)
                due += 1
    finally:
        loader.terminate()  # Jittor: an epoch's workers would live on

"""PyTorch's own loader over liif_core.data."""

import traceback
from collections.abc import Iterable, Iterator
from typing import Any, cast

from torch.utils.data import DataLoader
from torch.utils.data._utils.signal_handling import _remove_worker_pids

from liif_core.data.batching import Batches
from liif_core.data.sets import make
from liif_core.data.workers import Workers
from liif_core.system.signals import serve

__all__ = ["make", "make_loader"]


def make_loader(batches: Batches, num_workers: int = 0) -> Iterable[dict]:
    """The batches of an epoch in order, as numpy arrays, fetched by `num_workers` processes (0: in this one)."""
    loader = DataLoader(
        cast(Any, batches),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_unchanged,
        worker_init_fn=_begin,
    )
    return _watched(loader) if num_workers else loader


def _begin(number: int) -> None:
    """In each process, of that number. PyTorch: a function of the module, since spawned processes get it pickled."""
    serve()


def _unchanged(batch: Any) -> Any:
    """Batches come whole and stay in numpy.

    PyTorch: as tensors they would come through shared memory, which takes the main process longer than a pipe at this
    size; and only tensors are pinned, but what travels to a GPU are the floats that the core makes of these bytes.
    """
    return batch


def _watched(loader: DataLoader) -> Iterator[dict]:
    workers = Workers(loader.num_workers)
    with workers.starting():
        iterator: Any = _start(loader)
    try:
        yield from workers.watch(iterator)
    finally:
        _forget(iterator)


def _start(loader: DataLoader) -> Iterator:
    try:
        return iter(loader)
    except Exception as error:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if type(frame.f_locals.get("self")).__name__ == "_MultiProcessingDataLoaderIter":
                _forget(frame.f_locals["self"])
        raise


def _forget(iterator: Any) -> None:
    """PyTorch: an iterator that is deleted waits for its workers, for ever if one of them died with a lock."""
    iterator._shutdown = True
    if getattr(iterator, "_worker_pids_set", False):
        iterator._worker_pids_set = False
        _remove_worker_pids(id(iterator))

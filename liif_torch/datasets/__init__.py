"""PyTorch's own loader over liif_core.data."""

from collections.abc import Iterable
from typing import Any, cast

from torch.utils.data import DataLoader

from liif_core.data.batching import Batches
from liif_core.data.sets import make
from liif_core.system.signals import serve

__all__ = ["make", "make_loader"]


def make_loader(batches: Batches, num_workers: int = 0) -> Iterable[dict]:
    """The batches of an epoch in order, as numpy arrays, fetched by `num_workers` processes (0: in this one)."""
    return DataLoader(
        cast(Any, batches),
        batch_size=None,
        num_workers=num_workers,
        collate_fn=_unchanged,
        worker_init_fn=lambda number: serve(),
    )


def _unchanged(batch: Any) -> Any:
    """Batches come whole and stay in numpy.

    PyTorch: as tensors they would come through shared memory, which takes the main process longer than a pipe at this
    size; and only tensors are pinned, but what travels to a GPU are the floats that the core makes of these bytes.
    """
    return batch

"""The batches of one epoch, for the framework's own loader to fetch."""

import numpy as np

from liif_core.data import sampling
from liif_core.errors import UserError


class Batches:
    """A sequence: item k is the k-th batch from `start_batch` on, arrays stacked along a first axis B.

    Of `world_size` processes each gets the part of every batch that `rank` says; together they have what one would
    have. A user's error (a truncated image, a crop too large) comes back as {"error": sentence}, because an
    exception would reach the main process as a worker's traceback.
    """

    def __init__(
        self,
        wrapper,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.wrapper = wrapper
        self.epoch = epoch
        whole = sampling.batches(
            seed, epoch, len(wrapper), batch_size, shuffle=wrapper.training, start_batch=start_batch
        )
        own = [np.array_split(indices, world_size)[rank] for indices in whole]
        self.weights = [len(part) / len(indices) for part, indices in zip(own, whole, strict=True)]
        # A batch of fewer samples than processes: who gets none takes one all the same, of which the weight is 0.
        self.indices = [part if len(part) else indices[:1] for part, indices in zip(own, whole, strict=True)]

    def __len__(self) -> int:
        return len(self.indices)

    def growth(self) -> float:
        """How many times as large as the first one a batch may be: 1 for crops, and as images differ where they are
        taken whole."""
        if getattr(self.wrapper, "inp_size", 0) is not None:
            return 1.0
        pixels = [
            max(height * width for height, width in self.wrapper.dataset.sizes(index))
            for index in range(len(self.wrapper))
        ]
        return max(pixels) / max(pixels[index] for index in self.indices[0])

    def __getitem__(self, k: int) -> dict:
        try:
            samples = [self.wrapper.sample(int(index), self.epoch) for index in self.indices[k]]
        except UserError as error:
            return {"error": str(error)}
        except MemoryError:
            return {"error": "not enough memory to load a batch: lower num_workers or batch_size"}
        if len({tuple((key, np.shape(value)) for key, value in sample.items()) for sample in samples}) > 1:
            return {"error": "the samples of a batch differ in size: set inp_size and sample_q, or batch_size: 1"}
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}


def checked(loader):
    """The batches of a loader, a user's error raised where the user sees it."""
    for batch in loader:
        if "error" in batch:
            raise UserError(batch["error"])
        yield batch

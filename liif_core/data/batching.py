"""The batches of one epoch, for the framework's own loader to fetch."""

import numpy as np

from liif_core.data import sampling
from liif_core.errors import UserError


class Batches:
    """A sequence: item k is the k-th batch from `start_batch` on, arrays stacked along a first axis B.

    A user's error (a truncated picture, a crop too large) comes back as {"error": sentence}, because an
    exception would reach the main process as a worker's traceback.
    """

    def __init__(self, wrapper, batch_size: int, seed: int = 0, epoch: int = 0, start_batch: int = 0):
        self.wrapper = wrapper
        self.epoch = epoch
        self.indices = sampling.batches(
            seed, epoch, len(wrapper), batch_size, shuffle=wrapper.training, start_batch=start_batch
        )

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, k: int) -> dict:
        try:
            samples = [self.wrapper.sample(int(index), self.epoch) for index in self.indices[k]]
        except UserError as error:
            return {"error": str(error)}
        shapes = {sample["gt"].shape for sample in samples} | {sample["inp"].shape for sample in samples}
        if len(shapes) > 2:
            return {"error": "the samples of a batch differ in size: set inp_size and sample_q, or batch_size: 1"}
        return {key: np.stack([sample[key] for sample in samples]) for key in samples[0]}


def checked(loader):
    """The batches of a loader, a user's error raised where the user sees it."""
    for batch in loader:
        if "error" in batch:
            raise UserError(batch["error"])
        yield batch

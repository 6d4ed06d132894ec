"""Data sets and wrappers by the names that configs use; importing this registers them all.

A data set yields uint8 images; a wrapper turns one of them into a pair (low resolution, high
resolution) and a training sample. Both trees put their own loader on top.
"""

from liif_core.registry import Registry

DATASETS = Registry("data set")
WRAPPERS = Registry("wrapper")

from liif_core.data import folders, wrappers  # noqa: E402, F401  (they register themselves)


def make(spec: dict, seed: int, training: bool):
    """The wrapper over the data set that a config's `train_dataset`, `val_dataset` or `test_dataset` names.

    spec: {"dataset": spec, "wrapper": spec, ...}. training: crops differ by epoch and are shuffled;
    otherwise every epoch sees the same crops in the same order.
    """
    dataset = DATASETS.make(spec["dataset"])
    return WRAPPERS.make(spec["wrapper"], dataset=dataset, seed=seed, training=training)

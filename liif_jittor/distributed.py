"""Several processes that train one model together: Jittor's MPI, started by Open MPI's mpirun."""

import jittor as jt
import numpy as np

from liif_core.errors import UserError
from liif_core.system import distributed


def join(device: str) -> int:
    """Meet the other processes, if mpirun has started some; how many there are in all."""
    world_size = distributed.read("jittor").world_size
    if world_size != jt.world_size:  # mpirun and libmpi of two kinds: each process believes to be alone
        raise UserError(
            f"mpirun has started {world_size} processes, Jittor meets {jt.world_size}: use the mpirun beside mpicc"
        )
    # Jittor: would deal the loader's batches out once more, and average gradients in every call of backward, of which
    # processes with fewer samples make fewer.
    jt.in_mpi = False
    return world_size


def add_up(tensors: list[jt.Var]) -> None:
    """Replace each variable by its sum over all processes.

    Jittor: in one piece, since it might add up several in another order here than there.
    """
    flat = jt.concat([tensor.flatten() for tensor in tensors]).mpi_all_reduce("add")
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.update(values.reshape(tensor.shape))


def mean(tensors: list[jt.Var], world_size: int) -> None:
    """Replace each variable by its mean over all processes: statistics, of which each has those of its own samples."""
    if tensors:
        add_up(tensors)
        for tensor in tensors:
            tensor.update(tensor / world_size)


def total(values: np.ndarray, device: str) -> np.ndarray:
    """The sum of float64 `values` over all processes.

    Jittor: makes float32 of a float64 array, so each adds up itself, in the same order, what all have broadcast.
    """
    jt.sync_all()  # Jittor: evaluates lazily; a sum that some process has still before it would meet this one
    values = np.ascontiguousarray(values, np.float64)
    result = np.zeros_like(values)
    for root in range(jt.world_size):
        part = values.copy()
        jt.mpi.broadcast(part, root)
        result += part
    return result

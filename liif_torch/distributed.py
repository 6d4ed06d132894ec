"""Several processes that train one model together: torch.distributed, started by torchrun."""

import atexit
import datetime

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from liif_core.errors import Unsavable
from liif_core.system import distributed


def join(device: str) -> int:
    """Meet the other processes, if torchrun has started some; how many there are in all."""
    world_size = distributed.read("torch").world_size
    if world_size > 1 and not dist.is_initialized():
        # Long enough for what the first process draws for the log; that one has ended is noticed without it.
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=datetime.timedelta(days=1))
        atexit.register(dist.destroy_process_group)
    return world_size


def add_up(tensors: list[Tensor]) -> None:
    """Replace each tensor by its sum over all processes. On the CPU (gloo), raises Unsavable when another has ended.

    PyTorch: not DistributedDataParallel, which takes the mean of equal shares; a batch need not divide by the number of
    processes. In one piece, since these models' gradients are a few megabytes.
    """
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    try:
        dist.all_reduce(flat)
    except RuntimeError as error:
        if flat.is_cuda:  # NCCL's own errors, memory among them
            raise
        raise Unsavable("another process of this training has ended or does not answer; it says why") from error
    for tensor, values in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(values.view(tensor.shape))


def mean(tensors: list[Tensor], world_size: int) -> None:
    """Replace each tensor by its mean over all processes: statistics, of which each has those of its own samples."""
    if tensors:
        add_up(tensors)
        for tensor in tensors:
            tensor /= world_size


def total(values: np.ndarray, device: torch.device) -> np.ndarray:
    """The sum of float64 `values` over all processes.

    PyTorch: all of them get the same sum of an all-reduce.
    """
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    add_up([tensor])
    return tensor.cpu().numpy()

"""Optimisers by the names that configs use, and their state under names that both trees read."""

import math
from typing import Any

import jittor as jt
import numpy as np
from pydantic import NonNegativeFloat

from liif_core.errors import UserError
from liif_core.registry import Registry

optimizers = Registry("optimizer")
make = optimizers.make


class _Adam(jt.optim.Adam):
    """Jittor: its Adam adds eps to sqrt(v) before the bias correction, PyTorch and the paper after it.

    Early steps would differ: at step 1 the same eps weighs 32 times more.
    """

    def __init__(self, params, lr, eps, betas, weight_decay):
        super().__init__(params, lr, eps, betas, weight_decay)
        self.corrected_eps = eps

    def step(self, loss=None, retain_graph=False):
        """One update; a loss is differentiated first."""
        steps = self.n_step + (loss is not None)
        self.eps = self.corrected_eps * math.sqrt(1 - self.betas[1] ** steps)
        super().step(loss, retain_graph)


@optimizers.register("adam")
def adam(
    params: Any,
    lr: NonNegativeFloat,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
) -> jt.optim.Adam:
    """Adam (Kingma and Ba, 2015); weight_decay is added to the gradient."""
    return _Adam(params, lr, eps, betas, weight_decay)


@optimizers.register("sgd")
def sgd(
    params: Any, lr: NonNegativeFloat, momentum: float = 0, weight_decay: float = 0, nesterov: bool = False
) -> jt.optim.SGD:
    """Stochastic gradient descent with momentum; weight_decay is added to the gradient."""
    if nesterov and momentum <= 0:
        raise UserError(f"optimizer 'sgd': nesterov needs a momentum above 0, not {momentum}")
    return jt.optim.SGD(params, lr, momentum, weight_decay, nesterov=nesterov)


def set_lr(optimizer: jt.optim.Optimizer, learning_rate: float) -> None:
    """The learning rate of the steps to come."""
    optimizer.lr = learning_rate


# Jittor: where its optimisers keep what PyTorch calls by these names.
def _moments(optimizer: jt.optim.Optimizer) -> dict[str, str]:
    if isinstance(optimizer, _Adam):
        return {"exp_avg": "m", "exp_avg_sq": "values"}
    return {"momentum_buffer": "values"} if optimizer.momentum else {}


def state(optimizer: jt.optim.Optimizer, names: list[str]) -> dict[str, np.ndarray]:
    """ "step" and the moments of each parameter, "exp_avg.<name>"; names in the order of the parameters."""
    if optimizer.n_step == 0:
        return {}
    arrays = {"step": np.array(optimizer.n_step, dtype=np.float32)} if isinstance(optimizer, _Adam) else {}
    for moment, key in _moments(optimizer).items():
        for name, value in zip(names, optimizer.param_groups[0][key], strict=True):
            arrays[f"{moment}.{name}"] = value.numpy()
    return arrays


def load_state(optimizer: jt.optim.Optimizer, names: list[str], arrays: dict[str, np.ndarray]) -> None:
    """Take back what `state` gave."""
    optimizer.n_step = int(arrays.get("step", 1))  # SGD does not count; any number says that it has begun
    for moment, key in _moments(optimizer).items():
        for name, value in zip(names, optimizer.param_groups[0][key], strict=True):
            if f"{moment}.{name}" in arrays:
                value.assign(jt.array(arrays[f"{moment}.{name}"]))

"""Optimisers by the names that configs use, their state under names that both trees read, and the update itself."""

import math
from collections.abc import Iterable
from typing import Any

import jittor as jt
import numpy as np
from pydantic import NonNegativeFloat

from liif_core.engine import Update
from liif_core.errors import UserError
from liif_core.registry import Registry
from liif_jittor import ranks

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


class Updater:
    """Turns the losses of a step into an update of the parameters.

    Gradients are added up over parts of a batch and over processes and clipped by their common norm (Pascanu et al.,
    2013); the moving average of the weights follows. average: the parameters of a second model, in the same order.
    count: of processes. scaled: Jittor: computes in float32, whose gradients need no scale.
    """

    def __init__(self, optimizer: Any, update: Update, average: list[jt.Var] | None, count: int, scaled: bool):
        self.optimizer, self.update, self.average, self.count = optimizer, update, average, count
        self.parameters = optimizer.param_groups[0]["params"]
        self.updates = 0

    def step(self, losses: Iterable[jt.Var]) -> jt.Var:
        """One update from the losses of a batch's parts, each weighted by its share of the step; returns their sum."""
        total = jt.zeros(1)
        for loss in losses:
            self.optimizer.backward(loss)
            total = total + loss.detach()
            if self.update.accumulate > 1:  # Jittor: evaluates lazily; until then the part's whole graph is alive
                jt.sync([total, *self.optimizer.param_groups[0]["grads"]])
        if self.count > 1:
            ranks.add_up(self.optimizer.param_groups[0]["grads"])
        self.updates += 1
        self.optimizer.n_step = self.updates  # Jittor: counts calls of backward, and corrects Adam's bias by that
        if self.update.clip_grad is not None:
            self.optimizer.clip_grad_norm(self.update.clip_grad)
        self.optimizer.step()
        if self.average is not None:
            for average, parameter in zip(self.average, self.parameters, strict=True):
                average.update(average + (parameter - average) * (1 - self.update.ema))
        # Jittor: evaluates lazily; without this a loss that nobody reads keeps its whole graph alive.
        jt.sync([total, *self.parameters, *(self.average or [])])
        return total

    def state(self, names: list[str]) -> dict[str, np.ndarray]:
        """ "step" and the moments of each parameter, "exp_avg.<name>"; names in the order of the parameters."""
        if self.updates == 0:
            return {}
        arrays = {"step": np.array(self.updates, dtype=np.float32)} if isinstance(self.optimizer, _Adam) else {}
        for moment, key in _moments(self.optimizer).items():
            for name, value in zip(names, self.optimizer.param_groups[0][key], strict=True):
                arrays[f"{moment}.{name}"] = value.numpy()
        return arrays

    def load_state(self, names: list[str], arrays: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave."""
        self.updates = int(arrays.get("step", 1))  # SGD does not count; any number says that it has begun
        for moment, key in _moments(self.optimizer).items():
            for name, value in zip(names, self.optimizer.param_groups[0][key], strict=True):
                if f"{moment}.{name}" in arrays:
                    value.assign(jt.array(arrays[f"{moment}.{name}"]))


# Jittor: where its optimisers keep what PyTorch calls by these names.
def _moments(optimizer: jt.optim.Optimizer) -> dict[str, str]:
    if isinstance(optimizer, _Adam):
        return {"exp_avg": "m", "exp_avg_sq": "values"}
    return {"momentum_buffer": "values"} if optimizer.momentum else {}

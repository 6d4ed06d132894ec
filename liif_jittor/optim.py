"""Optimisers by the names that configs use, their state under names that both trees read, and the update itself."""

import math
from typing import Any

import jittor as jt
from pydantic import NonNegativeFloat

from liif_core.config.registry import Registry
from liif_core.errors import UserError

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


class _AdamW(_Adam):
    """Jittor: its own AdamW keeps its moments elsewhere; this one is Adam after a smaller weight."""

    def __init__(self, params, lr, eps, betas, weight_decay):
        super().__init__(params, lr, eps, betas, 0)
        self.decay = weight_decay

    def step(self, loss=None, retain_graph=False):
        """One update; a loss is differentiated first."""
        if loss is not None:
            self.backward(loss, retain_graph)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.update(parameter * (1 - group.get("lr", self.lr) * self.decay))
        super().step()


@optimizers.register("adam")
def adam(
    params: Any,
    lr: NonNegativeFloat,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    last_layer: NonNegativeFloat = 1,
) -> jt.optim.Adam:
    """Adam (Kingma and Ba, 2015); weight_decay is added to the gradient. last_layer: its learning rate, times lr."""
    return _Adam(groups(params, last_layer), lr, eps, betas, weight_decay)


@optimizers.register("adamw")
def adamw(
    params: Any,
    lr: NonNegativeFloat,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    last_layer: NonNegativeFloat = 1,
) -> jt.optim.Adam:
    """Adam whose weight_decay times the learning rate is taken off the weights, past the moments (Loshchilov and
    Hutter, ICLR 2019). last_layer: its learning rate, times lr."""
    return _AdamW(groups(params, last_layer), lr, eps, betas, weight_decay)


@optimizers.register("sgd")
def sgd(
    params: Any,
    lr: NonNegativeFloat,
    momentum: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    last_layer: NonNegativeFloat = 1,
) -> jt.optim.SGD:
    """Stochastic gradient descent with momentum; weight_decay is added to the gradient. last_layer: its learning rate,
    times lr."""
    if nesterov and momentum <= 0:
        raise UserError(f"optimizer 'sgd': nesterov needs a momentum above 0, not {momentum}")
    return jt.optim.SGD(groups(params, last_layer), lr, momentum, weight_decay, nesterov=nesterov)


def groups(params: Any, last_layer: float) -> list[dict]:
    """The parameters, in their order, with how fast they learn: the last layer begins at the last weight."""
    if last_layer == 1:
        return [{"params": params}]
    start = max(number for number, parameter in enumerate(params) if len(parameter.shape) > 1)
    return [{"params": params[:start]}, {"params": params[start:], "factor": last_layer}]


def set_lr(optimizer: jt.optim.Optimizer, learning_rate: float) -> None:
    """The learning rate of the steps to come."""
    optimizer.lr = learning_rate
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("factor", 1)

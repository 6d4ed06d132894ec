"""Optimisers by the names that configs use, their state under names that both trees read, and the update itself."""

from typing import Any

import torch
from pydantic import NonNegativeFloat

from liif_core.config.registry import Registry
from liif_core.errors import UserError

optimizers = Registry("optimizer")
make = optimizers.make


@optimizers.register("adam")
def adam(
    params: Any,
    lr: NonNegativeFloat,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0,
    last_layer: NonNegativeFloat = 1,
) -> torch.optim.Adam:
    """Adam (Kingma and Ba, 2015); weight_decay is added to the gradient. last_layer: its learning rate, times lr."""
    return torch.optim.Adam(groups(params, last_layer), lr, betas, eps, weight_decay)


@optimizers.register("adamw")
def adamw(
    params: Any,
    lr: NonNegativeFloat,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
    last_layer: NonNegativeFloat = 1,
) -> torch.optim.AdamW:
    """Adam whose weight_decay times the learning rate is taken off the weights, past the moments (Loshchilov and
    Hutter, ICLR 2019). last_layer: its learning rate, times lr."""
    return torch.optim.AdamW(groups(params, last_layer), lr, betas, eps, weight_decay)


@optimizers.register("sgd")
def sgd(
    params: Any,
    lr: NonNegativeFloat,
    momentum: float = 0,
    weight_decay: float = 0,
    nesterov: bool = False,
    last_layer: NonNegativeFloat = 1,
) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum; weight_decay is added to the gradient. last_layer: its learning rate,
    times lr."""
    if nesterov and momentum <= 0:
        raise UserError(f"optimizer 'sgd': nesterov needs a momentum above 0, not {momentum}")
    return torch.optim.SGD(groups(params, last_layer), lr, momentum, weight_decay=weight_decay, nesterov=nesterov)


def groups(params: Any, last_layer: float) -> list[dict]:
    """The parameters, in their order, with how fast they learn: the last layer begins at the last weight."""
    if last_layer == 1:
        return [{"params": params}]
    start = max(number for number, parameter in enumerate(params) if len(parameter.shape) > 1)
    return [{"params": params[:start]}, {"params": params[start:], "factor": last_layer}]


def set_lr(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The learning rate of the steps to come."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("factor", 1)

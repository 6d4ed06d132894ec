"""How the losses of a step become an update of the parameters."""

from collections.abc import Callable, Iterable
from typing import Any

import jittor as jt
import numpy as np

from liif_core.engine import Update, is_buffer
from liif_jittor import distributed, optim
from liif_jittor.optim import _Adam


class Updater:
    """Turns the losses of a step into an update of the parameters.

    Gradients are added up over micro-batches and over processes and clipped by their common norm (Pascanu et al.,
    2013); the moving average of the weights, and of the statistics of BatchNorm, follows. module: what the optimizer
    trains. average: a second module like it, or None. world_size: of processes. scaled: Jittor: computes in float32,
    whose gradients need no scale.
    """

    def __init__(
        self,
        optimizer: Any,
        update: Update,
        module: jt.Module,
        average: jt.Module | None,
        world_size: int,
        scaled: bool,
    ):
        self.optimizer, self.update, self.world_size = optimizer, update, world_size
        self.base_rate, self.decay = float(optimizer.lr), update.ema
        self.parameters = self._all("params")
        self.buffers = _buffers(module)
        self.average = None if average is None else [*_parameters(average), *_buffers(average)]
        self.updates = 0

    def _all(self, key: str) -> list[jt.Var]:
        """What the optimizer keeps of its parameters under a key, in their order."""
        return [value for group in self.optimizer.param_groups for value in group[key]]

    def begin_step(self, learning_rate: Callable[[float], float], decay: float | None = None) -> None:
        """The learning rate of the step to come, from the one that the optimizer was made with, and the decay of the
        average, None for the one of `update`."""
        self.decay = self.update.ema if decay is None else decay
        optim.set_lr(self.optimizer, learning_rate(self.base_rate))

    def step(self, losses: Iterable[jt.Var]) -> jt.Var:
        """One update from the weighted losses of a batch's micro-batches; returns their sum."""
        total = jt.zeros(1)
        for loss in losses:
            self.optimizer.backward(loss)
            total = total + loss.detach()
            if self.update.accumulate > 1:  # Jittor: evaluates lazily; until then the part's whole graph is alive
                jt.sync([total, *self._all("grads")])
        if self.world_size > 1:
            distributed.add_up(self._all("grads"))
            distributed.mean(self.buffers, self.world_size)
        self.updates += 1
        self.optimizer.n_step = self.updates  # Jittor: counts calls of backward, and corrects Adam's bias by that
        if self.update.clip_grad is not None:
            self.optimizer.clip_grad_norm(self.update.clip_grad)
        self.optimizer.step()
        if self.average is not None and self.decay is not None:
            for average, variable in zip(self.average, [*self.parameters, *self.buffers], strict=True):
                average.update(average + (variable - average) * (1 - self.decay))
        # Jittor: evaluates lazily; without this a loss that nobody reads keeps its whole graph alive.
        jt.sync([total, *self.parameters, *self.buffers, *(self.average or [])])
        return total

    def state(self, names: list[str]) -> dict[str, np.ndarray]:
        """ "step" and the moments of each parameter, "exp_avg.<name>"; names in the order of the parameters."""
        if self.updates == 0:
            return {}
        arrays = {"step": np.array(self.updates, dtype=np.float32)} if isinstance(self.optimizer, _Adam) else {}
        for moment, key in _moments(self.optimizer).items():
            for name, value in zip(names, self._all(key), strict=True):
                arrays[f"{moment}.{name}"] = value.numpy()
        return arrays

    def load_state(self, names: list[str], arrays: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave."""
        self.updates = int(arrays.get("step", 1))  # SGD does not count; any number says that it has begun
        for moment, key in _moments(self.optimizer).items():
            for name, value in zip(names, self._all(key), strict=True):
                if f"{moment}.{name}" in arrays:
                    value.assign(jt.array(arrays[f"{moment}.{name}"]))


# Jittor: where its optimisers keep what PyTorch calls by these names.
def _moments(optimizer: jt.optim.Optimizer) -> dict[str, str]:
    if isinstance(optimizer, _Adam):
        return {"exp_avg": "m", "exp_avg_sq": "values"}
    return {"momentum_buffer": "values"} if optimizer.momentum else {}


def _parameters(module: jt.Module) -> list[jt.Var]:
    return [variable for name, variable in module.named_parameters() if not is_buffer(name)]


def _buffers(module: jt.Module) -> list[jt.Var]:
    return [variable for name, variable in module.named_parameters() if is_buffer(name)]

"""How the losses of a step become an update of the parameters."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from liif_core.engine import Update, is_buffer
from liif_core.errors import Unsavable
from liif_torch import distributed, optim


class Updater:
    """Turns the losses of a step into an update of the parameters.

    Gradients are added up over micro-batches and over processes and clipped by their common norm (Pascanu et al.,
    2013); the moving average of the weights, and of the statistics of BatchNorm, follows. module: what the optimizer
    trains. average: a second module like it, or None. world_size: of processes. scaled: whether gradients are too small
    for their precision.
    """

    def __init__(
        self,
        optimizer: Any,
        update: Update,
        module: nn.Module,
        average: nn.Module | None,
        world_size: int,
        scaled: bool,
    ):
        self.optimizer, self.update, self.world_size = optimizer, update, world_size
        self.base_rate, self.decay = float(optimizer.param_groups[0]["lr"]), update.ema
        self.parameters = list(module.parameters())
        self.buffers = _buffers(module)
        self.average = None if average is None else [*average.parameters(), *_buffers(average)]
        # PyTorch: float16 gradients vanish below 6e-8 unless the loss is scaled (Micikevicius et al., 2018).
        self.scaler = torch.amp.GradScaler(self.parameters[0].device.type, enabled=scaled)

    def begin_step(self, learning_rate: Callable[[float], float], decay: float | None = None) -> None:
        """The learning rate of the step to come, from the one that the optimizer was made with, and the decay of the
        average, None for the one of `update`."""
        self.decay = self.update.ema if decay is None else decay
        optim.set_lr(self.optimizer, learning_rate(self.base_rate))

    def step(self, losses: Iterable[Tensor]) -> Tensor:
        """One update from the weighted losses of a batch's micro-batches; returns their sum."""
        self.optimizer.zero_grad()  # PyTorch: optimizer.step keeps the gradients
        total = torch.zeros((), device=self.parameters[0].device)
        for loss in losses:
            # PyTorch: of these parameters alone; a loss may lead through networks that others train.
            self.scaler.scale(loss).backward(inputs=self.parameters)
            total += loss.detach()
        if self.world_size > 1:
            distributed.add_up([parameter.grad for parameter in self.parameters if parameter.grad is not None])
            distributed.mean(self.buffers, self.world_size)
        self.scaler.unscale_(self.optimizer)
        if self.update.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.update.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None and self.decay is not None:
            with torch.no_grad():
                get_ema_multi_avg_fn(self.decay)(self.average, [*self.parameters, *self.buffers], None)
        return total

    def state(self, names: list[str]) -> dict[str, np.ndarray]:
        """ "step" and the moments of each parameter, "exp_avg.<name>"; names in the order of the parameters."""
        arrays = {}
        for number, moments in self.optimizer.state_dict()["state"].items():
            for key, value in moments.items():
                if value is not None:  # SGD without momentum keeps an empty buffer
                    arrays["step" if key == "step" else f"{key}.{names[number]}"] = np.array(value.cpu())
        scale = self.scaler.state_dict()
        if scale and scale["scale"] < 2**-14:
            raise Unsavable("float16 gradients overflow however small the loss is scaled: take bf16 or fp32")
        return arrays | {f"scaler.{key}": np.array(value, dtype=np.float64) for key, value in scale.items()}

    def load_state(self, names: list[str], arrays: dict[str, np.ndarray]) -> None:
        """Take back what `state` gave."""
        parameters = dict(zip(names, self.parameters, strict=True))
        for key, value in arrays.items():
            moment, _, owner = key.partition(".")
            if owner in parameters:  # in the memory layout of the parameter, as the fused updates want it
                moved = torch.empty_like(parameters[owner]).copy_(torch.from_numpy(value)).detach()
                self.optimizer.state[parameters[owner]][moment] = moved
        for parameter in self.parameters if "step" in arrays else ():
            self.optimizer.state[parameter]["step"] = torch.tensor(float(arrays["step"]))
        scale = {
            key.removeprefix("scaler."): value.item() for key, value in arrays.items() if key.startswith("scaler.")
        }
        if scale and self.scaler.is_enabled():
            self.scaler.load_state_dict(
                scale | {key: int(scale[key]) for key in ("growth_interval", "_growth_tracker")}
            )


def _buffers(module: nn.Module) -> list[Tensor]:
    return [buffer for name, buffer in module.named_buffers() if is_buffer(name)]

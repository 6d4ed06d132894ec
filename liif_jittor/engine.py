"""liif_core.engine's contract in Jittor."""

from collections.abc import Iterator

import jittor as jt
import numpy as np

from liif_core import coords
from liif_core.engine import State, choose_precision, require_decoder
from liif_core.initial import initial_parameters
from liif_jittor import methods, models, optim
from liif_jittor.models.features import encode


class Engine:
    """One model on one device."""

    def __init__(
        self,
        model_spec: dict,
        device: str = "cpu",
        method_spec: dict | None = None,
        optimizer_spec: dict | None = None,
        precision: str = "fp32",
    ):
        self.precision = choose_precision(precision, native_precisions(device), f"Jittor on this {device}")
        # Jittor: one device for the whole process, not one per variable.
        jt.flags.use_cuda = int(device == "cuda")
        self.model = models.make(model_spec)
        require_decoder(self.model, model_spec)
        self.device_kind = device
        self.halo = self.model.encoder.halo
        self.names = [name for name, _ in self.model.named_parameters()]
        self.losses: list[jt.Var] = []
        self.optimizer = None
        if optimizer_spec is not None:
            self.optimizer = optim.make(optimizer_spec, params=list(self.model.parameters()))
            self.method = methods.make(method_spec, model=self.model, optimizer=self.optimizer)

    def seed(self, seed: int) -> None:
        jt.set_global_seed(seed)
        shapes = {name: tuple(p.shape) for name, p in self.model.named_parameters()}
        self.load_state(State(initial_parameters(shapes, seed)))

    def set_lr(self, learning_rate: float) -> None:
        optim.set_lr(self.optimizer, learning_rate)

    # Jittor: no train() and eval() here. eval() stops the gradients of all parameters, and no layer of these models
    # behaves differently in training.
    def train_step(self, batch: dict[str, np.ndarray]) -> None:
        on_device = {"inp": self._images(batch["inp"]), "gt": self._tensor(batch["gt"])}
        self.losses.append(self.method.step({**batch, **on_device}))

    def read_losses(self) -> list[float]:
        losses, self.losses = self.losses, []
        return [loss.item() for loss in losses]

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        with jt.no_grad():
            return self.model(self._images(inp), coord, cell).numpy()

    def predict_image(
        self, inp: np.ndarray, height: int, width: int, tile: int | None = None, window: coords.Window = coords.WHOLE
    ) -> Iterator[np.ndarray]:
        features = encode(self.model.encoder, self._images(inp), tile)
        bands = self.model.decode_image(features, height, width, window)
        while True:
            # Jittor: no_grad is a global flag and must not stay set while the caller has the band.
            with jt.no_grad():
                band = next(bands, None)
                if band is None:
                    return
                array = band.numpy()
            yield array

    def state(self) -> State:
        parameters = {name: p.numpy() for name, p in self.model.named_parameters()}
        return State(parameters, optim.state(self.optimizer, self.names) if self.optimizer else {})

    def load_state(self, state: State) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.assign(jt.array(state.parameters[name]))
        if state.optimizer and self.optimizer:
            optim.load_state(self.optimizer, self.names, state.optimizer)

    def _tensor(self, array: np.ndarray) -> jt.Var:
        return jt.array(array)

    def _images(self, array: np.ndarray) -> jt.Var:
        return self._tensor(array)


def native_precisions(device: str) -> list[str]:
    """What the device computes without emulating it, the best for pictures first."""
    # Jittor: naive code for 16 bits on the CPU, 500 times slower; its mixed precision on GPUs has not been tried here.
    return ["fp32"]

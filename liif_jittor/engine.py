"""liif_core.engine's contract in Jittor."""

from collections.abc import Iterator

import jittor as jt
import numpy as np

from liif_core.engine import PLAIN, State, Update, choose_precision, require_decoder, split
from liif_core.geometry import coords
from liif_core.system.memory import peak_resident_memory
from liif_core.training.initial import initial_parameters
from liif_jittor import distributed, optim, updates
from liif_jittor.methods import build as methods
from liif_jittor.models import build as models
from liif_jittor.models.decoders.features import encode


class Engine:
    """One model on one device."""

    def __init__(
        self,
        model_spec: dict,
        device: str = "cpu",
        method_spec: dict | None = None,
        optimizer_spec: dict | None = None,
        precision: str = "fp32",
        update: Update = PLAIN,
    ):
        self.precision = choose_precision(precision, native_precisions(device), f"Jittor on this {device}")
        # Jittor: one device for the whole process, not one per variable.
        jt.flags.use_cuda = int(device == "cuda")
        self.model = models.make(model_spec)
        require_decoder(self.model, model_spec)
        self.device_kind = device
        self.receptive_radius = self.model.encoder.receptive_radius
        self.names = [name for name, _ in self.model.named_parameters()]
        self.losses: list[jt.Var] = []
        self.average = None
        self.updater = None
        self.world_size = 1
        if optimizer_spec is not None:
            self.world_size = distributed.join(device)
            if update.ema is not None:
                self.average = models.make(model_spec)
            average = list(self.average.parameters()) if self.average else None
            optimizer = optim.make(optimizer_spec, params=list(self.model.parameters()))
            self.updater = updates.Updater(optimizer, update, average, self.world_size, scaled=self.precision == "fp16")
            self.method = methods.make(method_spec, model=self.model, updater=self.updater)
        self.predictor = self.average or self.model

    def seed(self, seed: int) -> None:
        shapes = {name: tuple(p.shape) for name, p in self.model.named_parameters()}
        self.load_state(State(initial_parameters(shapes, seed)))

    def begin_step(self, random_seed: int, learning_rate: float) -> None:
        jt.set_seed(random_seed)
        optim.set_lr(self.updater.optimizer, learning_rate)

    # Jittor: no train() and eval() here. eval() stops the gradients of all parameters, and no layer of these models
    # behaves differently in training.
    def train_step(self, batch: dict[str, np.ndarray], weight: float = 1.0) -> None:
        micro_batches = split(batch, self.updater.update.accumulate, weight)
        on_device = [
            micro_batch | {"inp": self._images(micro_batch["inp"]), "gt": self._tensor(micro_batch["gt"])}
            for micro_batch in micro_batches
        ]
        self.losses.append(self.method.step(on_device))

    def read_losses(self) -> list[float]:
        losses, self.losses = self.losses, []
        return self.total(np.array([loss.item() for loss in losses])).tolist() if losses else []

    def total(self, values: np.ndarray) -> np.ndarray:
        return distributed.total(values, self.device_kind) if self.world_size > 1 else values

    def peak_memory(self) -> int:
        # Jittor: says what it has on the GPU now, not what it had.
        return jt.get_mem_info().total_cuda_used if self.device_kind == "cuda" else peak_resident_memory()

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        with jt.no_grad():
            return self.predictor(self._images(inp), coord, cell).numpy()

    def predict_image(
        self, inp: np.ndarray, height: int, width: int, tile: int | None = None, window: coords.Window = coords.WHOLE
    ) -> Iterator[np.ndarray]:
        features = encode(self.predictor.encoder, self._images(inp), tile)
        bands = self.predictor.decode_image(features, height, width, window)
        while True:
            # Jittor: no_grad is a global flag and must not stay set while the caller has the band.
            with jt.no_grad():
                band = next(bands, None)
                if band is None:
                    return
                array = band.numpy()
            yield array

    def state(self) -> State:
        optimizer = self.updater.state(self.names) if self.updater else {}
        return State(_arrays(self.model), optimizer, _arrays(self.average) if self.average else {})

    def load_state(self, state: State) -> None:
        _load(self.model, state.parameters if self.updater else state.weights)
        if self.average:
            _load(self.average, state.weights)
        if state.optimizer and self.updater:
            self.updater.load_state(self.names, state.optimizer)

    def _tensor(self, array: np.ndarray) -> jt.Var:
        return jt.array(array)

    def _images(self, array: np.ndarray) -> jt.Var:
        return self._tensor(array)


def _arrays(model: jt.Module) -> dict[str, np.ndarray]:
    return {name: parameter.numpy() for name, parameter in model.named_parameters()}


def _load(model: jt.Module, arrays: dict[str, np.ndarray]) -> None:
    for name, parameter in model.named_parameters():
        parameter.assign(jt.array(arrays[name]))


def native_precisions(device: str) -> list[str]:
    """What the device computes without emulating it, the best for images first."""
    # Jittor: naive code for 16 bits on the CPU, 500 times slower; its mixed precision on GPUs has not been tried here.
    return ["fp32"]

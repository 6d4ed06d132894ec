"""liif_core.engine's contract in PyTorch."""

from collections.abc import Iterator

import numpy as np
import torch

from liif_core.engine import PLAIN, State, Update, choose_precision, require_decoder, split
from liif_core.geometry import coords
from liif_core.system.devices import cpu_has_bf16
from liif_core.system.memory import peak_resident_memory
from liif_core.training.initial import initial_parameters
from liif_torch import distributed, optim, updates
from liif_torch.methods import build as methods
from liif_torch.models import build as models
from liif_torch.models.decoders.features import encode

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# PyTorch: cuDNN would round float32 convolutions to TF32, three decimal digits.
torch.backends.cudnn.allow_tf32 = False


class Engine:
    """One model on one device. Images travel channels last, which is how oneDNN and cuDNN like them."""

    def __init__(
        self,
        model_spec: dict,
        device: str = "cpu",
        method_spec: dict | None = None,
        optimizer_spec: dict | None = None,
        precision: str = "fp32",
        update: Update = PLAIN,
    ):
        self.device = torch.device(device)
        self.precision = choose_precision(precision, native_precisions(device), f"PyTorch on this {device}")
        self.model = models.make(model_spec).to(self.device, memory_format=torch.channels_last)
        require_decoder(self.model, model_spec)
        self.device_kind = device
        self.receptive_radius = self.model.encoder.receptive_radius
        self.names = [name for name, _ in self.model.named_parameters()]
        self.losses: list[torch.Tensor] = []
        self.average = None
        self.updater = None
        self.world_size = 1
        if optimizer_spec is not None:
            self.world_size = distributed.join(device)
            if update.ema is not None:
                self.average = models.make(model_spec).to(self.device, memory_format=torch.channels_last)
            average = list(self.average.parameters()) if self.average else None
            optimizer = optim.make(optimizer_spec, params=list(self.model.parameters()))
            self.updater = updates.Updater(optimizer, update, average, self.world_size, scaled=self.precision == "fp16")
            self.method = methods.make(method_spec, model=self._forward, updater=self.updater)
        self.predictor = self.average or self.model

    def seed(self, seed: int) -> None:
        shapes = {name: tuple(p.shape) for name, p in self.model.named_parameters()}
        self.load_state(State(initial_parameters(shapes, seed)))

    def begin_step(self, random_seed: int, learning_rate: float) -> None:
        torch.manual_seed(random_seed)
        optim.set_lr(self.updater.optimizer, learning_rate)

    def train_step(self, batch: dict[str, np.ndarray], weight: float = 1.0) -> None:
        self.model.train()
        micro_batches = split(batch, self.updater.update.accumulate, weight)
        on_device = [
            micro_batch | {"inp": self._images(micro_batch["inp"]), "gt": self._tensor(micro_batch["gt"])}
            for micro_batch in micro_batches
        ]
        self.losses.append(self.method.step(on_device))

    def read_losses(self) -> list[float]:
        losses, self.losses = self.losses, []
        return self.total(np.array(torch.stack(losses).tolist())).tolist() if losses else []

    def total(self, values: np.ndarray) -> np.ndarray:
        return distributed.total(values, self.device) if self.world_size > 1 else values

    def peak_memory(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device_kind == "cuda" else peak_resident_memory()

    @torch.no_grad()
    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        self.predictor.eval()
        with self._arithmetic():
            return self.predictor(self._images(inp), coord, cell).float().cpu().numpy()

    @torch.no_grad()
    def predict_image(
        self, inp: np.ndarray, height: int, width: int, tile: int | None = None, window: coords.Window = coords.WHOLE
    ) -> Iterator[np.ndarray]:
        self.predictor.eval()
        features = encode(self.predictor.encoder, self._images(inp), tile)
        bands = self.predictor.decode_image(features, height, width, window)
        while True:
            # PyTorch: autocast is a global setting and must not stay set while the caller has the band.
            with self._arithmetic():
                band = next(bands, None)
                if band is None:
                    return
                array = band.float().cpu().numpy()
            yield array

    def _forward(self, inp: torch.Tensor, coord: np.ndarray, cell: np.ndarray) -> torch.Tensor:
        with self._arithmetic():
            return self.model(inp, coord, cell)

    def _arithmetic(self) -> torch.autocast:
        """Convolutions and products in 16 bits, if asked for; the models keep coordinates and sums in float32."""
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32)

    def state(self) -> State:
        optimizer = self.updater.state(self.names) if self.updater else {}
        return State(_arrays(self.model), optimizer, _arrays(self.average) if self.average else {})

    def load_state(self, state: State) -> None:
        _load(self.model, state.parameters if self.updater else state.weights)
        if self.average:
            _load(self.average, state.weights)
        if state.optimizer and self.updater:
            self.updater.load_state(self.names, state.optimizer)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _images(self, array: np.ndarray) -> torch.Tensor:
        return self._tensor(array).contiguous(memory_format=torch.channels_last)


def _arrays(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: np.array(parameter.detach().cpu()) for name, parameter in model.named_parameters()}


@torch.no_grad()
def _load(model: torch.nn.Module, arrays: dict[str, np.ndarray]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.tensor(arrays[name]))


def native_precisions(device: str) -> list[str]:
    """What the device computes without emulating it, the best for images first."""
    if device == "cpu":
        return ["bf16", "fp32"] if cpu_has_bf16() else ["fp32"]
    tensor_cores = torch.cuda.get_device_capability()[0]
    return [*(["bf16"] if tensor_cores >= 8 else []), *(["fp16"] if tensor_cores >= 7 else []), "fp32"]

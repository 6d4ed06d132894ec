"""liif_core.engine's contract in PyTorch."""

from collections.abc import Iterator

import numpy as np
import torch

from liif_core import coords
from liif_core.engine import State, choose_precision, require_decoder
from liif_core.environment import cpu_has_bf16
from liif_core.initial import initial_parameters
from liif_torch import methods, models, optim
from liif_torch.models.features import encode

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
    ):
        self.device = torch.device(device)
        self.precision = choose_precision(precision, native_precisions(device), f"PyTorch on this {device}")
        self.model = models.make(model_spec).to(self.device, memory_format=torch.channels_last)
        require_decoder(self.model, model_spec)
        self.device_kind = device
        self.halo = self.model.encoder.halo
        self.names = [name for name, _ in self.model.named_parameters()]
        self.losses: list[torch.Tensor] = []
        self.optimizer = None
        if optimizer_spec is not None:
            self.optimizer = optim.make(optimizer_spec, params=list(self.model.parameters()))
            self.method = methods.make(method_spec, model=self._forward, optimizer=self.optimizer)

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)
        shapes = {name: tuple(p.shape) for name, p in self.model.named_parameters()}
        self.load_state(State(initial_parameters(shapes, seed)))

    def set_lr(self, learning_rate: float) -> None:
        optim.set_lr(self.optimizer, learning_rate)

    def train_step(self, batch: dict[str, np.ndarray]) -> None:
        self.model.train()
        on_device = {"inp": self._images(batch["inp"]), "gt": self._tensor(batch["gt"])}
        self.losses.append(self.method.step({**batch, **on_device}))

    def read_losses(self) -> list[float]:
        losses, self.losses = self.losses, []
        return torch.stack(losses).tolist() if losses else []

    @torch.no_grad()
    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        self.model.eval()
        return self._forward(self._images(inp), coord, cell).float().cpu().numpy()

    @torch.no_grad()
    def predict_image(
        self, inp: np.ndarray, height: int, width: int, tile: int | None = None, window: coords.Window = coords.WHOLE
    ) -> Iterator[np.ndarray]:
        self.model.eval()
        features = encode(self.model.encoder, self._images(inp), tile)
        bands = self.model.decode_image(features, height, width, window)
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
        parameters = {name: np.array(p.detach().cpu()) for name, p in self.model.named_parameters()}
        return State(parameters, optim.state(self.optimizer, self.names) if self.optimizer else {})

    def load_state(self, state: State) -> None:
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(torch.tensor(state.parameters[name]))
        if state.optimizer and self.optimizer:
            optim.load_state(self.optimizer, self.names, state.optimizer)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _images(self, array: np.ndarray) -> torch.Tensor:
        return self._tensor(array).contiguous(memory_format=torch.channels_last)


def native_precisions(device: str) -> list[str]:
    """What the device computes without emulating it, the best for pictures first."""
    if device == "cpu":
        return ["bf16", "fp32"] if cpu_has_bf16() else ["fp32"]
    tensor_cores = torch.cuda.get_device_capability()[0]
    return [*(["bf16"] if tensor_cores >= 8 else []), *(["fp16"] if tensor_cores >= 7 else []), "fp32"]

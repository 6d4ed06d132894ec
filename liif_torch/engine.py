"""liif_core.engine's contract in PyTorch."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

from liif_core.engine import MODEL, PLAIN, REGRESSION, State, Update, choose_precision, require_samples, split
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.system.devices import cpu_has_bf16
from liif_core.system.memory import peak_resident_memory
from liif_torch import distributed
from liif_torch.methods import build as methods
from liif_torch.networks import Backend, set_training


class Engine:
    """A method with its networks on one device."""

    def __init__(
        self,
        model_spec: dict,
        device: str = "cpu",
        method_spec: dict | None = None,
        optimizer_spec: dict | None = None,
        precision: str = "fp32",
        update: Update = PLAIN,
    ):
        found = find_device(device)
        self.device_kind = found.type
        self.precision = choose_precision(precision, native_precisions(found), f"PyTorch on this {self.device_kind}")
        self.world_size = 1
        if optimizer_spec is not None:
            # PyTorch: cuDNN would round float32 convolutions to TF32, three decimal digits, in backward passes too.
            torch.backends.cudnn.allow_tf32 = False
            self.world_size = distributed.join(self.device_kind)
        self.backend = Backend(model_spec, found, self.precision, optimizer_spec, update, self.world_size)
        self.method_spec = method_spec or REGRESSION
        self.method = methods.make(self.method_spec, backend=self.backend)
        self.networks = self.method.networks
        self.receptive_radius = self.method.receptive_radius
        self.scale, self.preupsampled = self.networks[MODEL].scale, self.networks[MODEL].preupsampled
        self.losses: list[dict[str, torch.Tensor]] = []

    def seed(self, seed: int) -> None:
        for name, network in self.networks.items():
            network.seed(seed, name)

    def begin_step(self, random_seed: int, learning_rate: Callable[[float], float], decay: float | None = None) -> None:
        torch.manual_seed(random_seed)
        for network in self.networks.values():
            if network.updater:
                network.updater.begin_step(learning_rate, decay)

    def train_step(self, batch: dict[str, np.ndarray], weight: float = 1.0) -> None:
        for network in self.networks.values():
            set_training(network.module, network.updater is not None)
        self.losses.append(self.method.step(split(batch, self.backend.update.accumulate, weight)))

    def read_losses(self) -> list[dict[str, float]]:
        steps, self.losses = self.losses, []
        if not steps:
            return []
        rows = [torch.stack([losses.float() for losses in step.values()]) for step in steps]
        totals = self.total(np.array(torch.stack(rows).tolist()))
        return [dict(zip(steps[0], row, strict=True)) for row in totals.tolist()]

    def total(self, values: np.ndarray) -> np.ndarray:
        return distributed.total(values, self.backend.device) if self.world_size > 1 else values

    def peak_memory(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device_kind == "cuda" else peak_resident_memory()

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        return self.method.predict_queries(inp, coord, cell)

    def encode(
        self,
        inp: np.ndarray,
        tile: int | None = None,
        part: coords.Part = coords.EVERYTHING,
        known: bool = False,
    ) -> torch.Tensor:
        return self.networks[MODEL].encode(inp, tile, part, known)

    def decode(self, features: torch.Tensor, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        return self.networks[MODEL].decode(features, coord, cell)

    def decode_image(
        self, features: torch.Tensor, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[np.ndarray]:
        return self.networks[MODEL].decode_image(features, height, width, window)

    def predict_image(
        self,
        inp: np.ndarray,
        height: int,
        width: int,
        tile: int | None = None,
        window: coords.Window = coords.WHOLE,
        noise: np.random.Generator | None = None,
    ) -> Iterator[np.ndarray]:
        return self.method.predict_image(inp, height, width, tile, window, noise)

    def sample(
        self,
        count: int,
        height: int,
        width: int,
        noise: np.random.Generator,
        inp: np.ndarray | None = None,
        process: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        require_samples(self.method, self.method_spec)
        return self.method.sample(count, height, width, noise, inp, process)

    def state(self) -> State:
        return {name: network.state() for name, network in self.networks.items()}

    def load_state(self, state: State) -> None:
        for name, network in self.networks.items():
            if name in state:
                network.load_state(state[name])


def find_device(name: str) -> torch.device:
    """The device of that name: see liif_core.engine.Engine. Raises UserError for one that is not there."""
    count = torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if count else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"device '{name}': PyTorch sees {count or 'no'} GPU{'s' * (count > 1)} here; 'cpu' is there")
    return device


def native_precisions(device: str | torch.device) -> list[str]:
    """What the device computes without emulating it, the best for images first."""
    if torch.device(device).type == "cpu":
        return ["bf16", "fp32"] if cpu_has_bf16() else ["fp32"]
    tensor_cores = torch.cuda.get_device_capability(device)[0]
    return [*(["bf16"] if tensor_cores >= 8 else []), *(["fp16"] if tensor_cores >= 7 else []), "fp32"]

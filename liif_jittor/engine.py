"""liif_core.engine's contract in Jittor."""

import os
from collections.abc import Callable, Iterator

import jittor as jt
import numpy as np

from liif_core.engine import MODEL, PLAIN, REGRESSION, State, Update, choose_precision, require_samples, split
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.system import jittor_headers
from liif_core.system.memory import peak_resident_memory
from liif_jittor import distributed
from liif_jittor.methods import build as methods
from liif_jittor.networks import Backend, set_training


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
        device = find_device(device)
        self.device_kind = device
        self.precision = choose_precision(precision, native_precisions(device), f"Jittor on this {device}")
        # Jittor: one device for the whole process, not one per variable.
        jt.flags.use_cuda = int(device == "cuda")
        # Jittor: what every operator includes is read once, not for a second by each.
        jt.flags.cc_flags = jittor_headers.precompile(
            jt.flags.cc_path, jt.flags.cc_flags, jt.compiler.cache_path, os.path.join(jt.compiler.jittor_path, "src")
        )
        self.world_size = distributed.join(device) if optimizer_spec is not None else 1
        self.backend = Backend(model_spec, device, self.precision, optimizer_spec, update, self.world_size)
        self.method_spec = method_spec or REGRESSION
        self.method = methods.make(self.method_spec, backend=self.backend)
        self.networks = self.method.networks
        self.receptive_radius = self.method.receptive_radius
        self.scale, self.preupsampled = self.networks[MODEL].scale, self.networks[MODEL].preupsampled
        self.losses: list[dict[str, jt.Var]] = []

    def seed(self, seed: int) -> None:
        for name, network in self.networks.items():
            network.seed(seed, name)

    def begin_step(self, random_seed: int, learning_rate: Callable[[float], float], decay: float | None = None) -> None:
        jt.set_seed(random_seed)
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
        totals = self.total(np.array([[loss.item() for loss in step.values()] for step in steps]))
        return [dict(zip(steps[0], row, strict=True)) for row in totals.tolist()]

    def total(self, values: np.ndarray) -> np.ndarray:
        return distributed.total(values, self.device_kind) if self.world_size > 1 else values

    def peak_memory(self) -> int:
        # Jittor: says what it has on the GPU now, not what it had.
        return jt.get_mem_info().total_cuda_used if self.device_kind == "cuda" else peak_resident_memory()

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        return self.method.predict_queries(inp, coord, cell)

    def encode(
        self,
        inp: np.ndarray,
        tile: int | None = None,
        part: coords.Part = coords.EVERYTHING,
        known: bool = False,
    ) -> jt.Var:
        return self.networks[MODEL].encode(inp, tile, part, known)

    def decode(self, features: jt.Var, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        return self.networks[MODEL].decode(features, coord, cell)

    def decode_image(
        self, features: jt.Var, height: int, width: int, window: coords.Window = coords.WHOLE
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


def find_device(name: str) -> str:
    """ "cpu" or "cuda" for a name: see liif_core.engine.Engine. Raises UserError for a device that is not there."""
    if name == "auto":
        name = "cuda" if jt.has_cuda else "cpu"
    # Jittor: takes the first GPU that is visible when it is imported, and has CUDA only if it found it then.
    if name not in ("cpu", "cuda", "cuda:0"):
        raise UserError(f"device '{name}': Jittor takes the first GPU of CUDA_VISIBLE_DEVICES, which is 'cuda'")
    if name != "cpu" and not jt.has_cuda:
        raise UserError(f"device '{name}': Jittor has no CUDA in this process, `liif doctor` says why; 'cpu' is there")
    return name.removesuffix(":0")


def native_precisions(device: str) -> list[str]:
    """What the device computes without emulating it, the best for images first."""
    # Jittor: naive code for 16 bits on the CPU, 500 times slower; its mixed precision on GPUs has not been tried here.
    return ["fp32"]

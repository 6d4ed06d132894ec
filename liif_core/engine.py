"""The contract each tree fulfils: all that training and evaluation know of a framework.

Arrays that cross this border are numpy. Letters: B batch, Q queries, H W low-resolution, h w output.
Images are already normalised (liif_core.images.normalisation) and predictions come back as the network
gives them; clamping and metrics are the core's business.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from liif_core.errors import UserError
from liif_core.geometry import coords


@dataclass
class State:
    """Everything needed to resume exactly.

    parameters: by LIIF's names ("encoder.head.0.weight"). optimizer: moments under
    "exp_avg.<parameter>" and so on, and the number of updates under "step"; the same in both trees.
    average: the moving average of the parameters, empty where none is kept.
    """

    parameters: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray] = field(default_factory=dict)
    average: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """What to predict with: the average where one is kept."""
        return self.average or self.parameters


@dataclass(frozen=True)
class Update:
    """How losses become an update: `accumulate`, `clip_grad` and `ema` of liif_core.config.schema.TrainConfig."""

    accumulate: int = 1
    clip_grad: float | None = None
    ema: float | None = None


PLAIN = Update()


def split(batch: dict[str, np.ndarray], count: int, weight: float) -> list[dict]:
    """A batch in `count` micro-batches, or as many as it has samples; each with its "weight" in the step.

    weight: of the whole batch, which is 1 unless other processes have the rest. The micro-batches are those that as
    many processes would get (liif_core.data.batching).
    """
    size = len(batch["inp"])
    micro_batches = []
    for indices in np.array_split(np.arange(size), min(count, size)):
        rows = slice(indices[0], indices[-1] + 1)  # a view, which keeps the memory layout
        micro_batches.append(
            {key: array[rows] for key, array in batch.items()} | {"weight": weight * len(indices) / size}
        )
    return micro_batches


def require_decoder(model: Any, spec: dict) -> None:
    """Raise UserError for a model that cannot be asked for images, such as an encoder alone."""
    if not hasattr(model, "decode_image"):
        raise UserError(f"model '{spec['name']}' gives features, not images: put it into the encoder_spec of 'liif'")


PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def choose_precision(precision: str, native: list[str], where: str) -> str:
    """The precision to compute in: `precision`, or for "auto" the first of `native`.

    Raises UserError for one that the framework and device, called `where`, would have to emulate.
    """
    if precision == "auto":
        return native[0]
    if precision not in native:
        raise UserError(f"precision '{precision}': {where} computes in {' or '.join(native)}")
    return precision


class Engine(Protocol):
    """One model on one device, with the means to train it and to ask it for pixels.

    device_kind: "cpu" or "cuda". receptive_radius: how many pixels away from its own a feature vector of the encoder
    sees; None for the whole image. With `update.ema` predictions are those of the average.
    """

    device_kind: str
    receptive_radius: int | None

    def __init__(
        self,
        model_spec: dict,
        device: str = "cpu",
        method_spec: dict | None = None,
        optimizer_spec: dict | None = None,
        precision: str = "fp32",
        update: Update = PLAIN,
    ):
        """Build from specs; without method and optimizer it can only predict. device: "cpu" or "cuda".

        precision: "fp32", or "bf16" or "fp16" for convolutions and matrix products where the device has them, or
        "auto". Parameters, coordinates, sums over corners, losses and updates stay in float32.
        """

    def seed(self, seed: int) -> None:
        """Set the initial parameters (liif_core.training.initial)."""

    def begin_step(self, random_seed: int, learning_rate: float) -> None:
        """The framework's random numbers and the learning rate of the step to come."""

    def train_step(self, batch: dict[str, np.ndarray], weight: float = 1.0) -> None:
        """One optimisation step. The loss stays on the device: this does not wait for it.

        batch: inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2), gt (B, Q, 3), all float32. weight: how much of
        the step's samples it holds; other processes, which share the parameters, hold the rest.
        """

    def read_losses(self) -> list[float]:
        """The losses of the steps since the last call, of all processes: the one place that waits for the device."""

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of float64 `values` over all processes that train together; each has to call this."""

    def peak_memory(self) -> int:
        """Bytes: on the CPU the most that this process has had resident so far, on a GPU the most that it has had there
        (or has now, where the framework does not say).
        """

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """(B, Q, 3) float32 at the queries of (B, 3, H, W) images."""

    def predict_image(
        self, inp: np.ndarray, height: int, width: int, tile: int | None = None, window: coords.Window = coords.WHOLE
    ) -> Iterator[np.ndarray]:
        """The image (1, 3, H, W), or a window of it, at height x width: from top to bottom in bands (rows, width, 3).

        tile: side in pixels of the tiles in which it is encoded, 0 for all at once, None to choose by the encoder and
        the device (liif_core.geometry.tiling).
        """

    def state(self) -> State:
        """Parameters, their average and the optimizer's state as numpy arrays."""

    def load_state(self, state: State) -> None:
        """Take them back; an empty `optimizer` leaves the optimizer as it is, without `average` it starts here."""

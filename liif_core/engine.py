"""The contract each tree fulfils: all that training and evaluation know of a framework.

Arrays that cross this border are numpy. Letters: B batch, Q queries, H W low-resolution, h w output.
Images are already normalised (liif_core.images.normalisation) and predictions come back as the network
gives them; clamping and metrics are the core's business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from liif_core.errors import UserError
from liif_core.geometry import coords

REGRESSION = {"name": "regression", "args": {}}  # the method of checkpoints and configs that name none

# Statistics that a layer keeps beside its parameters, by the last part of their names. PyTorch's count of batches,
# num_batches_tracked, decides nothing here and is not kept; Jittor lists statistics among the parameters.
BUFFERS = ("running_mean", "running_var")


def is_buffer(name: str) -> bool:
    """Whether a variable of this name is a statistic: kept, averaged and resumed, but not trained."""
    return name.rpartition(".")[2] in BUFFERS


@dataclass
class NetworkState:
    """Everything needed to resume one network exactly.

    parameters: by LIIF's names ("encoder.head.0.weight"). optimizer: moments under "exp_avg.<parameter>" and so on, and
    the number of updates under "step"; the same in both trees; empty for a network that is not trained. average: the
    moving average of parameters and buffers, empty where none is kept. buffers: the statistics of BatchNorm, by their
    names.
    """

    parameters: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray] = field(default_factory=dict)
    average: dict[str, np.ndarray] = field(default_factory=dict)
    buffers: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, np.ndarray]:
        """Parameters and buffers, as they are trained."""
        return self.parameters | self.buffers

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """What to predict with, buffers too: the average where one is kept."""
        return self.average or self.variables


# The networks of a method by name. The one called MODEL predicts, and is what the config's `model` describes.
State = dict[str, NetworkState]
MODEL = "model"


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
    size = len(next(iter(batch.values())))
    micro_batches = []
    for indices in np.array_split(np.arange(size), min(count, size)):
        rows = slice(indices[0], indices[-1] + 1)  # a view, which keeps the channels where they lie in memory
        micro_batches.append(
            {key: array[rows] for key, array in batch.items()} | {"weight": weight * len(indices) / size}
        )
    return micro_batches


def require_kind(model: Any, spec: dict, denoises: bool) -> None:
    """Raise UserError for a model that its method cannot ask: for images, such as an encoder alone, or, if the method
    denoises, for noise."""
    if denoises != hasattr(model, "told"):
        gives = "images, not noise: method 'diffusion' takes" if denoises else "noise, not images: take the method"
        known = "sr3-unet or ddpm-unet" if denoises else "'diffusion'"
        raise UserError(f"model '{spec['name']}' gives {gives} {known}")
    if not hasattr(model, "decode_image") and getattr(model, "out_dim", None) != 3:
        raise UserError(f"model '{spec['name']}' gives features, not images: put it into the encoder_spec of 'liif'")


def require_condition(conditional: bool, inp: np.ndarray | None) -> None:
    """Raise UserError for an image that a network which makes images of noise alone gets, and for none where it is to
    be upscaled."""
    if conditional and inp is None:
        raise UserError("this model upscales an image, and none was given: samples without one are of other models")
    if not conditional and inp is not None:
        raise UserError("this model makes images of noise alone and upscales none: draw samples of it instead")


def require_samples(method: Any, spec: dict) -> None:
    """Raise UserError for a method that does not make images of noise."""
    if not hasattr(method, "sample"):
        raise UserError(f"method '{spec['name']}' draws no samples, 'diffusion' does: take a model of that method")


def encoder_of(model: Any) -> Any:
    """What makes a model's features; what decodes nothing is its own encoder, such as a model of one factor, whose
    features are the image."""
    return model.encoder if hasattr(model, "decode_image") else model


def receptive_radius(model: Any) -> int | None:
    """How many pixels away from its own an answer of a model sees: what its encoder does; None, the whole image, where
    queries are answered together."""
    return None if getattr(model, "joint_queries", False) else encoder_of(model).receptive_radius


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
    """A method with its networks on one device, with the means to train them and to ask for pixels.

    device_kind: "cpu" or "cuda". receptive_radius: how many pixels away from its own a feature vector of the encoder
    sees; None for the whole image. scale: the one factor of a model that has no other, None for any. preupsampled:
    whether it takes images that have been upscaled by that factor with Pillow's bicubic, in 8 bits. With `update.ema`
    predictions are those of the average. networks: by name, MODEL first; the `predictor` of each is the framework's
    module that predicts.
    """

    device_kind: str
    networks: dict[str, Any]
    receptive_radius: int | None
    scale: int | None
    preupsampled: bool

    def __init__(
        self,
        model_spec: dict,
        device: str = "cpu",
        method_spec: dict | None = None,
        optimizer_spec: dict | None = None,
        precision: str = "fp32",
        update: Update = PLAIN,
    ):
        """Build from specs; without an optimizer it can only predict. method_spec: None is REGRESSION.

        device: "cpu", "cuda", "auto" for the GPU where there is one, or one of several like "cuda:1" where the
        framework can choose. Raises UserError for one that is not there.

        precision: "fp32", or "bf16" or "fp16" for convolutions and matrix products where the device has them, or
        "auto". Parameters, coordinates, sums over corners, losses and updates stay in float32.
        """

    def seed(self, seed: int) -> None:
        """Set the initial parameters of all networks (liif_core.training.initial)."""

    def begin_step(self, random_seed: int, learning_rate: Callable[[float], float], decay: float | None = None) -> None:
        """The framework's random numbers, the learning rate of the step to come, from each optimizer's own base, and
        the decay of the average of the weights in it, None for that of `update`."""

    def train_step(self, batch: dict[str, np.ndarray], weight: float = 1.0) -> None:
        """One step of the method. The losses stay on the device: this does not wait for them.

        batch: float32 arrays whose first axis counts samples; which ones is between the wrapper and the method. For
        regression inp (B, 3, H, W), coord (B, Q, 2) in [-1, 1], cell (B, 2), gt (B, Q, 3), or, of a model of one
        factor, inp and gt (B, 3, h, w). weight: how much of the step's samples it holds; other processes, which share
        the parameters, hold the rest.
        """

    def read_losses(self) -> list[dict[str, float]]:
        """The losses of the steps since the last call, of all processes, by name: the one place that waits for the
        device. Every method has a "loss"."""

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of float64 `values` over all processes that train together; each has to call this."""

    def peak_memory(self) -> int:
        """Bytes: on the CPU the most that this process has had resident so far, on a GPU the most that it has had there
        (or has now, where the framework does not say).
        """

    def predict_queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """(B, Q, 3) float32 at the queries of (B, 3, H, W) images."""

    def encode(
        self,
        inp: np.ndarray,
        tile: int | None = None,
        part: coords.Part = coords.EVERYTHING,
        known: bool = False,
    ) -> Any:
        """The feature map (1, C, H, W) of the image (1, 3, H, W), or its rows and columns `part` alone, left on the
        device. tile: as in predict_image. known: for decode_image, what the decoder makes of the features at any
        factor, (H, W, K), of one that has such a step."""

    def decode(self, features: Any, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """(B, Q, 3) float32 at the queries of feature maps (B, C, H, W). coord: (B, Q, 2). cell: (B, 1 or Q, 2)."""

    def decode_image(
        self, features: Any, height: int, width: int, window: coords.Window = coords.WHOLE
    ) -> Iterator[np.ndarray]:
        """predict_image of a model of any factor from what `encode` gave of the image as `known`."""

    def predict_image(
        self,
        inp: np.ndarray,
        height: int,
        width: int,
        tile: int | None = None,
        window: coords.Window = coords.WHOLE,
        noise: np.random.Generator | None = None,
    ) -> Iterator[np.ndarray]:
        """The image (1, 3, H, W), or a window of it, at height x width: from top to bottom in bands (rows, width, 3).
        A model of one factor is asked for the whole image at that factor, and for nothing else.

        tile: side in pixels of the tiles in which it is encoded, 0 for all at once, None to choose by the encoder and
        the device (liif_core.geometry.tiling). noise: where a method that draws takes its random numbers from, so that
        both frameworks draw the same (liif_core.data.sampling.noise).
        """

    def sample(
        self,
        count: int,
        height: int,
        width: int,
        noise: np.random.Generator,
        inp: np.ndarray | None = None,
        process: list[np.ndarray] | None = None,
    ) -> np.ndarray:
        """Images (count, height, width, 3) as the network gives them, of a method that makes them of noise.

        noise: spawns one generator per image, whose n-th numbers are those of the n-th step: image k of a generator is
        the same however many are asked for at once, and in both frameworks. inp: the condition (1 or count, 3, height,
        width) of a model that upscales. process: gets the images on the way, as liif_core.diffusion.samplers.shown
        chooses them. Raises UserError for another method, and for a condition that is missing or too much.
        """

    def state(self) -> State:
        """Everything of all networks, as numpy arrays."""

    def load_state(self, state: State) -> None:
        """Take them back; what a network's state lacks is as in the trees' networks.Network.load_state, and a network
        that `state` lacks stays as it is."""

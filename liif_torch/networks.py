"""The networks of a method in PyTorch: how they are made, what each of them holds, and how it predicts."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from liif_core.engine import MODEL, NetworkState, Update, encoder_of, is_buffer, require_kind
from liif_core.geometry import coords
from liif_core.training.initial import initial_parameters
from liif_torch import optim, updates
from liif_torch.models import build as models
from liif_torch.models.decoders.features import FeatureMap, KnownMap, encode, pixels

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CONSTANT_KINDS = {(nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm): "norm", (nn.PReLU,): "prelu"}


class Backend:
    """Where and how a method's networks compute, and what makes them.

    model_spec, optimizer_spec: the config's; without an optimizer nothing is trained, and `training` is False.
    precision: of convolutions and matrix products. world_size: of processes that train together. Images travel
    channels last, which is how oneDNN and cuDNN like them.
    """

    def __init__(
        self,
        model_spec: dict,
        device: torch.device,
        precision: str,
        optimizer_spec: dict | None,
        update: Update,
        world_size: int,
    ):
        self.model_spec, self.optimizer_spec = model_spec, optimizer_spec
        self.device, self.precision = device, precision
        self.update, self.world_size = update, world_size
        self.training = optimizer_spec is not None

    def model(self, denoises: bool = False) -> "Network":
        """The network that the config's `model` describes: the one that predicts. Raises UserError if it cannot give
        images or, for a method that denoises, noise."""
        network = self.network(self.model_spec, self.optimizer_spec, average=self.update.ema is not None)
        require_kind(network.module, self.model_spec, denoises)
        return network

    def network(self, spec: dict, optimizer_spec: dict | None = None, average: bool = False) -> "Network":
        """A network from its spec, with an optimizer of its own if it is trained, and a moving average on request."""
        module = self._module(spec)
        if optimizer_spec is None:
            return Network(self, module)
        mean = self._module(spec) if average else None
        optimizer = optim.make(optimizer_spec, params=list(module.parameters()))
        scaled = self.precision == "fp16"
        return Network(
            self, module, mean, updates.Updater(optimizer, self.update, module, mean, self.world_size, scaled)
        )

    def _module(self, spec: dict) -> nn.Module:
        # PyTorch: layers draw initial values, which are replaced; whoever else draws shall not notice.
        with torch.random.fork_rng(devices=[]):
            return models.make(spec).to(self.device, memory_format=torch.channels_last)

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array on the device."""
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def images(self, array: np.ndarray) -> Tensor:
        """Images (B, C, H, W) on the device, channels last."""
        return self.tensor(array).contiguous(memory_format=torch.channels_last)

    @contextlib.contextmanager
    def arithmetic(self) -> Iterator[None]:
        """Convolutions and products in 16 bits, if asked for; the models keep coordinates and sums in float32."""
        dtype, convolutions = DTYPES[self.precision], torch.backends.cudnn.conv  # type: ignore[attr-defined]
        before = convolutions.fp32_precision
        # PyTorch: cuDNN would round float32 convolutions to TF32, three decimal digits. The setting is given back.
        convolutions.fp32_precision = "ieee"
        try:
            with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
                yield
        finally:
            convolutions.fp32_precision = before


class Network:
    """module: what is trained. average: the moving average of its parameters and buffers, a second module. updater:
    liif_torch.updates', None for a network that is not trained."""

    def __init__(self, backend: Backend, module: nn.Module, average: nn.Module | None = None, updater: Any = None):
        self.backend, self.module, self.average, self.updater = backend, module, average, updater
        self.names = [name for name, _ in module.named_parameters()]

    @property
    def predictor(self) -> Any:
        """What predicts: the average where one is kept."""
        return self.module if self.average is None else self.average

    @property
    def encoder(self) -> Any:
        """Of what is trained: liif_core.engine.encoder_of."""
        return encoder_of(self.module)

    @property
    def scale(self) -> int | None:
        """The one factor of a model that has no other, None for any."""
        return getattr(self.module, "scale", None)

    @property
    def preupsampled(self) -> bool:
        """Whether it takes images that have been upscaled (liif_core.engine.Engine)."""
        return getattr(self.module, "conditional", False)

    def seed(self, seed: int, name: str) -> None:
        """Set the initial parameters (liif_core.training.initial) of the network that the method calls so."""
        shapes = {key: tuple(p.shape) for key, p in self.module.named_parameters()}
        prefix = "" if name == MODEL else f"{name}."
        orthogonal = getattr(self.module, "orthogonal", False)
        self.load_state(NetworkState(initial_parameters(shapes, seed, _kinds(self.module), prefix, orthogonal)))

    @torch.no_grad()
    def queries(self, inp: np.ndarray, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Engine.predict_queries with this network."""
        set_training(self.predictor, False)
        with self.backend.arithmetic():
            return self.predictor(self.backend.images(inp), coord, cell).float().cpu().numpy()

    @torch.no_grad()
    def encode(self, inp: np.ndarray, tile: int | None, part: coords.Part, known: bool) -> Tensor:
        """Engine.encode with this network."""
        set_training(self.predictor, False)
        with self.backend.arithmetic():
            features = encode(self.predictor, self.backend.images(inp), tile)
            rows = slice(0, features.size[0])
            if known:
                return features.known(self.predictor, rows, part[1])[part[0]].clone()  # PyTorch: as below
            found = features.rows(rows.start, rows.stop)
            return found[:, :, part[0], part[1]].clone()  # PyTorch: a view would keep all of it

    @torch.no_grad()
    def decode(self, features: Tensor, coord: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Engine.decode with this network."""
        set_training(self.predictor, False)
        with self.backend.arithmetic():
            return self.predictor.query_rgb(features, coord, cell).float().cpu().numpy()

    def image(
        self, inp: np.ndarray, height: int, width: int, tile: int | None, window: coords.Window
    ) -> Iterator[np.ndarray]:
        """Engine.predict_image with this network."""
        set_training(self.predictor, False)
        return self._bands(encode(self.predictor, self.backend.images(inp), tile), height, width, window)

    def decode_image(self, features: Tensor, height: int, width: int, window: coords.Window) -> Iterator[np.ndarray]:
        """Engine.decode_image with this network."""
        set_training(self.predictor, False)
        return self._bands(KnownMap(features, features.device.type), height, width, window)

    @torch.no_grad()
    def _bands(self, features: FeatureMap, height: int, width: int, window: coords.Window) -> Iterator[np.ndarray]:
        """The bands of a grid over the window, or of a model of one factor all that it gives."""
        if self.scale is None:
            bands = self.predictor.decode_image(features, height, width, window)
        else:
            bands = pixels(features)
        while True:
            # PyTorch: autocast is a global setting and must not stay set while the caller has the band.
            with self.backend.arithmetic():
                band = next(bands, None)
                if band is None:
                    return
                array = band.float().cpu().numpy()
            yield array

    def state(self) -> NetworkState:
        """Everything of it as numpy arrays."""
        parameters, buffers = _arrays(self.module)
        optimizer = self.updater.state(self.names) if self.updater else {}
        average = {} if self.average is None else _arrays(self.average)[0] | _arrays(self.average)[1]
        return NetworkState(parameters, optimizer, average, buffers)

    def load_state(self, state: NetworkState) -> None:
        """Take it back; without `optimizer` the optimizer stays as it is, without `average` it starts here.

        A network that is not trained takes what predicts.
        """
        _load(self.module, state.variables if self.updater else state.weights)
        if self.average is not None:
            _load(self.average, state.weights)
        if state.optimizer and self.updater:
            self.updater.load_state(self.names, state.optimizer)


def set_training(module: nn.Module, training: bool) -> None:
    """Whether layers behave as in training."""
    module.train(training)


def _kinds(module: nn.Module) -> dict[str, str]:
    """Of the parameters that do not start at random: what layer they belong to, by name; a model says it
    of its own parameters in `starts`."""
    kinds = {
        f"{name}.{key}" if name else key: kind
        for name, layer in module.named_modules()
        for types, kind in CONSTANT_KINDS.items()
        if isinstance(layer, types)
        for key, _ in layer.named_parameters(recurse=False)
    }
    for name, layer in module.named_modules():
        for key, kind in getattr(layer, "starts", {}).items():
            kinds[f"{name}.{key}" if name else key] = kind
    return kinds


def _arrays(module: nn.Module) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters and buffers."""
    parameters = {name: np.array(parameter.detach().cpu()) for name, parameter in module.named_parameters()}
    return parameters, {name: np.array(buffer.cpu()) for name, buffer in module.named_buffers() if is_buffer(name)}


@torch.no_grad()
def _load(module: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """Buffers that `arrays` has not stay as they are: a network begins with its own."""
    for name, parameter in module.named_parameters():
        parameter.copy_(torch.tensor(arrays[name]))
    for name, buffer in module.named_buffers():
        if name in arrays:
            buffer.copy_(torch.tensor(arrays[name]))

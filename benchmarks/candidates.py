"""Models with the same weights in both frameworks and in LIIF's code, and how each upscales an image.

Letters: H W low-resolution, h w output. No framework is imported before a child process has set itself up for it.
"""

import importlib
import math
import multiprocessing
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import originals

from liif_core.checkpoints import formats
from liif_core.errors import UserError
from liif_core.system import devices, memory
from liif_core.system.places import PRETRAINED
from liif_core.training.initial import initial_parameters

AS_IT_IS, PAGES_KEPT, PLAIN = (
    "authors' code as it is",
    "authors' code, pages kept",
    "plain formulation (tests/helpers/equations.py)",
)
BASELINES = [AS_IT_IS, PAGES_KEPT, PLAIN, "PyTorch"]  # what the others are held against
WARM_UP_ROWS = 4


def choose(arguments: Namespace, theirs: Callable, ours_class: Callable, *rest) -> dict[str, tuple]:
    """Candidates by name: theirs(folder, whether freed pages are kept, *rest), ours_class(framework, precision, *rest);
    each a class and its arguments."""
    found: dict[str, tuple] = {}
    if arguments.upstream:
        found[AS_IT_IS] = (theirs, arguments.upstream, False, *rest)
        if arguments.kind == "cpu":  # on a GPU the C library's malloc hardly matters
            found[PAGES_KEPT] = (theirs, arguments.upstream, True, *rest)
    return found | ours(arguments, ours_class, *rest)


def ours(arguments: Namespace, ours_class: Callable, *rest) -> dict[str, tuple]:
    """Our part of `choose`, in each precision that the framework may have on this device."""
    found = {}
    for title, framework in (("PyTorch", "torch"), ("Jittor", "jittor")):
        for precision in arguments.precision:
            if framework == "torch" or precision == "fp32":  # Jittor's engine has no other
                name = title if precision == "fp32" else f"{title} {precision}"
                found[name] = (ours_class, framework, precision, *rest)
    return found


def start(arguments: Namespace, found: dict[str, tuple]) -> dict[str, common.Child]:
    """Children for the candidates that `--only` names; what cannot be built here is left out."""
    children = {name: common.Child(*given) for name, given in found.items() if common.selected(name, arguments.only)}
    for name, child in list(children.items()):
        try:
            child("output")
        except common.Gone as reason:
            print(f"left out: {name}, {reason}", file=sys.stderr)
            del children[name]
    if not children:
        sys.exit("nothing to measure: --only matches no candidate, or none could be built")
    return children


def precision_of(name: str) -> str:
    """The precision that a candidate's name tells."""
    return next((precision for precision in common.PRECISIONS if precision in name.split()), "fp32")


def prepared(framework: str, gpu: str) -> str:
    """The device, once the process is set up. Raises UserError for a framework that cannot use the GPU."""
    device = devices.prepare(framework, gpu)
    if device.kind != devices.choose_device(gpu).kind:
        raise UserError(device.note)
    return device.kind


def our_engine(framework: str, precision: str, gpu: str, spec: dict, *training: dict, seeded: bool = True) -> Any:
    """An engine with the weights of seed 0, or any if not `seeded`; training: method_spec and optimizer_spec."""
    kind = prepared(framework, gpu)
    engine_class = importlib.import_module(f"liif_{framework}.engine").Engine
    engine = engine_class(spec, kind, *training, precision=precision)
    if seeded:
        engine.seed(0)
    return engine


def original_model(folder: Path, keep_pages: bool, gpu: str, spec: dict) -> tuple[Any, dict[str, tuple[int, ...]], str]:
    """The authors' model with the same weights, the shapes of its parameters, and its device."""
    device = devices.choose_device(gpu).kind
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if keep_pages:
        memory.keep_freed_pages()
    import torch

    warnings.filterwarnings("ignore", message="torch.meshgrid")
    model = originals.load(folder, spec, device=device)
    parameters = {name: p for name, p in model.named_parameters() if "_mean." not in name}  # those are constants
    shapes = {name: tuple(p.shape) for name, p in parameters.items()}
    kinds = {name: "norm" for name in shapes if name.split(".")[-2] in ("kln", "vln")}  # SRNO's
    with torch.no_grad():
        for name, array in initial_parameters(shapes, seed=0, kinds=kinds).items():
            parameters[name].copy_(torch.from_numpy(array))
    return model, shapes, device


def original_weights(folder: Path, target: Path) -> None:
    """The weights in pretrained/ as a .pth of LIIF's model; in a child, so that this process stays small: what it
    starts inherits its peak of memory."""
    child = multiprocessing.get_context("spawn").Process(target=_write_weights, args=(folder, target))
    child.start()
    child.join()
    if child.exitcode:
        sys.exit("LIIF's weights could not be written; what was said stands above")


def _write_weights(folder: Path, target: Path) -> None:
    import torch

    weights = formats.load(PRETRAINED)
    model = originals.load(folder, weights.model, weights.state["model"].parameters)
    torch.save({"model": {**weights.model, "sd": model.state_dict()}, "epoch": 1}, target)


def multiply_adds(
    spec: dict, shapes: dict[str, tuple[int, ...]], pixels: int, queries: int, encoded: bool = False
) -> int | None:
    """What an image or batch takes when no product is done twice: the encoder and the part of the decoder that
    depends on features once per low-resolution pixel, the rest once per query and neighbour. The authors' code does
    more.

    encoded: without the encoder. None for models that upscale in the encoder, and for MetaSR, whose queries at a whole
    factor share their work.
    """
    count = {name: math.prod(shape) for name, shape in shapes.items() if len(shape) > 1}
    # RCAN's channel attention works on a single vector
    encoder = sum(n for name, n in count.items() if name.startswith("encoder.") and "conv_du" not in name)
    decoder = {name: n for name, n in count.items() if not name.startswith("encoder.")}
    if not decoder or spec["name"] == "metasr":
        return None
    neighbours = 4 if spec["args"].get("local_ensemble", True) else 1
    waves, hypernet = ["coef.weight", "freq.weight"], [name for name in decoder if name.startswith("hypernet.")]
    of_model = {"lte": waves, "sronet": [], "lmliif": hypernet, "lmlte": waves + hypernet, "thera": hypernet}
    once = of_model.get(spec["name"], list(decoder)[:1])
    rest = {name: n for name, n in decoder.items() if name not in (*once, "phase.weight")}
    per_query = neighbours * sum(rest.values())
    if spec["name"] == "thera":  # waves turned by a column, times W
        per_query = 5 * shapes["components"][1]
    if spec["name"] == "sronet":  # all neighbours at once; q is never made
        per_query = sum(n * 2 // 3 if "qkv" in name else n for name, n in rest.items() if "ln." not in name)
    return pixels * ((0 if encoded else encoder) + sum(count[name] for name in once)) + queries * per_query


class Decode(common.Work):
    """Upscales a random image; a subclass has shapes() of its parameters and upscale(image, h, w) -> (h, w, 3)."""

    per_shape = False  # whether each new shape costs time once
    model: Any = None  # with its encoder

    def set_image(self, size: tuple[int, int], scale: float) -> None:
        """size: (H, W)."""
        self.image = np.random.default_rng(0).uniform(-1, 1, (1, 3, *size)).astype(np.float32)
        self.scale = scale

    def forget_encoder(self) -> None:
        """From here on the encoder's work is done: the first image of each size is encoded, and its features kept."""
        encoder, known = self.model.encoder, {}
        method = "execute" if hasattr(encoder, "execute") else "forward"  # Jittor's name for it, or PyTorch's
        encode = getattr(encoder, method)

        def recall(image: Any) -> Any:
            key = tuple(image.shape)
            known[key] = known[key] if key in known else encode(image)
            return known[key]

        setattr(encoder, method, recall)
        encoder.receptive_radius = None  # or it would be asked for parts of the image
        self.once()

    def warm_up(self) -> None:
        """As wide as the image; all of it only where that matters, since the original LIIF may take minutes on the
        CPU."""
        whole = self.per_shape or common.torch_on_gpu()
        self.decode(self.image if whole else self.image[:, :, :WARM_UP_ROWS].copy())

    def once(self) -> Any:
        return self.decode(self.image)

    def decode(self, image: np.ndarray) -> Any:
        """By the scale, each side rounded to whole pixels."""
        return self.upscale(image, *(round(side * self.scale) for side in image.shape[2:]))


class Ours(Decode):
    """An engine's predict_image; tile as there."""

    def __init__(self, framework, precision, gpu, spec, size, scale, tile=None):
        self.engine = our_engine(framework, precision, gpu, spec)
        self.model = self.engine.networks["model"].module
        self.per_shape = framework == "jittor"  # it compiles
        self.options = {} if tile is None else {"tile": tile}
        self.set_image(size, scale)

    def shapes(self) -> dict:
        return {name: array.shape for name, array in self.engine.state()["model"].parameters.items()}

    def bands(self, image: np.ndarray, height: int, width: int) -> Iterator[np.ndarray]:
        return self.engine.predict_image(image, height, width, **self.options)

    def upscale(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        return np.concatenate(list(self.bands(image, height, width)))


class Original(Decode):
    """What its demo.py does between reading and writing."""

    def __init__(self, folder, keep_pages, gpu, spec, size, scale):
        self.model, self._shapes, self.device = original_model(folder, keep_pages, gpu, spec)
        self.name = spec["name"]
        self.set_image(size, scale)

    def shapes(self) -> dict:
        return self._shapes

    def upscale(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        import torch

        return originals.upscale(self.model, self.name, torch.from_numpy(image).to(self.device), height, width)


class Plain(Ours):
    """The equations as they are printed, on the CPU."""

    def upscale(self, image: np.ndarray, height: int, width: int) -> np.ndarray:
        import torch

        from helpers import equations
        from liif_torch.models.decoders.features import features_of

        with torch.no_grad():
            feat = features_of(self.model, torch.from_numpy(image))
            return equations.decode_image(self.model, feat, height, width).numpy()

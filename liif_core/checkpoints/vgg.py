"""The weights of torchvision's VGG-19: a file that its name vouches for, with the start of its SHA-256 in it."""

import re
from pathlib import Path

import numpy as np

from liif_core.checkpoints import pth
from liif_core.errors import UserError
from liif_core.system import provenance
from liif_core.system.places import SHIPPED

NAME = "vgg19-dcbb9e9d.pth"
SOURCE = f"https://download.pytorch.org/models/{NAME}"  # 574 MB


def locate(path: str | Path | None) -> Path:
    """The file, as given or among what is shipped. Raises UserError that says where it can be had."""
    for candidate in () if path is None else (Path(path), SHIPPED / path):
        if candidate.is_file():
            return candidate
    named = "no vgg_weights are named" if path is None else f"no file '{path}'"
    raise UserError(
        f"content: vgg compares features of VGG-19, and {named}: get {SOURCE} (574 MB), or take content: pixel, which "
        "needs none"
    )


def read(path: Path, expected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Its parameters of the names and shapes of `expected`, float32. Raises UserError for a file that is damaged or
    another network's."""
    written = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    if written is None:
        raise UserError(f"{path}: expected the start of the file's SHA-256 in its name, as in {NAME}")
    found = provenance.sha256(path)
    if not found.startswith(written[1]):
        raise UserError(
            f"{path} is damaged or cut short: its SHA-256 begins with {found[: len(written[1])]}, its name says "
            f"{written[1]}: get it again from {SOURCE}"
        )
    try:
        content = pth.read(path)
        shapes = {name: np.shape(content[name]) if name in content else None for name in expected}
    except Exception as error:  # what a pickle of something else holds can be nearly anything
        raise UserError(f"{path} holds no weights: {type(error).__name__}: {error}") from None
    for name, array in expected.items():
        shape = shapes[name]
        if shape != array.shape:
            has = "none" if shape is None else "x".join(map(str, shape))
            raise UserError(
                f"{path} holds another network than VGG-19: expected {name} of {'x'.join(map(str, array.shape))}, got "
                f"{has}"
            )
    return pth.float32({name: content[name] for name in expected})

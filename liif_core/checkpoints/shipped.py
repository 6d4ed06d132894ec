"""The weights that come with the project, by name: pretrained/weights.yaml says what they are for."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from liif_core.system.places import PRETRAINED

FOLDER = PRETRAINED.parent
PHOTO = "edsr-baseline-liif_bsds400-photo"  # the file of `photo`, without its ending


@dataclass(frozen=True)
class Weights:
    """A file in pretrained/, on what it was trained, and what for."""

    name: str
    path: Path
    trained_on: str = ""
    use: str = ""


def listed(folder: Path = FOLDER) -> dict[str, Weights]:
    """Those that are there, by name: the described ones first."""
    described = folder / "weights.yaml"
    cards = yaml.safe_load(described.read_text(encoding="utf-8")) if described.is_file() else {}
    found = {}
    for name, card in cards.items():
        if (path := folder / card["file"]).is_file():
            found[name] = Weights(name, path, card["trained_on"], card["for"])
    taken = {weights.path for weights in found.values()}
    others = [path for path in sorted(folder.glob("*.safetensors")) if path not in taken]
    return found | {path.stem: Weights(path.stem, path) for path in others}


def find(name: str, folder: Path = FOLDER) -> Path | None:
    """The file of a name that `listed` has, or of its own name without the ending; None if there is none."""
    found = listed(folder)
    by_stem = {weights.path.stem: weights.path for weights in found.values()}
    return found[name].path if name in found else by_stem.get(name)

"""Folders of images as data sets: item i is a uint8 (h, w, 3) image, or a pair of them."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt
from tqdm import tqdm

from liif_core import imaging
from liif_core.config import locate_data
from liif_core.data import DATASETS
from liif_core.errors import UserError


def _unscaled(name: str) -> str:
    """The name without its ending and without a scale suffix: baby of babyx4.png."""
    return re.sub(r"x\d+$", "", Path(name).stem)


SKIP = ", or leave such files out with skip_broken: true"


@DATASETS.register("image-folder")
class ImageFolder:
    """The images of one folder, sorted by name, hidden files left out.

    root_path: the folder. split_file, split_key: take the names listed under a key of a JSON file
    instead. first_k: keep the first k. repeat: an epoch visits every image so many times. cache:
    "none" decodes at every access, "in_memory" holds the uint8 images. skip_broken: leave out files
    that do not decode, with a warning, instead of refusing the folder.
    """

    def __init__(
        self,
        root_path: str,
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: PositiveInt | None = None,
        repeat: PositiveInt = 1,
        cache: Literal["none", "in_memory"] = "none",
        skip_broken: bool = False,
    ):
        self.repeat = repeat
        self.root = locate_data(root_path)
        names = self._listed(split_file, split_key) if split_file else self._found()
        self.paths = [self.root / name for name in names[:first_k]]
        self.broken: list[Path] = []
        self.paths = self._readable(skip_broken)
        if not self.paths:
            raise UserError(f"no images in {self.root}: put image files (png, jpg, ...) there")
        self.images: list[np.ndarray] | None = None
        if cache == "in_memory":
            progress = tqdm(self.paths, desc=f"reading {root_path}", leave=False, disable=None)
            self.images = [self._read(path) for path in progress]

    def _found(self) -> list[str]:
        if not self.root.is_dir():
            raise UserError(f"{self.root} is not a folder: a folder of images is wanted here")
        names = [p.name for p in self.root.iterdir() if p.is_file() and not p.name.startswith(".")]
        # Without the scale suffix, or 10x4.png would come before 1x4.png where 1.png comes before 10.png.
        return sorted(names, key=lambda name: (_unscaled(name), name))

    def _listed(self, split_file: str, split_key: str | None) -> list[str]:
        path = locate_data(split_file)
        try:
            split = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the split file {path}: {error}") from None
        if split_key not in split:
            raise UserError(f"{path} has no split '{split_key}': known: {', '.join(map(str, split))}")
        if not isinstance(split[split_key], list) or not all(isinstance(name, str) for name in split[split_key]):
            raise UserError(f"{path}: the split '{split_key}' is not a list of file names")
        missing = [name for name in split[split_key] if not (self.root / name).is_file()]
        if missing:
            raise UserError(f"{path} names {missing[0]} under '{split_key}', which is not in {self.root}")
        return split[split_key]

    def _readable(self, skip_broken: bool) -> list[Path]:
        if not skip_broken:
            for path in self.paths:
                if not imaging.is_image(path):
                    raise UserError(f"{path} is not a readable image: remove it{SKIP}")
            return self.paths
        good = []
        for path in tqdm(self.paths, desc=f"checking {self.root}", leave=False, disable=None):
            try:
                imaging.read_image(path)
                good.append(path)
            except UserError as error:
                self.broken.append(path)
                tqdm.write(f"warning: left out: {error}")
        return good

    def leave_out(self, unscaled: set[str]) -> None:
        """Drop the images of these names, given without scale suffix."""
        kept = [number for number, path in enumerate(self.paths) if _unscaled(path.name) not in unscaled]
        self.paths = [self.paths[number] for number in kept]
        if self.images is not None:
            self.images = [self.images[number] for number in kept]

    def name(self, index: int) -> str:
        """File name, without its ending, of item `index`."""
        return self.paths[index % len(self.paths)].stem

    def __len__(self) -> int:
        return len(self.paths) * self.repeat

    def __getitem__(self, index: int) -> np.ndarray:
        position = index % len(self.paths)
        if self.images is not None:
            return self.images[position]
        return self._read(self.paths[position])

    def _read(self, path: Path) -> np.ndarray:
        try:
            return imaging.read_image(path)
        except UserError as error:
            raise UserError(f"{error}: remove it{SKIP}") from None


@DATASETS.register("paired-image-folders")
class PairedImageFolders:
    """Low-resolution images of one folder beside the high-resolution ones of another.

    Names pair up in order and are equal apart from a scale suffix (baby.png, babyx4.png).
    The other arguments are those of `image-folder` and hold for both folders.
    """

    def __init__(
        self,
        root_path_1: str,
        root_path_2: str,
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: PositiveInt | None = None,
        repeat: PositiveInt = 1,
        cache: Literal["none", "in_memory"] = "none",
        skip_broken: bool = False,
    ):
        same: dict[str, Any] = {"split_file": split_file, "split_key": split_key}
        same |= {"first_k": first_k, "repeat": repeat, "cache": cache, "skip_broken": skip_broken}
        self.low = ImageFolder(root_path_1, **same)
        self.high = ImageFolder(root_path_2, **same)
        broken = {_unscaled(path.name) for path in self.low.broken + self.high.broken}
        self.low.leave_out(broken)
        self.high.leave_out(broken)
        low, high = ({_unscaled(p.name): p.name for p in f.paths} for f in (self.low, self.high))
        lonely = sorted({low.get(s) or high[s] for s in set(low) ^ set(high)})
        if lonely or len(self.low.paths) != len(self.high.paths):
            raise UserError(
                f"{self.low.root} ({len(self.low.paths)} images) and {self.high.root} "
                f"({len(self.high.paths)}) do not pair up: no partner for {', '.join(lonely[:3]) or 'some'}"
            )

    def name(self, index: int) -> str:
        """File name, without its ending, of the high-resolution image of item `index`."""
        return self.high.name(index)

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.low[index], self.high[index]

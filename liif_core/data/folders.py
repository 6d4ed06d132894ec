"""Folders of images as data sets: item i is a uint8 (h, w, 3) image, or a pair of them."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import PositiveInt
from tqdm import tqdm

from liif_core.config.load import locate_data
from liif_core.data import bin_cache
from liif_core.data.registries import DATASETS
from liif_core.errors import UserError
from liif_core.images import rgb8

SKIP = ", or leave such files out with skip_broken: true"

Cache = Literal["none", "bin", "in_memory"]


def unscaled(name: str) -> str:
    """The name without its ending and without a scale suffix: baby of babyx4.png."""
    return re.sub(r"x\d+$", "", Path(name).stem)


def found(root: Path) -> list[str]:
    """The names of a folder's files, sorted, hidden ones left out. Raises UserError for what is no folder."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: expected a folder of images")
    names = [entry.name for entry in bin_cache.image_files(root)]
    # Without the scale suffix, or 10x4.png would come before 1x4.png where 1.png comes before 10.png.
    return sorted(names, key=lambda name: (unscaled(name), name))


def listed(root: Path, split_file: str, split_key: str | None) -> list[str]:
    """The names that a JSON file lists under a key. Raises UserError for those that are not in the folder."""
    path = locate_data(split_file)
    try:
        split = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the split file {path}: {error}") from None
    if not isinstance(split, dict):
        raise UserError(f"{path} is no split file: expected a JSON object of lists of file names")
    if split_key not in split:
        raise UserError(f"{path} has no split '{split_key}': known: {', '.join(map(str, split))}")
    if not isinstance(split[split_key], list) or not all(isinstance(name, str) for name in split[split_key]):
        raise UserError(f"{path}: the split '{split_key}' is not a list of file names")
    missing = [name for name in split[split_key] if not (root / name).is_file()]
    if missing:
        raise UserError(f"{path} names {some(missing)} under '{split_key}', which is not in {root}")
    return split[split_key]


def some(names: list[str]) -> str:
    """The first three names and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def unreadable(paths: list[Path], decode: bool) -> dict[Path, str]:
    """A sentence for every file that does not begin like an image or, with `decode`, whose pixels cannot be read."""
    broken = {}
    for path in tqdm(paths, desc="checking images", unit="image", leave=False, disable=None):
        if not decode:
            if not rgb8.is_image(path):
                broken[path] = f"{path} is not a readable image"
            continue
        try:
            rgb8.read_image(path)
        except UserError as error:
            broken[path] = str(error)
    return broken


def unpaired(roots: tuple[Path, Path], low: list[Path], high: list[Path]) -> str | None:
    """Why the images of two folders do not pair up by their names without scale suffix; None if they do."""
    names = [{unscaled(path.name): path.name for path in paths} for paths in (low, high)]
    lonely = sorted({names[0].get(name) or names[1][name] for name in set(names[0]) ^ set(names[1])})
    if not lonely and len(low) == len(high):
        return None
    where = f"{roots[0]} ({len(low)} images) and {roots[1]} ({len(high)})"
    return f"{where} do not pair up: no partner for {some(lonely) or 'some'}"


@DATASETS.register("image-folder")
class ImageFolder:
    """The images of one folder, sorted by name, hidden files left out.

    root_path: the folder. split_file, split_key: take the names listed under a key of a JSON file
    instead. first_k: keep the first k. repeat: an epoch visits every image so many times. cache:
    "none" decodes at every access, "bin" once for all runs (see `bin_cache`), "in_memory" holds
    the uint8 images. skip_broken: leave out files that do not decode, with a warning, instead of
    refusing the folder.
    """

    images_per_item = 1  # an item; which wrappers fit hangs on it

    def __init__(
        self,
        root_path: str,
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: PositiveInt | None = None,
        repeat: PositiveInt = 1,
        cache: Cache = "none",
        skip_broken: bool = False,
    ):
        self.repeat = repeat
        self.root = locate_data(root_path)
        names = listed(self.root, split_file, split_key) if split_file else found(self.root)
        self.paths = [self.root / name for name in names[:first_k]]
        self.cached = bin_cache.open_folder(self.root) if cache == "bin" else None
        self.broken = self._broken(skip_broken)
        if self.broken and not skip_broken:
            more = f" (and {len(self.broken) - 1} more)" if len(self.broken) > 1 else ""
            raise UserError(f"{next(iter(self.broken.values()))}{more}: remove it{SKIP}")
        for sentence in self.broken.values():
            tqdm.write(f"warning: left out: {sentence}")
        self.paths = [path for path in self.paths if path not in self.broken]
        if not self.paths:
            raise UserError(f"no images in {self.root}: put image files (png, jpg, ...) there")
        self.images: list[np.ndarray] | None = None
        if cache == "in_memory":
            progress = tqdm(self.paths, desc=f"reading {root_path}", leave=False, disable=None)
            self.images = [self._read(path) for path in progress]

    def _broken(self, decode: bool) -> dict[Path, str]:
        if self.cached is None:
            return unreadable(self.paths, decode)
        deeper = [path for path in self.paths if path.name not in self.cached or path.parent != self.root]
        if deeper:
            raise UserError(f"cache: bin holds the files of {self.root} itself: {deeper[0]} needs cache: none")
        return {path: self.cached.broken[path.name] for path in self.paths if path.name in self.cached.broken}

    def leave_out(self, names: set[str]) -> None:
        """Drop the images of these names, given without scale suffix."""
        kept = [number for number, path in enumerate(self.paths) if unscaled(path.name) not in names]
        self.paths = [self.paths[number] for number in kept]
        if self.images is not None:
            self.images = [self.images[number] for number in kept]

    def name(self, index: int) -> str:
        """File name, without its ending, of item `index`."""
        return self.paths[index % len(self.paths)].stem

    @property
    def where(self) -> str:
        """The folder, for messages."""
        return str(self.root)

    def sizes(self, index: int) -> tuple[tuple[int, int], ...]:
        """Height and width of item `index`, from the file's header where no pixels are at hand."""
        position = index % len(self.paths)
        if self.images is not None or self.cached is not None:
            height, width = self[index].shape[:2]
            return ((height, width),)
        return (rgb8.read_size(self.paths[position]),)

    def __len__(self) -> int:
        return len(self.paths) * self.repeat

    def __getitem__(self, index: int) -> np.ndarray:
        position = index % len(self.paths)
        if self.images is not None:
            return self.images[position]
        if self.cached is not None:
            return self.cached[self.paths[position].name]
        return self._read(self.paths[position])

    def _read(self, path: Path) -> np.ndarray:
        try:
            return rgb8.read_image(path)
        except UserError as error:
            raise UserError(f"{error}: remove it{SKIP}") from None


@DATASETS.register("paired-image-folders")
class PairedImageFolders:
    """Low-resolution images of one folder beside the high-resolution ones of another.

    Names pair up in order and are equal apart from a scale suffix (baby.png, babyx4.png).
    The other arguments are those of `image-folder` and hold for both folders; with skip_broken
    a broken image takes its partner along.
    """

    images_per_item = 2

    def __init__(
        self,
        root_path_1: str,
        root_path_2: str,
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: PositiveInt | None = None,
        repeat: PositiveInt = 1,
        cache: Cache = "none",
        skip_broken: bool = False,
    ):
        same: dict[str, Any] = {"split_file": split_file, "split_key": split_key}
        same |= {"first_k": first_k, "repeat": repeat, "cache": cache, "skip_broken": skip_broken}
        self.low = ImageFolder(root_path_1, **same)
        self.high = ImageFolder(root_path_2, **same)
        broken = {unscaled(path.name) for path in [*self.low.broken, *self.high.broken]}
        self.low.leave_out(broken)
        self.high.leave_out(broken)
        if problem := unpaired((self.low.root, self.high.root), self.low.paths, self.high.paths):
            raise UserError(problem)
        if not self.low.paths:
            raise UserError(f"no pair of {self.low.root} and {self.high.root} can be read: replace the broken files")

    def name(self, index: int) -> str:
        """File name, without its ending, of the high-resolution image of item `index`."""
        return self.high.name(index)

    @property
    def where(self) -> str:
        """Both folders, for messages."""
        return f"{self.low.where} and {self.high.where}"

    def sizes(self, index: int) -> tuple[tuple[int, int], ...]:
        """Height and width of the low and of the high resolution of item `index`."""
        return self.low.sizes(index) + self.high.sizes(index)

    def __len__(self) -> int:
        return len(self.low)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.low[index], self.high[index]

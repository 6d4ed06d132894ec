"""Folders of images as data sets: item i is a uint8 (h, w, 3) image, or a pair of them."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, PositiveInt
from tqdm import tqdm

from liif_core.config.load import locate_data
from liif_core.data import bin_cache, names
from liif_core.data.registries import DATASETS
from liif_core.data.sizes import Size
from liif_core.errors import UserError
from liif_core.images import rgb8

SKIP = ", or leave such files out with skip_broken: true"

Cache = Literal["none", "bin", "in_memory"]
Repeat = Annotated[int, Field(gt=0, le=1_000_000)]


class Images:
    """Image files of one folder, looked at once and read as often as asked for.

    sizes: path -> (h, w), from a file's header where its pixels are not read anyway. broken: path -> sentence.
    """

    def __init__(self, root: Path, taken: list[str], cache: Cache = "none", decode: bool = False):
        self.cached = bin_cache.open_folder(root) if cache == "bin" else None
        self.held: dict[Path, np.ndarray] | None = {} if cache == "in_memory" else None
        self.decode = decode
        self.sizes: dict[Path, Size] = {}
        self.broken: dict[Path, str] = {}
        if self.cached is not None and (others := [name for name in taken if name not in self.cached]):
            raise UserError(f"cache: bin holds the images of {root} itself: {root / others[0]} needs cache: none")
        verb = "reading" if cache == "in_memory" else "checking"
        for path in tqdm([root / name for name in taken], f"{verb} {root}", unit="image", leave=False, disable=None):
            try:
                self.sizes[path] = self._look(path)
            except UserError as error:
                self.broken[path] = str(error)

    def _look(self, path: Path) -> Size:
        if self.cached is not None:
            return self.cached.size(path.name)
        if self.held is None and not self.decode:
            return rgb8.read_size(path)
        image = rgb8.read_image(path)
        if self.held is not None:
            self.held[path] = image
        return image.shape[0], image.shape[1]

    def read(self, path: Path) -> np.ndarray:
        """The pixels of one, uint8 (h, w, 3)."""
        if self.held is not None:
            return self.held[path]
        if self.cached is not None:
            return self.cached[path.name]
        try:
            return rgb8.read_image(path)
        except UserError as error:
            raise UserError(f"{error}: remove it{SKIP}") from None


def refuse_or_warn(broken: dict[Path, str], skip_broken: bool, remedy: str = "remove it") -> None:
    """Raise UserError for broken files, or say which are left out."""
    if broken and not skip_broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise UserError(f"{next(iter(broken.values()))}{more}: {remedy}{SKIP}")
    for sentence in broken.values():
        tqdm.write(f"warning: left out: {sentence}")


@DATASETS.register("image-folder")
class ImageFolder:
    """The images of one folder, sorted by name.

    root_path: the folder; hidden files, and those with another ending than an image's, are not looked at. split_file,
    split_key: take the names listed under a key of a JSON file instead. first_k: keep the first k. repeat: an epoch
    visits every image so many times. cache: "none" decodes at every access, "bin" once for all runs (see `bin_cache`),
    "in_memory" holds the uint8 images. skip_broken: leave out files that do not decode, with a warning, instead of
    refusing the folder.
    """

    images_per_item = 1  # an item; which wrappers fit hangs on it

    def __init__(
        self,
        root_path: str,
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: PositiveInt | None = None,
        repeat: Repeat = 1,
        cache: Cache = "none",
        skip_broken: bool = False,
    ):
        self.repeat = repeat
        self.root = locate_data(root_path)
        taken = names.taken(self.root, split_file, split_key)[:first_k]
        self.images = Images(self.root, taken, cache, decode=skip_broken)
        refuse_or_warn(self.images.broken, skip_broken)
        kept = [name for name in taken if self.root / name in self.images.sizes]
        if not kept:
            raise UserError(names.EMPTY.format(self.root))
        self.paths = [self.root / name for name in kept]
        self.names = names.told_apart(kept)

    def name(self, index: int) -> str:
        """File name of item `index`, without its ending unless another file has the same."""
        return self.names[index % len(self.paths)]

    @property
    def where(self) -> str:
        """The folder, for messages."""
        return str(self.root)

    def sizes(self, index: int) -> tuple[Size, ...]:
        """Height and width of item `index`, known without its pixels."""
        return (self.images.sizes[self.paths[index % len(self.paths)]],)

    def __len__(self) -> int:
        return len(self.paths) * self.repeat

    def __getitem__(self, index: int) -> np.ndarray:
        return self.images.read(self.paths[index % len(self.paths)])


@DATASETS.register("paired-image-folders")
class PairedImageFolders:
    """Low-resolution images of one folder beside the high-resolution ones of another.

    Two of one name make a pair, or else of which one has a suffix less (baby.png, babyx4.png). low_name, high_name:
    what a pair's files are called, without ending, where that does not do: "{name}x4" and "{name}". first_k: keep the
    first k pairs. The other arguments are those of `image-folder` and hold for both folders; with skip_broken a broken
    image takes its partner along.
    """

    images_per_item = 2

    def __init__(
        self,
        root_path_1: str,
        root_path_2: str,
        split_file: str | None = None,
        split_key: str | None = None,
        first_k: PositiveInt | None = None,
        repeat: Repeat = 1,
        cache: Cache = "none",
        skip_broken: bool = False,
        low_name: str | None = None,
        high_name: str | None = None,
    ):
        self.repeat = repeat
        low, high = locate_data(root_path_1), locate_data(root_path_2)
        taken = [names.taken(root, split_file, split_key) for root in (low, high)]
        pairs, problems = names.pairs((low, high), taken[0], taken[1], low_name, high_name, first_k)
        if problems:
            raise UserError(problems[0])
        self.where = f"{low} and {high}"
        self.low, self.high = (
            Images(root, [pair[k] for pair in pairs], cache, decode=skip_broken) for k, root in enumerate((low, high))
        )
        refuse_or_warn(self.low.broken | self.high.broken, skip_broken)
        paths = [(low / small, high / large) for small, large in pairs]
        self.paths = [(a, b) for a, b in paths if a in self.low.sizes and b in self.high.sizes]
        self.names = names.told_apart([str(large.relative_to(high)) for _, large in self.paths])
        if not self.paths:
            raise UserError(f"no pair of {low} and {high} can be read: replace the broken files")

    def name(self, index: int) -> str:
        """File name of the high-resolution image of item `index`, without its ending unless another has the same."""
        return self.names[index % len(self.paths)]

    def sizes(self, index: int) -> tuple[Size, ...]:
        """Height and width of the low and of the high resolution of item `index`, known without their pixels."""
        low, high = self.paths[index % len(self.paths)]
        return self.low.sizes[low], self.high.sizes[high]

    def __len__(self) -> int:
        return len(self.paths) * self.repeat

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        low, high = self.paths[index % len(self.paths)]
        return self.low.read(low), self.high.read(high)

    def condition(self, index: int) -> None:
        """What diffusion starts from is made of the low resolution (see liif_core.data.prepared)."""

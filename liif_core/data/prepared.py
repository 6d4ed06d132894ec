"""What scripts/prepare_data.py makes, and SR3-PyTorch's does, as data sets: items are pairs (low, high resolution).

Letters: L and R the sides of the low and of the high resolution in pixels. Folders are hr_R, lr_L and sr_L_R, the last
with the low resolution brought to R x R, which is what diffusion is conditioned on; of an LMDB these are the beginnings
of its keys, like hr_128_00000. Where lr_L or sr_L_R is absent, Pillow's bicubic makes it, which gives the same pixels.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import PositiveInt
from tqdm import tqdm

from liif_core.config.load import locate_data
from liif_core.data import names
from liif_core.data.folders import Cache, Images, Repeat, refuse_or_warn
from liif_core.data.registries import DATASETS
from liif_core.data.sizes import Size
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system import packages
from liif_core.system.files import is_folder

LENGTH = b"length"  # the key under which an LMDB says how many images it has
Parts = dict[str, Size]  # of an item: the sizes of its high, low and condition, by these names


def parts(low: int, high: int) -> dict[str, str]:
    """What the folders, and an LMDB's keys, of the three images of an item begin with."""
    return {"high": f"hr_{high}", "low": f"lr_{low}", "condition": f"sr_{low}_{high}"}


class Prepared:
    """Items that have a high resolution, and a low one and a condition if those are there.

    sides: L and R. sizes_of: (h, w) of what each item has. titles: what to call the items.
    """

    images_per_item = 2
    where: str

    def __init__(self, sides: tuple[int, int], repeat: int, sizes_of: list[Parts], titles: list[str]):
        self.sides, self.repeat, self.sizes_of, self.titles = sides, repeat, sizes_of, titles
        for title, sizes in zip(titles, sizes_of, strict=True):
            if (condition := sizes.get("condition", sizes["high"])) != sizes["high"]:
                expected, found = (f"{height}x{width}" for height, width in (sizes["high"], condition))
                where = f"{self.where}: the condition of '{title}' in {parts(*sides)['condition']}"
                raise UserError(f"{where} is {found}: expected the size of its high resolution, {expected}")

    def _read(self, item: int, part: str) -> np.ndarray:
        """Pixels of an item's part that is there."""
        raise NotImplementedError

    def name(self, index: int) -> str:
        """What item `index` is called."""
        return self.titles[index % len(self.titles)]

    def sizes(self, index: int) -> tuple[Size, ...]:
        """Height and width of the low and of the high resolution of item `index`, known without their pixels."""
        sizes = self.sizes_of[index % len(self.titles)]
        height, width = sizes["high"]
        low, high = self.sides
        return sizes.get("low", (height * low // high, width * low // high)), (height, width)

    def __len__(self) -> int:
        return len(self.titles) * self.repeat

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        item = index % len(self.titles)
        large = self._read(item, "high")
        if "low" in self.sizes_of[item]:
            return self._read(item, "low"), large
        return rgb8.resize(large, *self.sizes(index)[0]), large

    def condition(self, index: int) -> np.ndarray | None:
        """uint8 (h, w, 3) of item `index`, as large as its high resolution; None where it is to be made."""
        item = index % len(self.titles)
        return self._read(item, "condition") if "condition" in self.sizes_of[item] else None


@DATASETS.register("prepared-folders")
class PreparedFolders(Prepared):
    """The folders hr_R, lr_L and sr_L_R below root_path, for sides of low L and high R pixels; files of one name belong
    together.

    The last is the condition of diffusion. lr_L and sr_L_R may be absent, and are then made by Pillow's bicubic. The
    other arguments are those of `image-folder`.
    """

    def __init__(
        self,
        root_path: str,
        low: PositiveInt,
        high: PositiveInt,
        first_k: PositiveInt | None = None,
        repeat: Repeat = 1,
        cache: Cache = "none",
        skip_broken: bool = False,
    ):
        root = locate_data(root_path)
        self.where = str(root)
        if not is_folder(root):
            raise UserError(f"root_path: {root} is a file, expected a folder of the folders hr_{high} and others")
        folders = {part: root / folder for part, folder in parts(low, high).items()}
        if not is_folder(folders["high"]):
            there = [name for name in sorted(os.listdir(root)) if name[:3] in ("hr_", "lr_", "sr_")]
            found = f"there is {', '.join(there)}" if there else "scripts/prepare_data.py makes it"
            raise UserError(f"{root} has no folder {folders['high'].name}: {found}")
        folders = {part: folder for part, folder in folders.items() if part == "high" or is_folder(folder)}
        listed = {part: names.taken(folder, None, None) for part, folder in folders.items()}
        partner = {"high": {name: name for name in listed["high"][:first_k]}}
        for part in [part for part in folders if part != "high"]:
            joined, problems = names.pairs(
                (folders[part], folders["high"]), listed[part], listed["high"], None, None, first_k
            )
            if problems:
                raise UserError(problems[0])
            partner[part] = {high_name: name for name, high_name in joined}
        self.images = {
            part: Images(folder, list(partner[part].values()), cache, decode=skip_broken)
            for part, folder in folders.items()
        }
        broken = {path: said for images in self.images.values() for path, said in images.broken.items()}
        refuse_or_warn(broken, skip_broken)
        items = [{part: folder / partner[part][name] for part, folder in folders.items()} for name in partner["high"]]
        self.paths = [item for item in items if not broken.keys() & set(item.values())]
        if not self.paths:
            raise UserError(f"no image of {folders['high']} can be read: replace the broken files")
        sizes = [{part: self.images[part].sizes[path] for part, path in item.items()} for item in self.paths]
        super().__init__((low, high), repeat, sizes, names.told_apart([item["high"].name for item in self.paths]))

    def _read(self, item, part):
        return self.images[part].read(self.paths[item][part])


@DATASETS.register("prepared-lmdb")
class PreparedLmdb(Prepared):
    """An LMDB as `prepare_data.py --lmdb` writes it: image files under the keys hr_R_00000, lr_L_00000 and
    sr_L_R_00000, for sides of low L and high R pixels, and under `length` how many there are.

    first_k: keep the first k. repeat: an epoch visits every image so many times. skip_broken: leave out numbers without
    an image, and images that do not decode, with a warning, instead of refusing the file.
    """

    def __init__(
        self,
        root_path: str,
        low: PositiveInt,
        high: PositiveInt,
        first_k: PositiveInt | None = None,
        repeat: Repeat = 1,
        skip_broken: bool = False,
    ):
        self.path = locate_data(root_path)
        self.where = str(self.path)
        self.prefixes = parts(low, high)
        self.numbers: list[int] = []
        sizes: list[Parts] = []
        broken: dict[Path, str] = {}
        with _reading(self.path) as reading:
            count = self._length(reading.get(LENGTH))
            numbers = range(count if first_k is None else min(count, first_k))
            for number in tqdm(numbers, f"checking {self.path}", unit="image", leave=False, disable=None):
                try:
                    sizes.append(self._look(reading, number, skip_broken))
                    self.numbers.append(number)
                except UserError as error:
                    broken[self.path / str(number)] = str(error)
        if len(broken) == len(numbers):
            raise UserError(f"{next(iter(broken.values()))}, nor has it any other image of {low} and {high} pixels")
        refuse_or_warn(broken, skip_broken, "make the LMDB again")
        super().__init__((low, high), repeat, sizes, [f"{number:05d}" for number in self.numbers])

    def _length(self, content: bytes | None) -> int:
        if content is None:
            raise UserError(f"{self.path} has no 'length', as where writing it was cut short: make it again")
        if not content.isdigit() or not int(content):
            raise UserError(f"{self.path}: its 'length' is {content[:20]!r}: expected the number of its images")
        return int(content)

    def _look(self, reading: Any, number: int, decode: bool) -> Parts:
        """The sizes of an item's images. Raises UserError without a high resolution."""
        sizes: Parts = {}
        for part in self.prefixes:
            key = self._key(part, number)
            content = reading.get(key.encode())
            if content is not None:
                image = f"{self.path}: {key}"
                sizes[part] = rgb8.read_size(image, content)
                if decode:
                    rgb8.read_image(image, content)
        if "high" not in sizes:
            length = int(reading.get(LENGTH))
            raise UserError(f"{self.path} has no image {self._key('high', number)}, though its length is {length}")
        return sizes

    def _key(self, part: str, number: int) -> str:
        return f"{self.prefixes[part]}_{number:05d}"

    def _read(self, item, part):
        key = self._key(part, self.numbers[item])
        with _reading(self.path) as reading:
            content = reading.get(key.encode())
        if content is None:
            raise UserError(f"{self.path} has no image {key} any more: it was changed while in use")
        return rgb8.read_image(f"{self.path}: {key}", content)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """A transaction that reads an LMDB, which is closed again: it shall not be opened twice in one process, nor be used
    by one that forked from it, as those are that load samples. Raises UserError for what is no LMDB, and without the
    package."""
    lmdb = packages.load("lmdb", "lmdb")
    try:
        with (
            lmdb.open(str(path), subdir=is_folder(path), readonly=True, lock=False, readahead=False) as environment,
            environment.begin() as transaction,
        ):
            yield transaction
    except lmdb.Error as error:
        raise UserError(f"cannot read {path} as an LMDB (a folder with data.mdb, or such a file): {error}") from None

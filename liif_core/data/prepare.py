"""From a folder of images to what liif_core.data.prepared reads: each at two sizes, and the small one on the grid of
the large one, as SR3-PyTorch's data/prepare_data.py makes them.

Letters: L and R the sides of the low and of the high resolution in pixels.
"""

import hashlib
import json
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from liif_core.data import names
from liif_core.data.prepared import LENGTH, parts
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system import packages
from liif_core.system.files import check_writable, is_folder, write_atomically

RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
SETTINGS = "prepared.json"  # beside what was made, so that nothing else is mixed with it
MAP_SIZE = 1 << 40  # bytes: what an LMDB may grow to; it takes no room before it does
COMMIT = 64  # images that are written to an LMDB at once
Files = dict[str, bytes]  # by the parts of `parts`


def images_of(path: Path, sides: tuple[int, int], resample: str) -> Files:
    """The PNG files of one image: square, the middle of it, at R, at L, and from L at R again."""
    image, filter = rgb8.read_image(path), RESAMPLE[resample]
    low = rgb8.centred(image, sides[0], filter)
    made = {"high": rgb8.centred(image, sides[1], filter), "low": low, "condition": rgb8.centred(low, sides[1], filter)}
    return {part: rgb8.encoded(pixels) for part, pixels in made.items()}


def named(source: Path) -> dict[str, Path]:
    """The images of a folder, and of those in it, by the names that they get: up to the first dot, and of five
    characters at least, zeros before them. Raises UserError for two of one name."""
    found: dict[str, Path] = {}
    if not is_folder(source):
        raise UserError(f"{source} is not a folder: expected a folder of images")
    for folder, below, _ in sorted(os.walk(source)):
        below[:] = [name for name in below if not name.startswith(".")]
        for entry in names.image_files(Path(folder)):
            name = entry.name.split(".")[0].zfill(5)
            if name in found:
                raise UserError(f"{found[name]} and {entry.path} would both become {name}.png: rename one of them")
            found[name] = Path(entry.path)
    if not found:
        raise UserError(names.EMPTY.format(source))
    return dict(sorted(found.items()))


def numbered(images: dict[str, Path]) -> dict[str, Path]:
    """The images by the numbers that an LMDB has for them: their names if those count from 00000, else their places."""
    counted = [f"{number:05d}" for number in range(len(images))]
    return images if list(images) == counted else dict(zip(counted, images.values(), strict=True))


def prepare(
    source: Path, target: Path, sides: tuple[int, int], resample: str = "bicubic", workers: int = 1, lmdb: bool = False
) -> int:
    """Fill `target` from the images of `source`; what is there already is left alone. Returns how many there are.

    Raises UserError for a target that holds something else, and for an image that cannot be read.
    """
    images = named(source)
    if lmdb:
        images = numbered(images)
    listed = "".join(f"{name} {path.relative_to(source)}\n" for name, path in images.items())
    settings = {
        "path": str(source.resolve()),
        "size": list(sides),
        "resample": resample,
        "lmdb": lmdb,
        "names": hashlib.sha256(listed.encode()).hexdigest() if lmdb else None,  # else numbers are others' tomorrow
    }
    _begin(target, settings)
    (_into_lmdb if lmdb else _into_folders)(images, target, sides, resample, workers)
    return len(images)


def _begin(target: Path, settings: dict) -> None:
    """Write down what is made in `target`. Raises UserError if that is not what was made there before."""
    path = target / SETTINGS
    check_writable(path)
    try:
        before = json.loads(path.read_bytes())
    except FileNotFoundError:
        if others := [entry for entry in sorted(os.listdir(target))]:
            raise UserError(f"{target} holds {others[0]} and no {SETTINGS}: name another folder by --out") from None
        write_atomically(path, (json.dumps(settings, indent=1) + "\n").encode())
        return
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}): name another folder by --out") from None
    differing = [key for key in settings if not isinstance(before, dict) or before.get(key) != settings[key]]
    if differing:
        key = differing[0]
        said = (
            "other images" if key == "names" else f"{key} {before.get(key)}" if isinstance(before, dict) else "others"
        )
        raise UserError(f"{target} was made with {said}, as its {SETTINGS} says: name another folder by --out")


def _made(
    images: Iterable[tuple[str, Path]], count: int, sides: tuple[int, int], resample: str, workers: int
) -> Iterator:
    """The files of all images by name, in order, made by several processes."""
    images = list(images)
    # Ctrl-C reaches the workers as well; they leave it to this process.
    quiet = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, initializer=signal.signal, initargs=quiet) as pool:
        work = [(name, pool.submit(images_of, path, sides, resample)) for name, path in images]
        work.reverse()
        bar = tqdm(total=count, initial=count - len(work), desc="preparing", unit="image", disable=None)
        try:
            with bar:
                while work:
                    name, made = work.pop()
                    yield name, made.result()
                    bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _into_folders(images: dict[str, Path], target: Path, sides: tuple[int, int], resample: str, workers: int) -> None:
    folders = {part: target / name for part, name in parts(*sides).items()}
    for folder in folders.values():
        check_writable(folder / "00000.png")
    there = set.intersection(*({entry.name for entry in names.files(folder)} for folder in folders.values()))
    rest = [(name, path) for name, path in images.items() if f"{name}.png" not in there]
    for name, made in _made(rest, len(images), sides, resample, workers):
        for part, content in made.items():
            write_atomically(folders[part] / f"{name}.png", content)


def _into_lmdb(images: dict[str, Path], target: Path, sides: tuple[int, int], resample: str, workers: int) -> None:
    package = packages.load("lmdb", "lmdb")
    keys = {name: {part: f"{prefix}_{name}".encode() for part, prefix in parts(*sides).items()} for name in images}
    try:
        with package.open(str(target), map_size=MAP_SIZE, readahead=False) as environment:
            with environment.begin() as reading:
                there = {name for name in images if all(reading.get(key) for key in keys[name].values())}
            rest = [(name, path) for name, path in images.items() if name not in there]
            ready: dict[bytes, bytes] = {}
            for number, (name, made) in enumerate(_made(rest, len(images), sides, resample, workers), 1):
                ready |= {keys[name][part]: content for part, content in made.items()}
                if number % COMMIT == 0 or number == len(rest):
                    with environment.begin(write=True) as writing:
                        for key, content in ready.items():
                            writing.put(key, content)
                    ready = {}
            with environment.begin(write=True) as writing:  # the last of all: who reads it knows that all are there
                writing.put(LENGTH, str(len(images)).encode())
    except package.Error as error:
        raise UserError(f"cannot write the LMDB {target}: {error}") from None

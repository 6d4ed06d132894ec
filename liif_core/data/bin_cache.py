"""`cache: bin`: the decoded images of a folder in one memory-mapped file of bytes, with an index.

    pixels-*.bin     uint8 R, G, B of all images, row after row, one after the other
    index.json       which file that is, what it was made from, and each image's offset in it

The index is renamed into place when the pixels are on the disk. So there is a whole cache or none, and readers of
an old one keep it while a new one is made. A lock lets a second process wait instead of doing the work again.
"""

import hashlib
import json
import os
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import PIL
from tqdm import tqdm

from liif_core.data import names
from liif_core.errors import UserError
from liif_core.images import rgb8
from liif_core.system import files, locks
from liif_core.system.places import expand

VERSION = 2  # of what is taken from a folder, and of how rgb8 reads it
ELSEWHERE = "set LIIF_CACHE to a folder that can hold it, or use cache: none"


def fingerprint(folder: Path) -> str:
    """Changes when an image comes, goes, or differs in size, time (ns) or permission, and with Pillow's decoders."""
    stats = ((entry.name, entry.stat(), os.access(entry.path, os.R_OK)) for entry in names.image_files(folder))
    source = [[name, stat.st_size, stat.st_mtime_ns, readable] for name, stat, readable in stats]
    return hashlib.sha256(json.dumps([VERSION, PIL.__version__, source]).encode()).hexdigest()


def places(folder: Path) -> list[Path]:
    """Where the cache of a folder may be, the first choice first.

    `_bin_<name>` beside the folder, as the original LIIF does it; then `~/.cache/liif`, for a folder whose
    neighbourhood cannot be written. LIIF_CACHE in the environment takes the place of both.
    """
    folder = folder.resolve()
    unique = f"{folder.name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}"
    if elsewhere := os.environ.get("LIIF_CACHE"):
        return [Path(expand(elsewhere)).absolute() / unique]
    return [folder.parent / f"_bin_{folder.name}", Path(expand("~/.cache/liif")).absolute() / unique]


def _can_be_written(path: Path) -> bool:
    while not os.path.exists(path) and path != path.parent:
        path = path.parent
    return os.access(path, os.W_OK)


class BinCache:
    """The images of a folder by file name: uint8 (h, w, 3) views of the map, of which an access reads its pages only.

    shapes: name -> (h, w), without the images that do not decode; these are in `broken`, name -> sentence.
    A pickled copy maps the file anew.
    """

    def __init__(self, cache: Path, index: dict):
        self.cache = cache
        self.index = index
        self.broken: dict[str, str] = index["broken"]
        self._map()

    def _map(self) -> None:
        pixels = self.cache / self.index["pixels"]
        stat = pixels.stat()
        if (stat.st_size, stat.st_mtime_ns) != (self.index["bytes"], self.index["mtime_ns"]):
            raise ValueError(f"{pixels} is not as it was left")
        # A map of no bytes is an error; without an image there is nothing to map.
        self.pixels = np.asarray(np.memmap(pixels, np.uint8, "r") if stat.st_size else [], np.uint8)

    def __getstate__(self) -> dict:
        return {key: value for key, value in vars(self).items() if key != "pixels"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        try:
            self._map()
        except (OSError, ValueError):
            raise UserError(f"the cache {self.cache} was made anew while it was in use: start again") from None

    def __contains__(self, name: str) -> bool:
        return name in self.index["images"] or name in self.broken

    def size(self, name: str) -> tuple[int, int]:
        """Height and width. Raises UserError for an image that does not decode."""
        if name in self.broken:
            raise UserError(self.broken[name])
        height, width, _ = self.index["images"][name]
        return height, width

    def __getitem__(self, name: str) -> np.ndarray:
        height, width, offset = self.index["images"][name]
        return self.pixels[offset : offset + height * width * 3].reshape(height, width, 3)


def _read(cache: Path, expected: str) -> BinCache | None:
    """The cache if it is whole and made from what is there now."""
    try:
        envelope = json.loads((cache / "index.json").read_bytes())
        index = envelope["index"]
        if envelope["crc32"] != _crc32(index) or index["fingerprint"] != expected:
            return None
        return BinCache(cache, index)
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: it is made anew
        return None


def _crc32(index: dict) -> int:
    return zlib.crc32(json.dumps(index, sort_keys=True).encode())


def _decode_all(folder: Path, pixels) -> tuple[dict, dict]:
    """Write the pixels of all images, one in memory at a time; returns their offsets and what is broken."""
    images: dict[str, tuple[int, int, int]] = {}
    broken: dict[str, str] = {}
    offset = 0
    for entry in tqdm(names.image_files(folder), desc=f"caching {folder}", unit="image", leave=False, disable=None):
        try:
            image = rgb8.read_image(entry.path)
        except UserError as error:
            broken[entry.name] = str(error)
            continue
        pixels.write(np.ascontiguousarray(image).data)
        images[entry.name] = (image.shape[0], image.shape[1], offset)
        offset += image.nbytes
    return images, broken


def _build(folder: Path, cache: Path, source: str) -> None:
    """Decode the folder into a new file and make the index name it; the old file goes."""
    descriptor, name = files.create(cache, "making-", ".bin")
    making = Path(name)
    path = making.with_name(making.name.replace("making-", "pixels-"))
    try:
        with open(descriptor, "wb") as pixels:
            images, broken = _decode_all(folder, pixels)
            pixels.flush()
            os.fsync(pixels.fileno())
        stat = making.stat()
        index = {"fingerprint": source, "pixels": path.name, "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        index |= {"images": images, "broken": broken}
        envelope = {"index": index, "crc32": _crc32(index)}
        making.rename(path)
        files.write_atomically(cache / "index.json", json.dumps(envelope).encode())
    except BaseException as error:
        making.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write the cache {cache} ({error.strerror}): {ELSEWHERE}") from None
        raise
    _clean(cache, path)


def _clean(cache: Path, keep: Path) -> None:
    """Remove older pixels and what killed processes left, which is what nobody has written to for an hour."""
    for old in cache.glob("pixels-*.bin"):
        if old != keep:
            old.unlink(missing_ok=True)
    for old in cache.glob("making-*.bin"):
        with suppress(FileNotFoundError):  # another process cleans, too
            if time.time() - old.stat().st_mtime > 3600:
                old.unlink()


def open_folder(folder: Path) -> BinCache:
    """The cache of a folder, made now if there is none or if the folder has changed.

    Raises UserError when it cannot be written.
    """
    source = fingerprint(folder)
    candidates = places(folder)
    for cache in candidates:
        if found := _read(cache, source):
            return found
    cache = next(filter(_can_be_written, candidates), candidates[-1])
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # On a file system without locks two processes do the same work, and the last one stays.
        with locks.alone(cache / "lock", f"makes {cache}", stays=True):
            for _ in range(3):  # without locks another process can take the file away before it is read
                if found := _read(cache, source):
                    return found
                _build(folder, cache, source)
            if found := _read(cache, source):
                return found
    except OSError as error:
        raise UserError(f"cannot write the cache {cache} ({error.strerror}): {ELSEWHERE}") from None
    raise UserError(f"the cache {cache} does not stay as it was written: {ELSEWHERE}")

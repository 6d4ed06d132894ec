"""What a file is, by what is in it: endings lie, and downloads bring other things than weights."""

import os
import tarfile
import warnings
import zipfile
from pathlib import Path

import PIL.Image

from liif_core.errors import UserError
from liif_core.system.files import check_readable

SAFETENSORS, PTH = "safetensors", "pth"
LONGEST_HEADER = 100_000_000  # bytes: safetensors' own limit

# Files by how they begin.
OTHERS = {
    b"version https://git-lfs.github.com/spec": "a Git-LFS pointer, not the weights: `git lfs pull` fetches them",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"BZh": "a bzip2 archive: unpack it",
    b"\xfd7zXZ\0": "an xz archive: unpack it",
    b"(\xb5/\xfd": "a zstd archive: unpack it",
    b"7z\xbc\xaf'\x1c": "a 7z archive: unpack it",
    b"Rar!": "a RAR archive: unpack it",
    b"\x89HDF": "an HDF5 file, not a checkpoint of PyTorch or Jittor",
    b"GGUF": "a GGUF file, not a checkpoint of PyTorch or Jittor",
    b"\x93NUMPY": "a single array of numpy",
    b"%PDF": "a PDF",
}
IMAGES = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000")


def form(path: Path) -> str:
    """SAFETENSORS or PTH, which may still be damaged. Raises UserError that says what any other file is."""
    check_readable(path, "checkpoint")
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= LONGEST_HEADER:
        return SAFETENSORS
    if start.startswith(b"PK\3\4"):
        what = _archive(path)
    elif start[:1] == b"\x80" and start[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return PTH
    else:
        what = _other(path, start, size)
    if what is None:
        return PTH
    raise UserError(f"{path} is {what}; expected a .safetensors of this project or a .pth")


def _archive(path: Path) -> str | None:
    """What a zip archive is; None for one of PyTorch's."""
    if not zipfile.is_zipfile(path):
        return "cut short, a .pth or another zip archive without its end: load it down or copy it again"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        return f"a damaged zip archive ({error})"
    if not any(name.endswith("/data.pkl") for name in names):
        return "a zip archive without PyTorch's weights (no data.pkl in it)"
    if any("/code/__torch__" in name for name in names):
        return "a TorchScript program: expected its weights alone, as torch.save(model.state_dict()) writes them"
    return None


def _other(path: Path, start: bytes, size: int) -> str:
    """What a file is that holds no weights."""
    if not size:
        return "empty (0 bytes)"
    for beginning, what in OTHERS.items():
        if start.startswith(beginning):
            return what
    if not start.strip(b"\0"):
        return "nothing but zeros at its beginning: the download or the disk has failed"
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            names = set(archive.getnames()[:100])
        older = {"pickle", "storages", "tensors"} <= names
        return "of PyTorch before 0.1.10: load and save it with a later one" if older else "a tar archive: unpack it"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PIL.Image.open(path, formats=IMAGES) as image:
                return f"an image ({image.format})"
    except Exception:  # it is none
        return _text(start) or "neither safetensors nor a .pth (damaged, or of another program)"


def _text(start: bytes) -> str | None:
    """What a text is; None where it is none."""
    try:
        text = start[:-4].decode() if len(start) == 1 << 16 else start.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    if any(ord(letter) < 32 and letter not in "\t\n\f\r" for letter in text):
        return None
    beginning = text.lstrip().lower()
    if beginning.startswith(("<!doctype html", "<html", "<head", "<script", "<meta")):
        return "a web page, not weights: the address wants a login or a click before it gives the file"
    if beginning.startswith("<"):
        return "XML, such as a server's error message, not weights"
    if beginning.startswith(("{", "[")):
        return "JSON, not weights"
    return "a text, not weights"

"""The images of a zip or tar archive, into a folder of ours and nowhere else."""

import gzip
import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from liif_core.download.transfer import Failed

DAMAGED = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, RuntimeError)


def _files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of every regular file; links and devices are passed over."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                if not info.is_dir():
                    with zipped.open(info) as entry:
                        yield info.filename, entry
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name, content
    else:
        with open(archive, "rb") as file:
            raise Failed(f"{archive.name} is no zip or tar archive: it begins with {file.read(40)!r}")


def unpack(archive: Path, members: str, becomes: str, target: Path) -> int:
    """Write the files whose names match into `target`; returns how many.

    members: a regular expression for the whole name. becomes: the path below `target`, a template for its groups.
    Raises Failed for what is no archive, a damaged one, and one with a name that leads out of a folder.
    """
    count = 0
    try:
        with tqdm(desc=f"unpacking {archive.name}", unit="image", leave=False, disable=None) as bar:
            for name, content in _files(archive):
                _check_name(archive, name)
                if found := re.fullmatch(members, name):
                    path = target / found.expand(becomes)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with open(path, "wb") as file:
                        shutil.copyfileobj(content, file)
                    count += 1
                    bar.update()
    except DAMAGED as error:
        raise Failed(f"{archive.name} is damaged ({error})") from None
    return count


def _check_name(archive: Path, name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        raise Failed(f"{archive.name} holds '{name}', which leads out of the folder: refused")

"""Files that are looked at before the work starts, written whole or not at all, or used as memory."""

import contextlib
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from liif_core.errors import UserError

WRITING = ".writing-"  # how files begin that are not whole yet; short, for the whole name may be as long as allowed


def check_writable(path: Path) -> None:
    """Raise UserError before the work starts if `write_atomically` could not write there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=WRITING):
            pass
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # refuses names that are too long
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"cannot write {path}: a part of the path is a file, not a folder") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file")


def check_new(path: Path, source: Path, overwrite: bool) -> None:
    """Raise UserError where writing `path` would lose a file: one that is there, unless `overwrite`, and never the one
    that is read, by whatever name or link."""
    if os.path.isdir(path):
        return  # `check_writable` has the sentence
    if os.path.exists(path) and os.path.samefile(path, source):
        raise UserError(f"{path} is the file that is read, {source}: name another one to write")
    if os.path.lexists(path) and not overwrite:
        raise UserError(f"{path} exists already: --overwrite replaces it")


def check_readable(path: Path, kind: str = "image") -> None:
    """Raise UserError unless the path is a file that can be opened. kind: what it should be, for the message."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe would be waited for
            raise UserError(f"{path} is a pipe or a device: expected a file")
        with open(path, "rb"):
            pass
    except FileNotFoundError:
        raise UserError(f"no such {kind}: {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: expected a file") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[str]:
    """The name of a file beside `path` to write to; then it is flushed to the disk and renamed into place.

    The file under `path` is the old one or the new one, never a part. previous: where the old one goes, if it shall
    stay. Raises UserError when the disk is full or the folder cannot be written.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=WRITING, suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's files are private
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(temporary, path)
        if os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # the new name, too, shall outlive a power cut
            finally:
                os.close(folder)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); what was there before is untouched") from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _keep(path: Path, previous: Path) -> None:
    """Have the file under another name, too, in the place of what was there."""
    second = path.with_name(f"{WRITING}{previous.name}")
    try:
        second.unlink(missing_ok=True)
        os.link(path, second)
    except OSError:  # a file system without links: for a moment there is none under `path`
        os.replace(path, previous)
    else:
        os.replace(second, previous)


def write_atomically(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write to a file beside, flush it to the disk, rename it into place; see `replacing`."""
    with replacing(path, previous) as temporary, open(temporary, "wb") as file:
        file.write(content)


@contextlib.contextmanager
def scratch(folder: Path, shape: tuple[int, ...], dtype: np.dtype) -> Iterator[np.ndarray]:
    """An array in a file without a name, so that the system may keep it on the disk instead of in memory."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            # A disk that is full says so here; later it would end the process.
            if hasattr(os, "posix_fallocate"):  # not on Windows and macOS
                os.posix_fallocate(file.fileno(), 0, math.prod(shape) * dtype.itemsize)
            else:
                file.truncate(math.prod(shape) * dtype.itemsize)
        except OSError as error:
            raise UserError(f"cannot write in {folder}: {error.strerror}") from None
        yield np.memmap(file, dtype, "r+", shape=shape)

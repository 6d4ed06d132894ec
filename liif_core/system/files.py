"""Files that are looked at before the work starts, written whole or not at all, or used as memory."""

import contextlib
import math
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from liif_core.errors import UserError

WRITING = ".writing-"  # how files begin that are not whole yet; short, for the whole name may be as long as allowed


def look(path: str | Path) -> os.stat_result | None:
    """What is at a path, links followed; None for nothing.

    Raises UserError where the system does not say: a folder that may not be entered, a name that is too long, a loop of
    links. (Path.exists and the like raise OSError for some of these and say no to the others.)
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # a NUL in it
        raise UserError(f"cannot read {path}: no path holds such characters") from None


def is_file(path: str | Path) -> bool:
    """Path.is_file, by `look`."""
    found = look(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: str | Path) -> bool:
    """Path.is_dir, by `look`."""
    found = look(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def entries(folder: Path) -> list[str]:
    """What is in a folder, sorted. Raises UserError for one that cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from None


def create(folder: Path, prefix: str, suffix: str, replaces: Path | None = None) -> tuple[int, str]:
    """A new file, open for writing: its descriptor and absolute name.

    Who may read it is what the umask says, as for any file, and not the owner alone as for those of tempfile; if it is
    to replace one, who may read that one.
    """
    mode = _mode(replaces) if replaces else None
    while True:
        name = os.path.join(os.path.abspath(folder), f"{prefix}{secrets.token_hex(4)}{suffix}")
        with contextlib.suppress(FileExistsError):
            return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else mode | 0o600), name


def _mode(path: Path) -> int | None:
    """The permissions of a file, None without one."""
    try:
        return stat.S_IMODE(os.stat(path).st_mode) & 0o777
    except OSError:
        return None


def check_writable(path: Path) -> None:
    """Raise UserError before the work starts if `write_atomically` could not write there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=WRITING):
            pass
        with contextlib.suppress(FileNotFoundError):
            path.lstat()  # refuses names that are too long
        folder = path.is_dir()
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"cannot write {path}: a part of the path is a file, not a folder") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    if folder:
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
    except ValueError as error:  # a NUL within the name
        raise UserError(f"no such {kind}: {str(path)!r} ({error})") from None


def _flush_name(path: Path) -> None:
    """So that a new name outlives a power cut, where the folder lets one do so; the file itself is there."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[str]:
    """The name of a file beside `path` to write to; then it is flushed to the disk and renamed into place.

    The file under `path` is the old one or the new one, never a part, and keeps its permissions. previous: where the
    old one goes, if it shall stay. Raises UserError when the disk is full or the folder cannot be written.
    """
    temporary = None
    try:
        descriptor, temporary = create(path.parent, WRITING, path.suffix, replaces=path)
        os.close(descriptor)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        if (mode := _mode(path)) is not None:
            with contextlib.suppress(PermissionError):  # of a file system without modes; it has at most these already
                os.chmod(temporary, mode)
        if previous is not None and path.exists():
            _keep(path, previous)
        os.replace(temporary, path)
        _flush_name(path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); what was there before is untouched") from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def _keep(path: Path, previous: Path) -> None:
    """Have the file under another name, too, in the place of what was there."""
    if previous.exists() and path.samefile(previous):
        return  # killed between the two renames; POSIX's rename leaves both names of one file
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

"""The images and videos of a folder: by their endings, or by content where a name has none."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from liif_core.errors import UserError
from liif_core.images import foreign
from liif_core.images.image import FORMATS
from liif_core.images.video_read import READ

NAMED = 3  # of the files that are left out


def has_ending(file: Path) -> bool:
    """Whether what follows the last dot of a name says what the file is; in "Screenshot at 10.15.33" it does not."""
    return _is_known(file) or re.fullmatch(r"\.[A-Za-z]\w{0,9}~?", file.suffix) is not None


def images(folder: Path, recursive: bool) -> list[Path]:
    """Images and videos, sorted. Raises UserError for a folder that cannot be looked into."""
    return sorted(file for file in _visible(folder, recursive) if _is_taken(file) and os.path.isfile(file))


def left_out(folder: Path, recursive: bool) -> list[tuple[Path, str]]:
    """Every other file that is not hidden, sorted, and what it is: "HEIC", or nothing where it is no image."""
    others = (file for file in _visible(folder, recursive) if not _is_taken(file) and os.path.isfile(file))
    return sorted((file, _what(file)) for file in others)


def _visible(folder: Path, recursive: bool) -> Iterator[Path]:
    """Files; links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise UserError(f"cannot read {error.filename}: {error.strerror}")

    for below, folders, names in os.walk(folder, onerror=refuse):
        # Hidden ones are no images: what a killed process left, or a Mac's notes about files.
        yield from (Path(below, name) for name in names if not name.startswith("."))
        if not recursive:
            folders.clear()


def _is_known(file: Path) -> bool:
    return file.suffix.lower() in (*FORMATS, *READ)


def _is_taken(file: Path) -> bool:
    return _is_known(file) if has_ending(file) else foreign.suffix(file) != ""


def _what(file: Path) -> str:
    try:
        known = foreign.kind(file)
    except OSError as error:
        return str(error.strerror)
    if known is not None:
        return known.name if known.image else ""
    suffix = foreign.suffix(file)
    return f"{suffix[1:].upper()} with another ending" if suffix else ""


def sentence(files: list[tuple[Path, str]]) -> str:
    """What was left out, for the end of what a command says; empty if nothing was."""
    kinds = [f"{file.name} is {what}" for file, what in files if what]
    rest = [file.name for file, what in files if not what]
    parts = []
    if kinds:
        parts.append(_some(len(kinds), "image of another kind", "images of other kinds", kinds))
    if rest:
        parts.append(_some(len(rest), "file that is no image", "files that are no images", rest))
    return f"left out: {', '.join(parts)}" if parts else ""


def _some(count: int, one: str, many: str, names: list[str]) -> str:
    more = f"; {count - NAMED} more" if count > NAMED else ""
    return f"{count} {one if count == 1 else many} ({'; '.join(names[:NAMED])}{more})"

"""Writing that leaves the old file or the new one, never a part."""

import os
import tempfile
from pathlib import Path

from liif_core.errors import UserError


def check_writable(path: Path) -> None:
    """Raise UserError before the work starts if `write_atomically` could not write there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".writing-"):
            pass
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; name a file")


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a file beside, flush it to the disk, rename it into place.

    The file under `path` is the old one or the new one, never a part. Raises UserError when the disk is
    full or the folder cannot be written.
    """
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's files are private
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); what was there before is untouched") from None
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)

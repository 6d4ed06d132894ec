"""Where a number comes from: the project's commit and the checksum of the weights."""

import functools
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from liif_core.system.places import CODE, INSTALLED


@functools.cache
def commit() -> str | None:
    """The project's git commit, with "-dirty" where tracked files have changed since; None outside git, and for
    what pip has installed.

    Read once a process: what runs is what was imported, whatever is committed meanwhile.
    """
    if INSTALLED:
        return None
    command = ["git", "-C", str(CODE), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    # The ceiling keeps git from taking the commit of another repository that merely contains the project.
    settings = {"GIT_CEILING_DIRECTORIES": str(CODE.parent), "GIT_OPTIONAL_LOCKS": "0"}
    try:
        result = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings)
    except OSError:  # no git here
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def sha256(path: Path, progress: Callable[[int], object] | None = None) -> str:
    """SHA-256 of a file, in hexadecimal digits; progress(bytes) is called after every block."""
    digest = hashlib.sha256()  # hashlib.file_digest came with Python 3.11
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            if progress is not None:
                progress(len(block))
    return digest.hexdigest()

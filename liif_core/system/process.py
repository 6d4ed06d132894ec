"""What a command sees to before it imports anything that is not Python's own."""

from __future__ import annotations

import importlib.util
import os
import sys

from liif_core.system.packages import pip_install
from liif_core.system.places import CODE, INSTALLED, SHIPPED
from liif_core.system.streams import keep_descriptors

# By the name under which the core imports them at once; the others are asked for where they are used.
NEEDED = ("numpy", "PIL", "pyvips", "yaml", "pydantic", "safetensors", "tqdm", "imageio", "imageio_ffmpeg")
OLDEST = (3, 10)


def begin() -> None:
    """Look after the standard streams, and leave with a sentence and status 2 where Python or packages will not do."""
    keep_descriptors()
    here = f"this Python, {sys.executable or 'python3'},"
    if sys.version_info < OLDEST:
        leave(f"{here} is {sys.version.split()[0]}: expected 3.10 to 3.12; {_remedy()}")
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        leave(f"{here} lacks the packages ({', '.join(lacking)}): {_remedy()}")


def _remedy() -> str:
    """The command that gives a Python with everything."""
    if INSTALLED:
        return f"run `{pip_install('-r', str(SHIPPED / 'requirements.txt'))}`"
    if os.path.realpath(sys.prefix) == os.path.realpath(CODE / ".venv"):
        return "run `make demo`, which installs them"
    activate = os.path.relpath(CODE / ".venv/bin/activate")
    return f"run `source {activate}`" + ("" if os.path.isfile(activate) else " after `make demo`, which makes it")


def leave(sentence: str) -> None:
    """As entry.run leaves, which could not be imported."""
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)

"""Where the project's files are: from a checkout all in its root, installed by pip in three places."""

import os
from pathlib import Path

# Of the packages: the checkout's root, or site-packages.
CODE = Path(__file__).resolve().parents[2]

# pip's copy of configs/, pretrained/, reference/ and requirements.txt; pyproject.toml names them.
_COPY = CODE / "liif_core" / "shipped"
INSTALLED = _COPY.is_dir()

# Of what comes with the project: configs/, pretrained/, reference/, requirements.txt.
SHIPPED = _COPY if INSTALLED else CODE

# The weights that are tested and shown if nobody names others.
PRETRAINED = SHIPPED / "pretrained" / "edsr-baseline-liif_bsds400-further.safetensors"

# Of what its user brings and makes: load/, save/, demo_result/. Installed, the working directory.
WORK = Path() if INSTALLED else CODE


def expand(path: str | Path) -> str:
    """A path that a user has written, with the home folder for `~` and the environment's values for `$VAR`.

    What is there under the very name stays as it is; so does a variable that is not set.
    """
    text = os.fspath(path)
    return text if os.path.lexists(text) else os.path.expandvars(os.path.expanduser(text))


def command(name: str, script: str) -> str:
    """How to type a command: `liif <name>` where that is what there is, else scripts/<script>."""
    return f"liif {name}" if INSTALLED else f"python scripts/{script}"

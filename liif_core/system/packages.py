"""The packages that the frameworks need, and the command that installs them."""

from __future__ import annotations

import shlex
import sys

FRAMEWORKS = ("torch", "jittor")
PACKAGES = {"torch": ("torch", "torchvision"), "jittor": ("jittor==1.3.11.0", "numpy<2")}


def pip_install(*requirements: str) -> str:
    """The shell command that installs `requirements` into this very Python."""
    return shlex.join([sys.executable or "python3", "-m", "pip", "install", *requirements])

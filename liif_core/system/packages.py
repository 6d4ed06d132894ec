"""The packages that the frameworks need, and the command that installs them."""

from __future__ import annotations

import platform
import shlex
import sys

FRAMEWORKS = ("torch", "jittor")
PACKAGES = {"torch": ("torch", "torchvision"), "jittor": ("jittor==1.3.11.0", "numpy<2")}
ONEDNN_PACKAGES = ("onednn-cpu-gomp==2022.2.1", "onednn-devel-cpu-gomp==2022.2.1")  # for Jittor


def pip_install(*requirements: str) -> str:
    """The shell command that installs `requirements` into this very Python."""
    return shlex.join([sys.executable or "python3", "-m", "pip", "install", *requirements])


def jittor_is_required() -> bool:
    """Whether requirements.txt lists Jittor for this system: on Linux with x86-64, where its oneDNN exists."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def missing(framework: str) -> str:
    """A sentence that says that a framework is not installed, and how to get it."""
    needed = list(PACKAGES[framework])
    advice = ""
    if framework == "jittor" and jittor_is_required():
        needed += ONEDNN_PACKAGES
    elif framework == "jittor":
        advice = "; it is tested on Linux with x86-64 alone, and PyTorch does the same without it"
    return f"the Python package {framework!r} is not installed: run `{pip_install(*needed)}`{advice}"

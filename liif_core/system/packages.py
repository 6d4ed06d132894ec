"""The packages that the frameworks need, and the command that installs them."""

from __future__ import annotations

import importlib
import platform
import shlex
import sys
from types import ModuleType

from liif_core.errors import UserError

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


def load(name: str, *requirements: str) -> ModuleType:
    """An optional package or a module of one. Raises UserError where it cannot be imported, as `failed` says it."""
    try:
        return importlib.import_module(name)
    except Exception as error:  # beside another version of what it needs, a package raises anything
        raise UserError(failed(name, error, *requirements)) from None


def failed(name: str, error: Exception, *requirements: str) -> str:
    """A sentence on a package that cannot be imported: it is missing, and `requirements` install it, or it is there."""
    package = name.partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"the Python package '{package}' is not installed: run `{pip_install(*requirements)}`"
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return (
        f"the Python package '{package}' is installed, but cannot be imported ({reason}): install it again, or what it "
        "names"
    )

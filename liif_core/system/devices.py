"""Choose the device and set the process up, before PyTorch or Jittor is imported.

Both frameworks read their environment once, at import: `CUDA_VISIBLE_DEVICES`, Jittor's `nvcc_path`
and `log_silent`, OpenMP's and the C library's malloc settings. An entry script therefore calls `prepare` first and
imports its framework afterwards. Nothing here imports a framework or starts CUDA, and nothing prints.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from liif_core.errors import UserError
from liif_core.system import jittor_setup, packages
from liif_core.system.distributed import ALONE, Ranks
from liif_core.system.memory import keep_freed_pages
from liif_core.system.packages import PACKAGES
from liif_core.system.signals import shield_children

# By which a user may say how OpenMP's threads wait: the standard's name, GNU's, Intel's and LLVM's.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@dataclass(frozen=True)
class Device:
    """Where the framework will run, and one sentence that tells the user so."""

    kind: Literal["cpu", "cuda"]
    note: str


def prepare(framework: str, gpu: str | None, ranks: Ranks = ALONE) -> Device:
    """Set the environment variables for `framework` and return the device to use.

    Args:
        framework: "torch" or "jittor".
        gpu: the value of `--gpu`: None (the first GPU if there is one), "cpu" or "" (the CPU),
            or GPU numbers such as "0" and "0,1". Where no GPU exists, "0" means the CPU too,
            since published commands carry it.
        ranks: of several processes on this machine each takes a GPU of its own, in the order given.

    Errors: UserError for a GPU that does not exist or a value that is not understood, and when the
    framework or something it needs is not installed; ValueError for an unknown framework.
    """
    shield_children()
    require_framework(framework)
    let_threads_sleep()
    if ranks.local_world_size > 1 and gpu is None and "CUDA_VISIBLE_DEVICES" not in os.environ and count_gpus():
        gpu = ",".join(map(str, range(count_gpus())))
    device = choose_device(gpu)
    if framework == "jittor":
        jittor_setup.choose_mpi(ranks)
        device = prepare_jittor(device)
    elif device.kind == "cuda" and torch_lacks_cuda():
        device = Device("cpu", "the installed PyTorch is built without CUDA: running on the CPU")
    if device.kind == "cuda" and ranks.local_world_size > 1:
        device = own_gpu(ranks)
    if device.kind == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        keep_freed_pages()
        if ranks.local_world_size > 1:  # each would start a thread on every core
            share = max(1, (os.cpu_count() or 1) // ranks.local_world_size)
            os.environ.setdefault("OMP_NUM_THREADS", str(min(available_cores(), share)))
    return device


def available_cores() -> int:
    """Those that this process may run on, of which a batch system or taskset may have left it fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def let_threads_sleep() -> None:
    """Threads of the framework that wait for each other sleep, unless the user has said how they shall wait.

    By default each spins for milliseconds, on a core that the thread it waits for may need: beside another program
    everything takes up to three times as long (benchmarks/threads.py).
    """
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def require_framework(framework: str) -> None:
    """Raise UserError for a framework that is not installed, ValueError for an unknown one."""
    if framework not in PACKAGES:
        raise ValueError(f"unknown framework {framework!r}: expected one of {sorted(PACKAGES)}")
    if importlib.util.find_spec(framework) is None:
        raise UserError(packages.missing(framework))


def prepare_import(framework: str, name: str) -> None:
    """What must be seen to before a framework is imported into a process that may be somebody else's; `prepare` is for
    a command's own.

    name: "auto", "cpu", "cuda" or one of several GPUs like "cuda:1". Hides no GPU and changes neither allocator nor
    signals. For Jittor, unless it is imported already, it sets the variables that Jittor reads then: `prepare_jittor`.

    Raises UserError as `prepare` does, and for a name that is not understood; whether the device is there the framework
    must say.
    """
    require_framework(framework)
    if not re.fullmatch("auto|cpu|cuda(:[0-9]{1,4})?", name):
        raise UserError(f"device '{name}': expected 'auto', 'cpu', 'cuda' or one of several GPUs like 'cuda:1'")
    if framework != "jittor" or "jittor" in sys.modules:
        return
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    there = count_gpus() > 0 and not hidden
    if name.startswith("cuda") and not there:  # before it compiles for minutes
        raise UserError(f"device '{name}': no GPU is visible here; 'cpu' is there")
    jittor_setup.choose_mpi(ALONE)
    prepare_jittor(Device("cpu" if name == "cpu" or not there else "cuda", ""))


def choose_device(gpu: str | None) -> Device:
    """Turn the value of `--gpu` into a device and set CUDA_VISIBLE_DEVICES to match (see `prepare`)."""
    if gpu is not None:
        return _requested_device(gpu)
    if count_gpus() == 0:
        return Device("cpu", "no GPU found: running on the CPU")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return Device("cpu", f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU: running on the CPU")
    if visible is None:
        visible = os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    return Device("cuda", f"running on GPU {visible}")


def own_gpu(ranks: Ranks) -> Device:
    """The GPU of one of several processes, of those that are visible."""
    visible = os.environ["CUDA_VISIBLE_DEVICES"].split(",")
    if len(visible) < ranks.local_world_size:
        raise UserError(
            f"{ranks.local_world_size} processes on this machine, but GPU {','.join(visible)} alone: each needs one of "
            "its own; start fewer, give more as in --gpu 0,1, or take --gpu cpu"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[ranks.local_rank]
    return Device("cuda", f"{ranks.world_size} processes, the first on GPU {visible[ranks.local_rank]}")


def _requested_device(gpu: str) -> Device:
    numbers = [part.strip() for part in gpu.split(",")]
    if gpu.strip().lower() in ("", "cpu"):
        return Device("cpu", "running on the CPU, as asked")
    understood = all(re.fullmatch("[0-9]{1,4}", number) for number in numbers)
    if not understood or len({int(number) for number in numbers}) < len(numbers):
        raise UserError(f"--gpu {gpu!r} is not understood: give GPU numbers such as 0 or 0,1, or --gpu cpu")
    chosen = [int(number) for number in numbers]
    count = count_gpus()
    if count == 0 and chosen == [0]:
        return Device("cpu", "no GPU found: running on the CPU instead of GPU 0")
    if any(number >= count for number in chosen):
        existing = "no GPU at all" if count == 0 else "only GPU " + ", ".join(map(str, range(count)))
        raise UserError(f"--gpu {gpu}: this machine has {existing}; --gpu cpu is accepted everywhere")
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, chosen))
    others = f" alone of {gpu}: several GPUs need several processes (docs/cluster.md)" if len(chosen) > 1 else ""
    return Device("cuda", f"running on GPU {chosen[0]}{others}")


def count_gpus() -> int:
    """Number of NVIDIA GPUs of this machine, 0 without a driver.

    NVML answers without starting CUDA, which would freeze the visible devices for this process.
    """
    for name in ("libnvidia-ml.so.1", "nvml.dll"):
        with contextlib.suppress(OSError, AttributeError):
            nvml = ctypes.CDLL(name)
            if nvml.nvmlInit_v2() != 0:
                continue
            count = ctypes.c_uint(0)
            status = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
            nvml.nvmlShutdown()
            return count.value if status == 0 else 0
    return 0


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; read from /proc/cpuinfo, False where there is none."""
    with contextlib.suppress(OSError):
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split())
        return not flags.isdisjoint(("avx512_bf16", "amx_bf16", "bf16"))  # the last is ARM's name
    return False


def torch_lacks_cuda() -> bool:
    """Whether the installed PyTorch is a CPU build, read from its version file without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    with contextlib.suppress(OSError):
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
        return re.search(r"^cuda\b.*=\s*None\s*$", text, re.MULTILINE) is not None
    return False


def prepare_jittor(device: Device) -> Device:
    """Check what Jittor compiles with, link oneDNN and set Jittor's own variables; see `prepare`."""
    jittor_setup.require_old_numpy()
    jittor_setup.require_compiler()
    jittor_setup.require_python_headers()
    home = jittor_setup.jittor_home()
    nvcc = ""
    if device.kind == "cuda":
        nvcc, problem = jittor_setup.find_cuda_toolkit(home)
        if not nvcc:
            device = Device("cpu", f"Jittor cannot use the GPU, since {problem}: running on the CPU")
    if device.kind == "cuda":
        # Jittor: leaves cuDNN's default, which rounds float32 convolutions to TF32, three decimal digits.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    # An empty nvcc_path also keeps Jittor from trying whatever nvcc is on the PATH, or downloading one.
    os.environ["nvcc_path"] = nvcc
    os.environ.setdefault("log_silent", "1")
    # Unset, Jittor imports PyTorch where there is one, which takes a second and 490 MiB. Both work side by side.
    os.environ.setdefault("FIX_TORCH_ERROR", "0")
    # Unset, Jittor names its cache after the git branch around it, and compiles again on every branch.
    os.environ.setdefault("cache_name", "default")
    # Jittor 1.3.11: its threads compile at once what shares an input, and make nodes of the graph without a lock, which
    # crashed in 5 of 1,000 processes that took 40 products of one matrix, and in none of 1,000 with one thread.
    os.environ.setdefault("use_parallel_op_compiler", "1")
    jittor_setup.link_onednn(home)
    if not jittor_setup.core_is_compiled(home, bool(nvcc)):
        compiling = "Jittor now compiles its core, once, which takes one to five minutes"
        device = Device(device.kind, f"{device.note}; {compiling}")
    return device

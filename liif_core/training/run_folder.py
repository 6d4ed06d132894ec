"""A run's folder: who may write in it, whether it can be gone on with, and from which checkpoint."""

import os
import socket
from pathlib import Path

from tqdm import tqdm

from liif_core.checkpoints import formats
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load as configs
from liif_core.config.schema import TrainConfig
from liif_core.errors import UserError
from liif_core.system.files import WRITING, entries, is_folder, look, write_atomically
from liif_core.system.locks import lock_for_process
from liif_core.training import start
from liif_core.training.start import LAST

LOCK = "run.lock"
PREVIOUS = "epoch-previous.safetensors"

# Open for as long as the process lives: whoever closes any descriptor of the file, after reading it perhaps, gives up
# the process's lock.
_held: list = []


def lock(folder: Path) -> None:
    """Keep other processes from training in `folder`, if it exists, until this one ends, however it ends.

    Raises UserError while another process does. The lock is the process's own (POSIX): a loader's workers, which may
    outlive it, do not hold it.
    """
    if not is_folder(folder):
        return
    try:
        file = open(folder / LOCK, "a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write in the run folder {folder}: {error.strerror}") from None
    _held.append(file)
    try:
        lock_for_process(file)
    except (BlockingIOError, PermissionError):
        file.seek(0)
        owner = file.read() or "another process"
        raise UserError(
            f"the run folder {folder} is in use by {owner}: wait for it, or choose another --name"
        ) from None
    except OSError as error:  # a file system without locks
        tqdm.write(f"warning: {folder} cannot be locked ({error.strerror}): see that no two processes train in it")
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()


def check(folder: Path, config: TrainConfig, resume: bool) -> None:
    """Raise UserError for a run folder that cannot be made or gone on with, and for a new run without the checkpoint
    that it shall begin from; changes nothing.
    """
    there = look(folder) is not None
    if there and not is_folder(folder):
        raise UserError(f"the run folder {folder} is a file: choose another --name")
    empty = not there or entries(folder) in ([], [LOCK])
    if not empty and not resume:
        raise UserError(f"the run folder {folder} exists: continue it with --resume, or choose another --name")
    if empty or not _written(folder):  # or it stopped before there was anything to keep
        if config.resume is not None:
            formats.locate(config.resume)
        if config.start_from is not None:
            start.find(folder, config.start_from)
        return
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} holds no .safetensors to go on from: name its checkpoint under `resume` in the config, "
            "and choose another --name"
        )
    check_unchanged(folder, config)


def _written(folder: Path) -> bool:
    """Whether a run has kept something here."""
    return any(folder.glob("epoch-*"))


def check_unchanged(folder: Path, config: TrainConfig) -> None:
    """Raise UserError if a run folder was made with another config; how long and how often may differ."""
    written = folder / "config.yaml"
    before, now = configs.load(written, "train").model_dump(), config.model_dump()
    free = {"epoch_max", "epoch_val", "epoch_save", "step_save", "step_log", "num_workers", "val_images"}
    if config.cosine_lr:  # the cosine ends where training does
        free.remove("epoch_max")
    changed = [key for key in now if before[key] != now[key] and key not in free]
    if changed:
        raise UserError(f"{written} and the given config differ in {', '.join(changed)}: use another --name")


def open_folder(folder: Path, config: TrainConfig, resume: bool = True) -> None:
    """Make a new run folder, or tidy an old one that `check` lets pass; no checkpoint is ever deleted."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the run folder {folder}: {error.strerror}") from None
    lock(folder)
    check(folder, config, resume)  # again: another process may have trained here since
    for leftover in folder.glob(f"{WRITING}*"):  # half a file, from a process that was killed while it wrote
        leftover.unlink()
    if not _written(folder):
        write_atomically(folder / "config.yaml", configs.dump(config).encode())


def last_checkpoint(folder: Path) -> tuple[Path, Checkpoint, list[Path]] | None:
    """The checkpoint that is whole and furthest along, its path, and which are damaged; None without any.

    Warns of the damaged ones. Raises UserError if there are checkpoints, but none is whole.
    """
    damaged = []
    for names in ((LAST,), (PREVIOUS,), [path.name for path in folder.glob("epoch-*.safetensors")]):
        whole = []
        for path in (folder / name for name in names if (folder / name).exists()):
            try:
                whole.append((path, formats.load(path, training=True)))
            except UserError as error:
                if path not in damaged:
                    tqdm.write(f"warning: {error}; going on from the one before")
                    damaged.append(path)
        if whole:
            return *max(whole, key=lambda found: found[1].progress.get("step", 0)), damaged
    if damaged:
        raise UserError(f"no checkpoint in {folder} is whole: begin again with another --name")
    return None


def set_aside(damaged: list[Path]) -> None:
    """Rename damaged checkpoints, so that the next save does not take one for the one before."""
    for path in damaged:
        names = (path.with_name(f"damaged-{number}{path.name}") for number in ("", *(f"{n}-" for n in range(2, 1000))))
        os.replace(path, next(name for name in names if not name.exists()))

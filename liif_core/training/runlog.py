"""What a run says of itself: log.txt for people, metrics.jsonl for programs, tensorboard for curves.

metrics.jsonl is the truth: one JSON object a line, {"step", "epoch", "loss"} for every training step and
{"step", "epoch", "lr", "train_loss", "val_psnr", "commit", "seconds", "samples_per_second", "memory_gib"} for every
epoch: the project's commit, the time on the clock that the whole epoch took, without what a kill threw away and the
time until --resume, the speed of training alone, and the engine's peak_memory.
"""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from liif_core.config import load as configs
from liif_core.errors import UserError
from liif_core.system import packages
from liif_core.system.files import write_atomically
from liif_core.training.tensorboard import Tensorboard


def read_metrics(path: Path) -> Iterator[tuple[str, dict]]:
    """The lines of a metrics.jsonl with their records, without those that a kill cut short or a power cut damaged."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if line.endswith("\n") and isinstance(record, dict):
                yield line, record


class RunLog:
    """Appends to the logs in `folder`; what comes after (`step`, `epoch`) is dropped, for it will come again.

    silent: say nothing, as all processes but one do that train together. wandb_project: of Weights & Biases.
    """

    def __init__(self, folder: Path, step: int, epoch: int, silent: bool = False, wandb_project: str | None = None):
        self.folder = folder
        self.silent = silent
        self.metrics = folder / "metrics.jsonl"
        self.tensorboard: Tensorboard | None = None
        self.wandb_run: Any = None
        if silent:
            return
        if self.metrics.exists():
            self._keep_until(step, epoch)
        if wandb_project is not None:
            self.wandb_run = open_wandb(wandb_project, folder)
        self.tensorboard = Tensorboard(folder / "tensorboard", step)

    def _keep_until(self, step: int, epoch: int) -> None:
        """Drop the steps after the checkpoint that training goes on from, and what a kill or power cut damaged."""
        kept = [
            line
            for line, record in read_metrics(self.metrics)
            if (record["step"] <= step if "loss" in record else record["epoch"] < epoch)
        ]
        write_atomically(self.metrics, "".join(kept).encode())

    def text(self, line: str) -> None:
        """A line on the screen and in log.txt."""
        if self.silent:
            return
        tqdm.write(line)
        self._append(self.folder / "log.txt", line + "\n")

    def record(self, records: list[dict]) -> None:
        """Lines in metrics.jsonl, written at once, and their numbers in tensorboard."""
        if self.silent:
            return
        self._append(self.metrics, "".join(json.dumps(record) + "\n" for record in records))
        for record in records:
            for key, value in record.items():
                curve = key not in ("step", "epoch") and isinstance(value, (int, float))
                if curve and self.tensorboard is not None:
                    self.tensorboard.number(key, value, record["step"])
            self._log_to_wandb(record)

    def _log_to_wandb(self, record: dict) -> None:
        try:
            if self.wandb_run is not None:
                self.wandb_run.log(record)
        except Exception as error:  # whatever a network does: training matters more
            tqdm.write(f"warning: no more for Weights & Biases ({error}); metrics.jsonl goes on")
            self.wandb_run = None

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """An image, uint8 (h, w, 3), in tensorboard."""
        if self.tensorboard is not None:
            self.tensorboard.image(name, image, step)

    def _append(self, path: Path, text: str) -> None:
        size = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(path, size)  # half a line would corrupt what comes after it
            raise UserError(f"cannot write {path} ({error.strerror}); checkpoints are untouched") from None

    def flush(self) -> None:
        """All that was written so far outlives a kill, metrics.jsonl a power cut too."""
        if self.metrics.exists() and not self.silent:
            try:
                with open(self.metrics, "rb") as file:
                    os.fsync(file.fileno())
            except OSError as error:
                raise UserError(f"cannot write {self.metrics} ({error.strerror}); checkpoints are untouched") from None
        if self.tensorboard is not None:
            self.tensorboard.flush()

    def close(self) -> None:
        """Flush, and tell Weights & Biases that this is the end."""
        with contextlib.suppress(UserError):  # what ends the run has been said, or everything has been saved
            self.flush()
        with contextlib.suppress(Exception):
            if self.wandb_run is not None:
                self.wandb_run.finish()


def find_wandb() -> Any:
    """The package of Weights & Biases. Raises UserError without it."""
    return packages.load("wandb", "wandb")


def open_wandb(project: str, folder: Path) -> Any:
    """A run of Weights & Biases, which goes on where a run of this folder stopped."""
    wandb = find_wandb()
    kept = folder / "wandb-id"
    if not kept.exists():
        write_atomically(kept, secrets.token_hex(8).encode())
    identity = kept.read_text(encoding="utf-8")
    settings = configs.read_yaml(folder / "config.yaml")
    names = {"project": project, "name": folder.name, "dir": str(folder)}
    try:
        run = wandb.init(**names, id=identity, resume="allow", config=settings)
        run.define_metric("*", step_metric="step")
    except Exception as error:
        raise UserError(f"--wandb {project}: {error}; WANDB_MODE=offline does without a network") from None
    return run

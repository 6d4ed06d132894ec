"""An engine in numpy alone, so that a run takes parts of a second: what is tested with it is the loop around it."""

import atexit
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from liif_core.commands import entry
from liif_core.commands.train import train as train_command
from liif_core.engine import NetworkState
from liif_core.system import distributed, packages

FEATURES = 2048  # a checkpoint of 50 KB, more than a block of any disk


class Engine:
    """Linear regression with momentum on fixed random features of coordinate, cell and mean colour.

    Every step depends on all that came before: a batch that is skipped, seen twice or in another order changes the
    weights. A step takes `pause` seconds.
    """

    device_kind, receptive_radius, scale, precision, pause = "cpu", 0, None, "fp32", 0.02
    preupsampled = False

    def __init__(self, model_spec, device="cpu", method_spec=None, optimizer_spec=None, *_):
        self.base_rate = optimizer_spec["args"]["lr"] if optimizer_spec else 0
        self.projection = np.random.default_rng(0).normal(size=(7, FEATURES)).astype(np.float32)
        self.losses: list[dict[str, float]] = []
        self.seed(0)

    def seed(self, seed):
        self.weights, self.momentum = np.zeros((2, FEATURES, 3), np.float32)

    def begin_step(self, random_seed, learning_rate, decay=None):
        self.rate = np.float32(learning_rate(self.base_rate))

    def train_step(self, batch, weight=1.0):
        time.sleep(self.pause)
        features = self._features(batch["inp"], batch["coord"], batch["cell"])
        error = features @ self.weights - batch["gt"].reshape(-1, 3)
        self.losses.append({"loss": float(np.abs(error).mean())})
        self.momentum = np.float32(0.9) * self.momentum + features.T @ error / np.float32(len(error))
        self.weights = self.weights - self.rate * self.momentum

    def read_losses(self):
        losses, self.losses = self.losses, []
        return losses

    def total(self, values):
        return values

    def peak_memory(self):
        return 0

    def predict_queries(self, inp, coord, cell):
        return (self._features(inp, coord, cell) @ self.weights).reshape(*coord.shape[:2], 3)

    def state(self):
        return {"model": NetworkState({"weights": self.weights}, {"momentum.weights": self.momentum})}

    def load_state(self, state):
        self.weights = state["model"].parameters["weights"]
        self.momentum = state["model"].optimizer.get("momentum.weights", np.zeros_like(self.weights))

    def _features(self, inp, coord, cell):
        parts = (np.broadcast_to(part[:, None], (*coord.shape[:2], part.shape[1])) for part in (cell, inp.mean((2, 3))))
        rows = np.concatenate([coord, *parts], axis=2, dtype=np.float32).reshape(-1, 7)
        return np.sin(rows @ self.projection) / np.float32(FEATURES**0.5)


def make_loader(batches, num_workers=0):
    return (batches[k] for k in range(len(batches)))


def train(words: list[str], output: tuple[Path, Path], folder: Path, operation: int | None) -> None:
    """What a forked process does: train.py with these words. Without a word it ends before its `operation`-th change of
    a file in `folder`, counted from 1, as by SIGKILL.
    """
    os.setsid()
    for number, path in zip((1, 2), output, strict=True):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
    sys.stdout.reconfigure(line_buffering=True)
    packages.PACKAGES["numpy"], distributed.VARIABLES["numpy"] = ("numpy",), ()
    sys.argv = ["train.py", *words]
    if operation is not None:
        _die_before(operation, folder)
    try:
        entry.run(train_command, "numpy", lambda: (Engine, make_loader))
        status = 0
    except SystemExit as leaving:
        status = leaving.code
    # The end of a process of its own; that of multiprocessing comes in another order and lets tensorboard complain.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status)


def _die_before(operation: int, folder: Path) -> None:
    changes = ("os.rename", "os.remove", "os.chmod", "os.mkdir", "os.truncate", "os.link", "os.symlink")
    count = 0

    def hook(event, arguments):
        nonlocal count
        opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (opened or event in changes) and str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == operation:
                os.write(2, f"{event} {os.path.basename(arguments[0])}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)

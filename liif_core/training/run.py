"""A training run: its engine and folder, where it is, where it begins and what is kept of it."""

import contextlib
import io
import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from liif_core.checkpoints import formats, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load as configs
from liif_core.config.schema import TrainConfig
from liif_core.data.workers import Lost
from liif_core.errors import Stopped, Unsavable, UserError
from liif_core.images.normalisation import Normalisation
from liif_core.system.distributed import Ranks
from liif_core.system.files import write_atomically
from liif_core.system.signals import StopRequest
from liif_core.training import run_folder, start
from liif_core.training.runlog import RunLog


@dataclass
class Progress:
    """Where training is: the epoch under way (from 1), its batches done, all steps done, the sums of its losses by
    name, the best value of the metric that the config's `best` names, and the seconds that the epoch's batches took.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    seconds: float = 0.0

    @property
    def place(self) -> tuple[int, int, int]:
        """Epoch, batch and step."""
        return self.epoch, self.batch, self.step

    def mean_losses(self) -> dict[str, float]:
        """The means over the epoch's batches, by name."""
        return {name: value / self.batch for name, value in self.losses.items()}

    def saved(self, metric: str) -> dict:
        """As a checkpoint keeps it; `metric` is what `best` is of."""
        others = {name: value for name, value in self.losses.items() if name != "loss"}
        kept = {"epoch": self.epoch, "batch": self.batch, "step": self.step, "loss_sum": self.losses.get("loss", 0.0)}
        return kept | {f"best_{metric}": self.best, "seconds": self.seconds} | ({"losses": others} if others else {})

    @classmethod
    def from_saved(cls, kept: dict, metric: str) -> "Progress":
        """What `saved` gave."""
        losses = {"loss": kept.get("loss_sum", 0.0)} | kept.get("losses", {})
        numbers = {key: kept[key] for key in ("epoch", "batch", "step", "seconds") if key in kept}
        return cls(**numbers, losses=losses, best=kept.get(f"best_{metric}"))


class Run:
    """A training run: what is trained, its folder, and where it is. Of several processes, rank 0 writes."""

    def __init__(self, engine, config: TrainConfig, folder: Path, progress: Progress, ranks: Ranks, log: RunLog):
        self.engine, self.config, self.folder, self.progress, self.ranks = engine, config, folder, progress, ranks
        self.log = log
        self.normalisation = Normalisation(config.data_norm)
        self.started = time.monotonic()
        self.recent: dict[int, dict] = {}  # by step: the batches whose losses are not known yet, and the one before
        self.losses: list[dict[str, float]] = []  # read from the device, not yet written to the log
        self.stop = StopRequest()
        self.kept: tuple[int, int, int] | None = None  # the place that epoch-last was last written at

    def fetch_losses(self) -> None:
        """Get the losses of the last steps from the device and log them. Raises Unsavable for NaN or infinity."""
        losses = self.losses = self.losses + self.engine.read_losses()
        first = self.progress.step - len(losses) + 1
        finite = [all(map(math.isfinite, step.values())) for step in losses]
        good = losses[: finite.index(False)] if False in finite else losses
        self.log.record([{"step": first + i, "epoch": self.progress.epoch, **step} for i, step in enumerate(good)])
        if len(good) < len(losses):
            step = first + len(good)
            name, value = next(item for item in losses[len(good)].items() if not math.isfinite(item[1]))
            self._give_up(f"the {name} of step {step} is {value}", step - 1, step)
        for step_losses in losses:
            for name, value in step_losses.items():
                self.progress.losses[name] = self.progress.losses.get(name, 0.0) + value
        self.losses = []
        self.recent = {step: batch for step, batch in self.recent.items() if step == self.progress.step}

    def _give_up(self, what: str, *steps: int) -> None:
        """Keep the batches that may have made the weights NaN, and stop before they are saved."""
        rank = f"-rank-{self.ranks.rank}" if self.ranks.world_size > 1 else ""
        kept = [step for step in steps if step in self.recent]
        for step in kept:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **self.recent[step])
            with contextlib.suppress(UserError):  # a full disk; what is said below matters more
                write_atomically(self.folder / f"bad-step-{step}{rank}.npz", buffer.getvalue())
        self.losses, self.recent = [], {}
        self.wait_for_all()
        files = " and ".join(f"bad-step-{step}{rank}.npz" for step in kept)
        raise Unsavable(
            f"{what}: the batches that led there are in {self.folder}, {files}; the checkpoints are from before; "
            "begin a new run with a lower learning rate or with clip_grad"
        )

    def save(self, *names: str) -> None:
        """Write the state under names like "epoch-last". Raises Unsavable for NaN or infinite weights."""
        self.fetch_losses()
        state = self.engine.state()
        parts = (part for n in state.values() for part in (n.parameters, n.buffers, n.optimizer, n.average))
        if not all(np.isfinite(array).all() for part in parts for array in part.values()):
            step = self.progress.step
            self._give_up(f"after step {step} the weights are NaN or infinite", step)
        if self.ranks.rank:
            return
        content = Checkpoint(
            model=self.config.model.model_dump(),
            state=state,
            data_norm=self.config.data_norm.model_dump(),
            optimizer=self.config.optimizer.model_dump(),
            progress=self.progress.saved(self.config.best) | {"seed": self.config.seed},
            method=self.config.method.model_dump(),
        )
        self.log.flush()
        for name in names:
            previous = self.folder / run_folder.PREVIOUS if name == "epoch-last" else None
            native.save(self.folder / f"{name}.safetensors", content, previous)
        if "epoch-last" in names:
            self.kept = self.progress.place

    @contextlib.contextmanager
    def alive(self) -> Iterator[None]:
        """When a signal, an image or a loader's process ends the block too early, the last step is saved. The logs are
        closed in any case. What else ends it, as memory that is full, may have left a step half done."""
        several = self.ranks.world_size > 1
        with contextlib.closing(self.log):
            try:
                yield
            except Stopped:
                self._save_last()
                self.wait_for_all()
                raise
            except UserError as error:  # a broken image; of one process alone, when there are several
                if not self.progress.step or several or isinstance(error, Unsavable):
                    raise
                self._save_last()
                if not isinstance(error, Lost):
                    raise
                if self.stop.requested:  # the same signal may have ended a worker
                    raise Stopped(self.stopped()) from None
                raise UserError(f"{error}; {self.stopped()}") from None

    def _save_last(self) -> None:
        if self.kept != self.progress.place:
            self.save("epoch-last")

    def stop_requested(self) -> bool:
        """Whether one of the processes has been asked to stop; all of them have to call this."""
        return bool(self.engine.total(np.array([float(self.stop.requested)]))[0])

    def stopped(self) -> str:
        """What is said at the end."""
        return f"stopped at step {self.progress.step}, saved in {self.folder}; go on with --resume"

    def wait_for_all(self) -> None:
        """Let no process go on, or leave, before all are here: a launcher may end all when the first one leaves."""
        self.engine.total(np.zeros(1))


def begin(engine, config: TrainConfig, folder: Path, ranks: Ranks, wandb_project: str | None, resume: bool) -> Run:
    """Open the folder and find out where to begin: the run, ready to go on."""
    if ranks.rank == 0:
        run_folder.open_folder(folder, config, resume)
    engine.total(np.zeros(1))  # the others wait until the folder is as it shall be
    progress, damaged = starting_point(engine, config, folder)
    check_agreement(engine, progress, folder, ranks)  # rank 0 waits here until they have read it
    if ranks.rank == 0:
        run_folder.set_aside(damaged)
        if progress.epoch <= config.epoch_max:  # what check_unchanged lets differ counts from here on
            write_atomically(folder / "config.yaml", configs.dump(config).encode())
    log = RunLog(folder, progress.step, progress.epoch, silent=ranks.rank > 0, wandb_project=wandb_project)
    return Run(engine, config, folder, progress, ranks, log)


def starting_point(engine, config: TrainConfig, folder: Path) -> tuple[Progress, list[Path]]:
    """Seed the engine, or load the run's own last checkpoint, or the one that the config's `resume` or `start_from`
    names.

    Also returns the run's checkpoints that were damaged.
    """
    engine.seed(config.seed)
    own = run_folder.last_checkpoint(folder)
    source = own[0] if own else config.resume
    if source is None:
        if config.start_from is not None:
            start.give_weights(engine, config, start.find(folder, config.start_from))
        return Progress(), []
    found = own[1] if own else formats.load(source, config, training=True)
    for note in found.notes:
        tqdm.write(f"{source}: {note}")
    if found.optimizer and found.optimizer["name"] != config.optimizer.name:
        before, now = found.optimizer["name"], config.optimizer.name
        raise UserError(f"{source} was trained with '{before}', the config says '{now}': use the same optimizer")
    lacking = native.restore(engine, found.state, source)
    if own and lacking:
        raise UserError(f"{source} lacks what the method trains: {', '.join(lacking)}")
    if found.model != config.model.model_dump():  # equal parameters, but another switch such as local_ensemble
        raise UserError(f"{source} holds another model than the config: {found.model}")
    if own:
        return Progress.from_saved(found.progress, config.best), own[2]
    # Another run's checkpoint: its place in an epoch and its best value belong to its own data.
    progress = Progress(epoch=found.progress.get("epoch", 1), step=found.progress.get("step", 0))
    if progress.epoch > config.epoch_max:
        raise UserError(f"{source} has {progress.epoch - 1} epochs behind it; epoch_max {config.epoch_max} leaves none")
    return progress, []


def check_agreement(engine, progress: Progress, folder: Path, ranks: Ranks) -> None:
    """Raise UserError, in every process, unless all of them begin with the same weights at the same step."""
    weights = 0
    for network in engine.state().values():
        for name, array in sorted(network.variables.items()):
            weights = zlib.crc32(array.tobytes(), zlib.crc32(name.encode(), weights))
    own = np.array([progress.step, progress.epoch, progress.batch, weights], np.float64)
    differs = float((engine.total(own) != own * ranks.world_size).any())
    if engine.total(np.array([differs]))[0]:
        raise UserError(
            f"the {ranks.world_size} processes do not begin with the same weights: see that all of them read the same "
            f"run folder {folder}"
        )

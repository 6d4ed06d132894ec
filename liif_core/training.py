"""The training loop: epochs, validation, best, resume. It knows nothing of models or methods."""

import contextlib
import io
import math
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from liif_core import checkpoint, data, evaluation, provenance, run_folder, schedule
from liif_core import config as configs
from liif_core.checkpoint import Checkpoint
from liif_core.config import TrainConfig
from liif_core.data.batching import Batches, checked
from liif_core.data.sampling import step_seed
from liif_core.errors import Stopped, Unsavable, UserError
from liif_core.files import write_atomically
from liif_core.normalisation import Normalisation
from liif_core.ranks import ALONE, Ranks
from liif_core.runlog import RunLog


@dataclass
class Progress:
    """Where training is: the epoch under way (from 1), its batches done, all steps done, its losses, the best PSNR,
    and the seconds that the epoch's batches took.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_psnr: float | None = None
    seconds: float = 0.0


class StopRequest:
    """Ctrl-C, SIGTERM, the end of the terminal and SIGUSR2, by which Slurm warns, ask for a stop after the current step
    instead of breaking into it.
    """

    def __init__(self):
        self.requested = False
        hangup = [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]  # nohup's wish
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, *hangup):
            signal.signal(number, self._request)

    def _request(self, number, frame):
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait


class Run:
    """A training run: what is trained, its folder, and where it is. Of several processes, rank 0 writes."""

    def __init__(self, engine, config: TrainConfig, folder: Path, progress: Progress, ranks: Ranks, log: RunLog):
        self.engine, self.config, self.folder, self.progress, self.ranks = engine, config, folder, progress, ranks
        self.log = log
        self.started = time.monotonic()
        self.unread: list[dict] = []  # the batches of the steps whose losses are not known yet
        self.losses: list[float] = []  # that are known and not in the log yet, should it not take them

    def fetch_losses(self) -> None:
        """Get the losses of the last steps from the device and log them. Raises Unsavable for one that is no number."""
        losses = self.losses = self.losses + self.engine.read_losses()
        first = self.progress.step - len(losses) + 1
        finite = [math.isfinite(loss) for loss in losses]
        good = losses[: finite.index(False)] if False in finite else losses
        self.log.record(
            [{"step": first + i, "epoch": self.progress.epoch, "loss": loss} for i, loss in enumerate(good)]
        )
        if len(good) < len(losses):
            self._give_up(first + len(good), losses[len(good)], self.unread[len(good)])
        for loss in losses:
            self.progress.loss_sum += loss
        self.losses, self.unread = [], []

    def _give_up(self, step: int, loss: float, batch: dict) -> None:
        """Keep the batch that spoilt the weights, and stop before they are saved."""
        rank = f"-rank-{self.ranks.rank}" if self.ranks.count > 1 else ""
        path = self.folder / f"bad-step-{step}{rank}.npz"
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **batch)
        write_atomically(path, buffer.getvalue())
        self.engine.total(np.zeros(1))  # a launcher may end all processes when the first one leaves
        raise Unsavable(
            f"the loss of step {step} is {loss}: its batch is in {path}, the checkpoints in {self.folder} are from "
            "before; begin a new run with a lower learning rate or with clip_grad"
        )

    def save(self, *names: str) -> None:
        """Write the state under names like "epoch-last"."""
        self.fetch_losses()
        if self.ranks.rank:
            return
        content = Checkpoint(
            model=self.config.model.model_dump(),
            state=self.engine.state(),
            data_norm=self.config.data_norm.model_dump(),
            optimizer=self.config.optimizer.model_dump(),
            progress=asdict(self.progress) | {"seed": self.config.seed},
        )
        self.log.flush()
        for name in names:
            previous = self.folder / run_folder.PREVIOUS if name == "epoch-last" else None
            checkpoint.save(self.folder / f"{name}.safetensors", content, previous)

    def stop_agreed(self, requested: bool) -> bool:
        """Whether to stop after this step. Several processes agree on it when they read losses, which waits anyway."""
        if self.ranks.count == 1:
            return requested
        if self.progress.step % self.config.step_log:
            return False
        return bool(self.engine.total(np.array([float(requested)]))[0])

    def validate(self, make_loader, val_set, normalisation: Normalisation) -> float:
        """The validation PSNR; rank 0 shows some pictures, too."""
        psnr = evaluation.validate(self.engine, make_loader, val_set, self.config, normalisation, self.ranks)
        if self.ranks.rank == 0:
            for name, page in evaluation.sheets(self.engine, val_set, self.config.val_pictures, normalisation):
                self.log.picture(f"val/{name}", page, self.progress.step)
        return psnr

    def report(self, record: dict, samples: int, epochs_left: float) -> None:
        """The epoch in the logs. epochs_left: how many more there are for each that this process has done."""
        psnr = f", val: psnr={record['val_psnr']:.4f}" if "val_psnr" in record else ""
        speed = samples / self.progress.seconds if self.progress.seconds else 0.0
        memory = self.engine.peak_memory() / 2**30
        elapsed = time.monotonic() - self.started
        self.log.text(
            f"epoch {record['epoch']}/{self.config.epoch_max}, train: loss={record['train_loss']:.4f}{psnr}, "
            f"{speed:.1f} samples/s, {memory:.1f} GiB, "
            f"{duration(record['seconds'])} {duration(elapsed)}/{duration(elapsed * (1 + epochs_left))}"
        )
        self.log.record([record | {"samples_per_second": round(speed, 2), "memory_gib": round(memory, 3)}])


def starting_point(engine, config: TrainConfig, folder: Path) -> tuple[Progress, list[Path]]:
    """Seed the engine, or load the run's own last checkpoint, or the one that the config's `resume` names.

    Also returns the run's checkpoints that were damaged.
    """
    engine.seed(config.seed)
    own = run_folder.last_checkpoint(folder)
    source = own[0] if own else config.resume
    if source is None:
        return Progress(), []
    found = own[1] if own else checkpoint.load(source)
    if found.optimizer and found.optimizer["name"] != config.optimizer.name:
        before, now = found.optimizer["name"], config.optimizer.name
        raise UserError(f"{source} was trained with '{before}', the config says '{now}': use the same optimizer")
    checkpoint.restore(engine, found.state, source)
    if found.model != config.model.model_dump():  # equal parameters, but another switch such as local_ensemble
        raise UserError(f"{source} holds another model than the config: {found.model}")
    if own:
        return Progress(**{k: v for k, v in found.progress.items() if k in Progress.__dataclass_fields__}), own[2]
    # Another run's checkpoint: its place in an epoch and its best PSNR belong to its own data.
    progress = Progress(epoch=found.progress.get("epoch", 1), step=found.progress.get("step", 0))
    if progress.epoch > config.epoch_max:
        raise UserError(f"{source} has {progress.epoch - 1} epochs behind it; epoch_max {config.epoch_max} leaves none")
    return progress, []


def make_data_sets(config: TrainConfig) -> tuple:
    """What to train on and what to validate on, None without a val_dataset."""
    train_set = data.make(config.train_dataset.model_dump(), config.seed, training=True)
    return train_set, config.val_dataset and data.make(config.val_dataset.model_dump(), config.seed, training=False)


def begin(engine, config: TrainConfig, data_sets: tuple, folder: Path, note: str, ranks: Ranks, board: str | None):
    """Open the folder and find out where to begin: the run, ready to go on."""
    if ranks.rank == 0:
        run_folder.open_folder(folder, config)
    engine.total(np.zeros(1))  # the others wait until the folder is as it shall be
    progress, damaged = starting_point(engine, config, folder)
    engine.total(np.zeros(1))  # and rank 0 until they have read it
    if ranks.rank == 0:
        run_folder.set_aside(damaged)
        if progress.epoch <= config.epoch_max:  # what check_unchanged lets differ counts from here on
            write_atomically(folder / "config.yaml", configs.dump(config).encode())
    log = RunLog(folder, progress.step, progress.epoch, silent=ranks.rank > 0, board=board)
    train_set, val_set = data_sets
    log.text(note if progress.step == 0 else f"{note}, resumed at epoch {progress.epoch}, step {progress.step}")
    several = f", {ranks.count} processes" if ranks.count > 1 else ""
    log.text(f"train: {len(train_set)} samples, val: {len(val_set) if val_set else 0}, seed {config.seed}{several}")
    return Run(engine, config, folder, progress, ranks, log)


def train(
    engine,
    make_loader,
    config: TrainConfig,
    data_sets: tuple,
    folder: Path,
    note: str,
    ranks: Ranks = ALONE,
    board: str | None = None,
) -> None:
    """Train until config.epoch_max, in a folder that `run_folder.check` let pass.

    make_loader(batches) is the tree's own. board: a project of Weights & Biases that hears what the log hears.
    Checkpoints in `folder`: epoch-last (every epoch and every step_save steps) and the one before it, epoch-best
    (validation PSNR), epoch-N (every epoch_save epochs). A killed run goes on from the last and gives the same bits.
    """
    provenance.commit()  # now, before somebody commits while this runs
    train_set, val_set = data_sets
    run = begin(engine, config, data_sets, folder, note, ranks, board)
    progress, normalisation = run.progress, Normalisation(config.data_norm)
    stop, base, batch_size = StopRequest(), float(config.optimizer.args["lr"]), config.train_dataset.batch_size
    plan, first_epoch = config.multi_step_lr or config.cosine_lr, progress.epoch

    with contextlib.closing(run.log):
        while progress.epoch <= config.epoch_max:
            epoch, epoch_started = progress.epoch, time.monotonic() - progress.seconds
            batches = Batches(train_set, batch_size, config.seed, epoch, progress.batch, ranks.rank, ranks.count)
            steps = progress.batch + len(batches)
            rates = [schedule.learning_rate(base, epoch + k / steps, plan, config.epoch_max) for k in range(steps)]
            title = f"epoch {epoch}/{config.epoch_max}"
            bar = tqdm(total=steps, initial=progress.batch, desc=title, leave=False, disable=ranks.rank > 0 or None)
            try:
                for batch, share in zip(checked(make_loader(batches)), batches.shares, strict=True):
                    engine.begin_step(step_seed(config.seed, progress.step), rates[progress.batch])
                    engine.train_step(normalisation.batch(batch), share)
                    run.unread.append(batch)
                    progress.step += 1
                    progress.batch += 1
                    progress.seconds = time.monotonic() - epoch_started
                    bar.update()
                    if progress.step % config.step_log == 0:
                        run.fetch_losses()
                        bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.4f}")
                    if config.step_save and progress.step % config.step_save == 0:
                        run.save("epoch-last")
                    if run.stop_agreed(stop.requested):
                        raise Stopped(f"stopped at step {progress.step}, saved in {folder}; go on with --resume")
            except Stopped:
                run.save("epoch-last")
                engine.total(np.zeros(1))  # a launcher may end all processes when the first one leaves
                raise
            except UserError as error:  # a broken picture; of one process alone, when there are several
                if progress.step and ranks.count == 1 and not isinstance(error, Unsavable):
                    run.save("epoch-last")
                raise
            bar.close()
            run.fetch_losses()

            record = {"step": progress.step, "epoch": epoch, "lr": rates[-1], "train_loss": progress.loss_sum / steps}
            names = [f"epoch-{epoch}"] if config.epoch_save and epoch % config.epoch_save == 0 else []
            if val_set and config.epoch_val and epoch % config.epoch_val == 0:
                psnr = record["val_psnr"] = run.validate(make_loader, val_set, normalisation)
                if psnr > (-math.inf if progress.best_psnr is None else progress.best_psnr):
                    progress.best_psnr = psnr
                    names.append("epoch-best")
            record |= {"commit": provenance.commit(), "seconds": round(time.monotonic() - epoch_started, 3)}
            run.report(record, len(train_set), (config.epoch_max - epoch) / (epoch - first_epoch + 1))
            progress.epoch, progress.batch, progress.loss_sum, progress.seconds = epoch + 1, 0, 0.0, 0.0
            run.save(*names, "epoch-last")  # last, for it says that the others are there


def duration(seconds: float) -> str:
    """Seconds as 12.3s, 4.5m or 6.7h."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"

"""The training loop: epochs, validation, best, resume. It knows nothing of models or methods."""

import contextlib
import io
import math
import time
import zlib
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
from liif_core.stop_request import StopRequest


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


class Run:
    """A training run: what is trained, its folder, and where it is. Of several processes, rank 0 writes."""

    def __init__(self, engine, config: TrainConfig, folder: Path, progress: Progress, ranks: Ranks, log: RunLog):
        self.engine, self.config, self.folder, self.progress, self.ranks = engine, config, folder, progress, ranks
        self.log = log
        self.normalisation = Normalisation(config.data_norm)
        self.started = time.monotonic()
        self.recent: dict[int, dict] = {}  # by step: the batches whose losses are not known yet, and the one before
        self.losses: list[float] = []  # that are known and not in the log yet, should it not take them

    def train_epoch(self, make_loader, train_set, stop: StopRequest) -> float:
        """The steps of the epoch that are left; the learning rate of its last one. Raises Stopped when asked to."""
        config, progress, ranks = self.config, self.progress, self.ranks
        began, size = time.monotonic() - progress.seconds, config.train_dataset.batch_size
        batches = Batches(train_set, size, config.seed, progress.epoch, progress.batch, ranks.rank, ranks.count)
        steps = progress.batch + len(batches)
        base, plan = float(config.optimizer.args["lr"]), config.multi_step_lr or config.cosine_lr
        rates = [schedule.learning_rate(base, progress.epoch + k / steps, plan, config.epoch_max) for k in range(steps)]
        title, hidden = f"epoch {progress.epoch}/{config.epoch_max}", ranks.rank > 0 or None
        with tqdm(total=steps, initial=progress.batch, desc=title, leave=False, disable=hidden) as bar:
            for batch, share in zip(checked(make_loader(batches)), batches.shares, strict=True):
                self.engine.begin_step(step_seed(config.seed, progress.step), rates[progress.batch])
                self.engine.train_step(self.normalisation.batch(batch), share)
                progress.step += 1
                progress.batch += 1
                self.recent[progress.step] = batch
                bar.update()
                if progress.step % config.step_log == 0:
                    self.fetch_losses()
                    bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.4f}")
                progress.seconds = time.monotonic() - began
                if config.step_save and progress.step % config.step_save == 0:
                    self.save("epoch-last")
                if (ranks.count == 1 or progress.step % config.step_log == 0) and self.all_hear(stop):
                    raise Stopped(self.stopped())
        self.fetch_losses()
        progress.seconds = time.monotonic() - began
        if batches and self.config.epoch_val:
            self.save("epoch-last")  # what happens in validation shall not cost the epoch
        return rates[-1]

    def finish_epoch(self, make_loader, train_set, val_set, rate: float) -> None:
        """Validate, write the logs and the checkpoints, and go on to the next epoch."""
        config, progress, began = self.config, self.progress, time.monotonic() - self.progress.seconds
        epoch, train_loss = progress.epoch, progress.loss_sum / progress.batch
        record: dict = {"step": progress.step, "epoch": epoch, "lr": rate, "train_loss": train_loss}
        names = [f"epoch-{epoch}"] if config.epoch_save and epoch % config.epoch_save == 0 else []
        if val_set and config.epoch_val and epoch % config.epoch_val == 0:
            psnr = evaluation.validate(self.engine, make_loader, val_set, config, self.normalisation, self.ranks)
            if self.ranks.rank == 0:
                for name, page in evaluation.sheets(self.engine, val_set, config.val_pictures, self.normalisation):
                    self.log.picture(f"val/{name}", page, progress.step)
            record |= {"val_psnr": psnr} if math.isfinite(psnr) else {}
            if psnr > (-math.inf if progress.best_psnr is None else progress.best_psnr):
                progress.best_psnr = psnr
                names.append("epoch-best")
        record |= {"commit": provenance.commit(), "seconds": round(time.monotonic() - began, 3)}
        self.report(record, len(train_set))
        progress.epoch, progress.batch, progress.loss_sum, progress.seconds = epoch + 1, 0, 0.0, 0.0
        self.save(*names, "epoch-last")  # last, for it says that the others are there

    def report(self, record: dict, samples: int) -> None:
        """The epoch in the logs, with its speed, the memory and, after the time since the start, that of the whole run
        from there if all epochs that are left take as long.
        """
        epoch, psnr = record["epoch"], record.get("val_psnr")
        speed = samples / self.progress.seconds if self.progress.seconds else 0.0
        memory = self.engine.peak_memory() / 2**30
        elapsed = time.monotonic() - self.started
        whole = elapsed + record["seconds"] * (self.config.epoch_max - epoch)
        self.log.text(
            f"epoch {epoch}/{self.config.epoch_max}, train: loss={record['train_loss']:.4f}, "
            f"{f'val: psnr={psnr:.4f}, ' if psnr is not None else ''}{speed:.1f} samples/s, {memory:.1f} GiB, "
            f"{duration(record['seconds'])} {duration(elapsed)}/{duration(whole)}"
        )
        self.log.record([record | {"samples_per_second": round(speed, 2), "memory_gib": round(memory, 3)}])

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
            step = first + len(good)
            self._give_up(f"the loss of step {step} is {losses[len(good)]}", step - 1, step)
        for loss in losses:
            self.progress.loss_sum += loss
        self.losses = []
        self.recent = {step: batch for step, batch in self.recent.items() if step == self.progress.step}

    def _give_up(self, what: str, *steps: int) -> None:
        """Keep the batches that may have spoilt the weights, and stop before they are saved."""
        rank = f"-rank-{self.ranks.rank}" if self.ranks.count > 1 else ""
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
        """Write the state under names like "epoch-last". Raises Unsavable for weights that are no numbers."""
        self.fetch_losses()
        state = self.engine.state()
        arrays = (array for part in (state.parameters, state.optimizer, state.average) for array in part.values())
        if not all(np.isfinite(array).all() for array in arrays):
            step = self.progress.step
            self._give_up(f"after step {step} the weights are no numbers any more", step)
        if self.ranks.rank:
            return
        content = Checkpoint(
            model=self.config.model.model_dump(),
            state=state,
            data_norm=self.config.data_norm.model_dump(),
            optimizer=self.config.optimizer.model_dump(),
            progress=asdict(self.progress) | {"seed": self.config.seed},
        )
        self.log.flush()
        for name in names:
            previous = self.folder / run_folder.PREVIOUS if name == "epoch-last" else None
            checkpoint.save(self.folder / f"{name}.safetensors", content, previous)

    def all_hear(self, stop: StopRequest) -> bool:
        """Whether one of the processes has been asked to stop; all of them have to call this."""
        return bool(self.engine.total(np.array([float(stop.requested)]))[0])

    def stopped(self) -> str:
        """What is said at the end."""
        return f"stopped at step {self.progress.step}, saved in {self.folder}; go on with --resume"

    def wait_for_all(self) -> None:
        """Let no process go on, or leave, before all are here: a launcher may end all when the first one leaves."""
        self.engine.total(np.zeros(1))


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


def begin(engine, config: TrainConfig, folder: Path, ranks: Ranks, board: str | None, resume: bool) -> Run:
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
    log = RunLog(folder, progress.step, progress.epoch, silent=ranks.rank > 0, board=board)
    return Run(engine, config, folder, progress, ranks, log)


def check_agreement(engine, progress: Progress, folder: Path, ranks: Ranks) -> None:
    """Raise UserError, in every process, unless all of them begin with the same weights at the same step."""
    weights = 0
    for name, array in sorted(engine.state().parameters.items()):
        weights = zlib.crc32(array.tobytes(), zlib.crc32(name.encode(), weights))
    own = np.array([progress.step, progress.epoch, progress.batch, weights], np.float64)
    differs = float((engine.total(own) != own * ranks.count).any())
    if engine.total(np.array([differs]))[0]:
        raise UserError(
            f"the {ranks.count} processes do not begin with the same weights: see that all of them read the same run "
            f"folder {folder}"
        )


def train(
    engine,
    make_loader,
    config: TrainConfig,
    data_sets: tuple,
    folder: Path,
    note: str,
    ranks: Ranks = ALONE,
    board: str | None = None,
    resume: bool = True,
) -> None:
    """Train until config.epoch_max, in a folder that `run_folder.check` let pass.

    make_loader(batches) is the tree's own. board: a project of Weights & Biases that hears what the log hears. resume:
    whether a run that is found in the folder may be gone on with. Checkpoints in `folder`: epoch-last (every epoch and
    every step_save steps) and the one before it, epoch-best (validation PSNR), epoch-N (every epoch_save epochs). A
    killed run goes on from the last and gives the same bits.
    """
    provenance.commit()  # now, before somebody commits while this runs
    train_set, val_set = data_sets
    run, stop = begin(engine, config, folder, ranks, board, resume), StopRequest()
    with contextlib.closing(run.log):
        step, epoch = run.progress.step, run.progress.epoch
        several = f", {ranks.count} processes" if ranks.count > 1 else ""
        run.log.text(f"{note}, resumed at epoch {epoch}, step {step}" if step else note)
        run.log.text(f"train: {len(train_set)} samples, val: {len(val_set or ())}, seed {config.seed}{several}")
        while run.progress.epoch <= config.epoch_max:
            try:
                rate = run.train_epoch(make_loader, train_set, stop)
            except Stopped:
                run.save("epoch-last")
                run.wait_for_all()
                raise
            except RuntimeError:  # of a loader whose workers the same signal has ended before they were ready
                if not stop.requested or ranks.count > 1:
                    raise
                run.save("epoch-last")
                raise Stopped(run.stopped()) from None
            except UserError as error:  # a broken picture; of one process alone, when there are several
                if run.progress.step and ranks.count == 1 and not isinstance(error, Unsavable):
                    run.save("epoch-last")
                raise
            try:
                run.finish_epoch(make_loader, train_set, val_set, rate)
            except RuntimeError:  # the same of validation; what was trained has been saved before
                if not stop.requested or ranks.count > 1:
                    raise
                raise Stopped(run.stopped()) from None
            if run.progress.epoch <= config.epoch_max and run.all_hear(stop):  # asked in validation
                run.wait_for_all()
                raise Stopped(run.stopped())


def duration(seconds: float) -> str:
    """Seconds as 12.3s, 4.5m or 6.7h."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"

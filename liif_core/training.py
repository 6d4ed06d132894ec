"""The training loop: epochs, validation, best, resume. It knows nothing of models or methods."""

import math
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from liif_core import checkpoint, data, evaluation, provenance, schedule
from liif_core import config as configs
from liif_core.checkpoint import Checkpoint
from liif_core.config import TrainConfig
from liif_core.data.batching import Batches, checked
from liif_core.errors import Stopped, UserError
from liif_core.files import write_atomically
from liif_core.normalisation import Normalisation
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
    """Ctrl-C and SIGTERM ask for a stop after the current step instead of breaking into it."""

    def __init__(self):
        self.requested = False
        self.process = os.getpid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, number, frame):
        if os.getpid() != self.process:  # a loader's worker inherits this handler: SIGTERM ends it, Ctrl-C does not
            return os._exit(1) if number == signal.SIGTERM else None
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C does not wait


class Run:
    """A training run: what is trained, its folder, and where it is."""

    def __init__(self, engine, config: TrainConfig, folder: Path, progress: Progress):
        self.engine, self.config, self.folder, self.progress = engine, config, folder, progress
        self.log = RunLog(folder, progress.step, progress.epoch)

    def fetch_losses(self) -> None:
        """Get the losses of the last steps from the device and log them."""
        losses = self.engine.read_losses()
        first = self.progress.step - len(losses) + 1
        self.log.record(
            [{"step": first + i, "epoch": self.progress.epoch, "loss": loss} for i, loss in enumerate(losses)]
        )
        for loss in losses:
            self.progress.loss_sum += loss

    def save(self, *names: str) -> None:
        """Write the state under names like "epoch-last"."""
        self.fetch_losses()
        content = Checkpoint(
            model=self.config.model.model_dump(),
            state=self.engine.state(),
            data_norm=self.config.data_norm.model_dump(),
            optimizer=self.config.optimizer.model_dump(),
            progress=asdict(self.progress) | {"seed": self.config.seed},
        )
        for name in names:
            checkpoint.save(self.folder / f"{name}.safetensors", content)


def check_folder(folder: Path, config: TrainConfig, resume: bool) -> None:
    """Raise UserError for a run folder that cannot be made or gone on with; changes nothing."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"the run folder {folder} is a file: choose another --name")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not resume:
        raise UserError(f"the run folder {folder} exists: continue it with --resume, or choose another --name")
    if not any(folder.glob("epoch-*")):  # it stopped before there was anything to keep
        return
    if last_checkpoint(folder) is None:
        raise UserError(
            f"{folder} holds no .safetensors to go on from: name its checkpoint under `resume` in the config, "
            "and choose another --name"
        )
    check_unchanged(folder, config)


def open_folder(folder: Path, config: TrainConfig) -> None:
    """Make a new run folder, or tidy an old one that `check_folder` let pass; no checkpoint is ever deleted."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the run folder {folder}: {error.strerror}") from None
    for leftover in folder.glob(".epoch-*"):  # half a checkpoint, from a process that was killed while it wrote
        leftover.unlink()
    if not any(folder.glob("epoch-*")):
        write_atomically(folder / "config.yaml", configs.dump(config).encode())


def check_unchanged(folder: Path, config: TrainConfig) -> None:
    """Raise UserError if a run folder was made with another config; how long and how often may differ."""
    written = folder / "config.yaml"
    before, now = configs.load(written, "train").model_dump(), config.model_dump()
    free = {"epoch_max", "epoch_val", "epoch_save", "step_save", "step_log", "num_workers"}
    changed = [key for key in now if before[key] != now[key] and key not in free]
    if changed:
        raise UserError(f"{written} and the given config differ in {', '.join(changed)}: use another --name")


def last_checkpoint(folder: Path) -> Path | None:
    """epoch-last, or the one furthest along where a kill came before the first epoch-last; None without any."""
    last = folder / "epoch-last.safetensors"
    if last.exists():
        return last
    return max(
        folder.glob("epoch-*.safetensors"), key=lambda path: checkpoint.load(path).progress["step"], default=None
    )


def starting_point(engine, config: TrainConfig, folder: Path) -> Progress:
    """Seed the engine, or load the run's own last checkpoint, or the one that the config's `resume` names."""
    engine.seed(config.seed)
    last = last_checkpoint(folder)
    source = last or config.resume
    if source is None:
        return Progress()
    found = checkpoint.load(source)
    if found.optimizer and found.optimizer["name"] != config.optimizer.name:
        before, now = found.optimizer["name"], config.optimizer.name
        raise UserError(f"{source} was trained with '{before}', the config says '{now}': use the same optimizer")
    checkpoint.restore(engine, found.state, source)
    if found.model != config.model.model_dump():  # equal parameters, but another switch such as local_ensemble
        raise UserError(f"{source} holds another model than the config: {found.model}")
    if source == last:
        return Progress(**{k: v for k, v in found.progress.items() if k in Progress.__dataclass_fields__})
    # Another run's checkpoint: its place in an epoch and its best PSNR belong to its own data.
    progress = Progress(epoch=found.progress.get("epoch", 1), step=found.progress.get("step", 0))
    if progress.epoch > config.epoch_max:
        raise UserError(f"{source} has {progress.epoch - 1} epochs behind it; epoch_max {config.epoch_max} leaves none")
    return progress


def make_data_sets(config: TrainConfig) -> tuple:
    """What to train on and what to validate on, None without a val_dataset."""
    train_set = data.make(config.train_dataset.model_dump(), config.seed, training=True)
    return train_set, config.val_dataset and data.make(config.val_dataset.model_dump(), config.seed, training=False)


def train(engine, make_loader, config: TrainConfig, data_sets: tuple, folder: Path, note: str) -> None:
    """Train until config.epoch_max, in a folder that `check_folder` let pass; `make_loader(batches)` is the tree's own.

    Checkpoints in `folder`: epoch-last (every epoch and every step_save steps), epoch-best (validation
    PSNR), epoch-N (every epoch_save epochs). A killed run goes on from epoch-last and gives the same bits.
    """
    train_set, val_set = data_sets
    open_folder(folder, config)
    progress = starting_point(engine, config, folder)
    if progress.epoch <= config.epoch_max:  # what check_unchanged lets differ counts from here on
        write_atomically(folder / "config.yaml", configs.dump(config).encode())
    normalisation = Normalisation(config.data_norm)
    run = Run(engine, config, folder, progress)
    log = run.log
    log.text(note if progress.step == 0 else f"{note}, resumed at epoch {progress.epoch}, step {progress.step}")
    log.text(f"train: {len(train_set)} samples, val: {len(val_set) if val_set else 0}, seed {config.seed}")
    provenance.commit()  # now, before somebody commits while this runs
    stop, base = StopRequest(), float(config.optimizer.args["lr"])
    started, first_epoch = time.monotonic(), progress.epoch

    while progress.epoch <= config.epoch_max:
        epoch, epoch_started = progress.epoch, time.monotonic() - progress.seconds
        learning_rate = schedule.learning_rate(base, epoch, config.multi_step_lr)
        engine.set_lr(learning_rate)
        batches = Batches(train_set, config.train_dataset.batch_size, config.seed, epoch, progress.batch)
        steps = progress.batch + len(batches)
        title = f"epoch {epoch}/{config.epoch_max}"
        bar = tqdm(total=steps, initial=progress.batch, desc=title, leave=False, disable=None)
        try:
            for batch in checked(make_loader(batches)):
                engine.train_step(normalisation.batch(batch))
                progress.step += 1
                progress.batch += 1
                progress.seconds = time.monotonic() - epoch_started
                bar.update()
                if progress.step % config.step_log == 0:
                    run.fetch_losses()
                    bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.4f}")
                if config.step_save and progress.step % config.step_save == 0:
                    run.save("epoch-last")
                if stop.requested:
                    raise Stopped(f"stopped at step {progress.step}, saved in {folder}; go on with --resume")
        except (UserError, Stopped):  # a broken picture, or asked to
            if progress.step:
                run.save("epoch-last")
            raise
        bar.close()
        run.fetch_losses()

        train_loss = progress.loss_sum / max(progress.batch, 1)
        record: dict = {"step": progress.step, "epoch": epoch, "lr": learning_rate, "train_loss": train_loss}
        line = [title, f"train: loss={train_loss:.4f}"]
        names = []
        if config.epoch_save and epoch % config.epoch_save == 0:
            names.append(f"epoch-{epoch}")
        if val_set and config.epoch_val and epoch % config.epoch_val == 0:
            psnr = evaluation.validate(engine, make_loader, val_set, config, normalisation)
            record["val_psnr"] = psnr
            line.append(f"val: psnr={psnr:.4f}")
            if psnr > (-math.inf if progress.best_psnr is None else progress.best_psnr):
                progress.best_psnr = psnr
                names.append("epoch-best")
        record |= {"commit": provenance.commit(), "seconds": round(time.monotonic() - epoch_started, 3)}
        elapsed = time.monotonic() - started
        total = elapsed / (epoch - first_epoch + 1) * (config.epoch_max - first_epoch + 1)
        line.append(f"{duration(record['seconds'])} {duration(elapsed)}/{duration(total)}")
        log.text(", ".join(line))
        log.record([record])
        progress.epoch, progress.batch, progress.loss_sum, progress.seconds = epoch + 1, 0, 0.0, 0.0
        run.save(*names, "epoch-last")  # last, for it says that the others are there
    log.close()


def duration(seconds: float) -> str:
    """Seconds as 12.3s, 4.5m or 6.7h."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds:.1f}s"

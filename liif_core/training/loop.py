"""The training loop: epochs, validation, best. It knows nothing of models or methods."""

import contextlib
import math
import time
from pathlib import Path

from tqdm import tqdm

from liif_core.config.schema import TrainConfig
from liif_core.data import sets
from liif_core.data.batching import Batches, checked
from liif_core.data.sampling import step_seed
from liif_core.errors import Stopped, Unsavable, UserError
from liif_core.evaluation import evaluate
from liif_core.system import provenance
from liif_core.system.distributed import ALONE, Ranks
from liif_core.system.signals import StopRequest
from liif_core.system.text import duration
from liif_core.training import schedule
from liif_core.training.run import Run, begin


def make_data_sets(config: TrainConfig) -> tuple:
    """What to train on and what to validate on, None without a val_dataset."""
    train_set = sets.make(config.train_dataset.model_dump(), config.seed, training=True)
    return train_set, config.val_dataset and sets.make(config.val_dataset.model_dump(), config.seed, training=False)


def train(
    engine,
    make_loader,
    config: TrainConfig,
    data_sets: tuple,
    folder: Path,
    note: str,
    ranks: Ranks = ALONE,
    wandb_project: str | None = None,
    resume: bool = True,
) -> None:
    """Train until config.epoch_max, in a folder that `run_folder.check` let pass.

    make_loader(batches) is the tree's own. wandb_project: where Weights & Biases gets what the log gets. resume:
    whether a run that is found in the folder may be gone on with. Checkpoints in `folder`: epoch-last (every epoch and
    every step_save steps) and the one before it, epoch-best (validation PSNR), epoch-N (every epoch_save epochs). A
    killed run goes on from the last and gives the same bits.
    """
    provenance.commit()  # now, before somebody commits while this runs
    train_set, val_set = data_sets
    run, stop = begin(engine, config, folder, ranks, wandb_project, resume), StopRequest()
    with contextlib.closing(run.log):
        step, epoch = run.progress.step, run.progress.epoch
        several = f", {ranks.world_size} processes" if ranks.world_size > 1 else ""
        run.log.text(f"{note}, resumed at epoch {epoch}, step {step}" if step else note)
        run.log.text(f"train: {len(train_set)} samples, val: {len(val_set or ())}, seed {config.seed}{several}")
        while run.progress.epoch <= config.epoch_max:
            try:
                rate = train_epoch(run, make_loader, train_set, stop)
            except Stopped:
                run.save("epoch-last")
                run.wait_for_all()
                raise
            except RuntimeError:  # of a loader whose workers the same signal has ended before they were ready
                if not stop.requested or ranks.world_size > 1:
                    raise
                run.save("epoch-last")
                raise Stopped(run.stopped()) from None
            except UserError as error:  # a broken image; of one process alone, when there are several
                if run.progress.step and ranks.world_size == 1 and not isinstance(error, Unsavable):
                    run.save("epoch-last")
                raise
            try:
                finish_epoch(run, make_loader, train_set, val_set, rate)
            except RuntimeError:  # the same of validation; what was trained has been saved before
                if not stop.requested or ranks.world_size > 1:
                    raise
                raise Stopped(run.stopped()) from None
            if run.progress.epoch <= config.epoch_max and run.stop_requested(stop):  # asked in validation
                run.wait_for_all()
                raise Stopped(run.stopped())


def train_epoch(run: Run, make_loader, train_set, stop: StopRequest) -> float:
    """The steps of the epoch that are left; the learning rate of its last one. Raises Stopped when asked to."""
    config, progress, ranks = run.config, run.progress, run.ranks
    began, size = time.monotonic() - progress.seconds, config.train_dataset.batch_size
    batches = Batches(train_set, size, config.seed, progress.epoch, progress.batch, ranks.rank, ranks.world_size)
    steps = progress.batch + len(batches)
    base, plan = float(config.optimizer.args["lr"]), config.multi_step_lr or config.cosine_lr
    rates = [schedule.learning_rate(base, progress.epoch + k / steps, plan, config.epoch_max) for k in range(steps)]
    title, hidden = f"epoch {progress.epoch}/{config.epoch_max}", ranks.rank > 0 or None
    with tqdm(total=steps, initial=progress.batch, desc=title, leave=False, disable=hidden) as bar:
        for batch, weight in zip(checked(make_loader(batches)), batches.weights, strict=True):
            run.engine.begin_step(step_seed(config.seed, progress.step), rates[progress.batch])
            run.engine.train_step(run.normalisation.batch(batch), weight)
            progress.step += 1
            progress.batch += 1
            run.recent[progress.step] = batch
            bar.update()
            if progress.step % config.step_log == 0:
                run.fetch_losses()
                bar.set_postfix(loss=f"{progress.loss_sum / progress.batch:.4f}")
            progress.seconds = time.monotonic() - began
            if config.step_save and progress.step % config.step_save == 0:
                run.save("epoch-last")
            if (ranks.world_size == 1 or progress.step % config.step_log == 0) and run.stop_requested(stop):
                raise Stopped(run.stopped())
    run.fetch_losses()
    progress.seconds = time.monotonic() - began
    if batches and config.epoch_val:
        run.save("epoch-last")  # what happens in validation shall not cost the epoch
    return rates[-1]


def finish_epoch(run: Run, make_loader, train_set, val_set, rate: float) -> None:
    """Validate, write the logs and the checkpoints, and go on to the next epoch."""
    config, progress, began = run.config, run.progress, time.monotonic() - run.progress.seconds
    epoch, train_loss = progress.epoch, progress.loss_sum / progress.batch
    record: dict = {"step": progress.step, "epoch": epoch, "lr": rate, "train_loss": train_loss}
    names = [f"epoch-{epoch}"] if config.epoch_save and epoch % config.epoch_save == 0 else []
    if val_set and config.epoch_val and epoch % config.epoch_val == 0:
        psnr = evaluate.validate(run.engine, make_loader, val_set, config, run.normalisation, run.ranks)
        if run.ranks.rank == 0:
            for name, shown in evaluate.comparisons(run.engine, val_set, config.val_images, run.normalisation):
                run.log.image(f"val/{name}", shown, progress.step)
        record |= {"val_psnr": psnr} if math.isfinite(psnr) else {}
        if psnr > (-math.inf if progress.best_psnr is None else progress.best_psnr):
            progress.best_psnr = psnr
            names.append("epoch-best")
    record |= {"commit": provenance.commit(), "seconds": round(time.monotonic() - began, 3)}
    report(run, record, len(train_set))
    progress.epoch, progress.batch, progress.loss_sum, progress.seconds = epoch + 1, 0, 0.0, 0.0
    run.save(*names, "epoch-last")  # last, for it says that the others are there


def report(run: Run, record: dict, samples: int) -> None:
    """The epoch in the logs, with its speed, the memory and, after the time since the start, that of the whole run
    from there if all epochs that are left take as long.
    """
    epoch, psnr = record["epoch"], record.get("val_psnr")
    speed = samples / run.progress.seconds if run.progress.seconds else 0.0
    memory = run.engine.peak_memory() / 2**30
    elapsed = time.monotonic() - run.started
    whole = elapsed + record["seconds"] * (run.config.epoch_max - epoch)
    run.log.text(
        f"epoch {epoch}/{run.config.epoch_max}, train: loss={record['train_loss']:.4f}, "
        f"{f'val: psnr={psnr:.4f}, ' if psnr is not None else ''}{speed:.1f} samples/s, {memory:.1f} GiB, "
        f"{duration(record['seconds'])} {duration(elapsed)}/{duration(whole)}"
    )
    run.log.record([record | {"samples_per_second": round(speed, 2), "memory_gib": round(memory, 3)}])

"""The training loop: epochs, validation, best. It knows nothing of models or methods."""

import math
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from liif_core.config import protocol
from liif_core.config.schema import TrainConfig
from liif_core.data import sets
from liif_core.data.batching import Batches, checked
from liif_core.data.diffusion import Diffused, take_noise
from liif_core.data.sampling import step_seed
from liif_core.engine import MODEL
from liif_core.errors import Stopped, UserError
from liif_core.evaluation import evaluate
from liif_core.evaluation.metrics import METRICS
from liif_core.system import provenance
from liif_core.system.distributed import ALONE, Ranks
from liif_core.system.text import duration
from liif_core.training import schedule
from liif_core.training.run import Run, begin


def make_data_sets(config: TrainConfig) -> tuple:
    """What to train on and what to validate on, None without a val_dataset."""
    train_set = sets.make(config.train_dataset.model_dump(), config.seed, training=True)
    take_noise(train_set, config.model.model_dump(), config.method.model_dump())
    if config.val_dataset is None:
        return train_set, None
    return train_set, sets.make(config.val_dataset.model_dump(), config.seed, False, config.eval_type)


def makes_images(engine, config: TrainConfig) -> bool:
    """Whether the network makes images of noise alone, which there is nothing to compare with."""
    return config.method.name == "diffusion" and not engine.preupsampled


def require_fit(engine, data_sets: tuple, config: TrainConfig) -> None:
    """Raise UserError where a wrapper gives what the model cannot be trained or validated with."""
    scale, model = engine.scale, config.model.name
    if config.method.name == "diffusion" and any({*norm.sub, *norm.div} != {0.5} for _, norm in config.data_norm):
        raise UserError(
            "method 'diffusion' takes images in [-1, 1]: expected the data_norm {sub: [0.5], div: [0.5]} for inp and "
            f"gt, got {config.data_norm.model_dump()}"
        )
    if makes_images(engine, config) and data_sets[1] is not None:
        raise UserError(
            f"val_dataset: model '{model}' with scale: null makes images of noise alone: take val_dataset away"
        )
    if isinstance(data_sets[0], Diffused) != (config.method.name == "diffusion") and data_sets[0] is not None:
        fitting = "sr-diffusion-... or diffusion-..." if config.method.name == "diffusion" else "sr-patches-..."
        raise UserError(
            f"train_dataset: wrapper '{config.train_dataset.wrapper.name}' does not go with the method "
            f"'{config.method.name}': take one of {fitting}"
        )
    if data_sets[1] is not None and scale is not None and protocol.scale_of(config.eval_type) not in (None, scale):
        raise UserError(f"eval_type: '{config.eval_type}' is not of the only factor of model '{model}', x{scale}")
    for key, data_set in zip(("train_dataset", "val_dataset"), data_sets, strict=True):
        if data_set is None or (key == "val_dataset" and config.eval_type is not None):
            continue  # whole images are asked for as a test asks
        wrapper = getattr(config, key).wrapper.name
        if data_set.scale is None and scale is not None and not hasattr(engine.networks[MODEL].predictor, "query_rgb"):
            raise UserError(
                f"{key}: wrapper '{wrapper}' gives colours at coordinates, model '{model}' takes whole crops at "
                f"x{scale}: take sr-patches-downsampled or sr-patches-paired"
            )
        if data_set.scale not in (None, scale):
            has = f"upscales x{scale}" if scale else "is of any factor: take one of the wrappers sr-implicit-..."
            raise UserError(f"{key}: wrapper '{wrapper}' gives crops at x{data_set.scale}, model '{model}' {has}")


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
    every step_save steps) and the one before it, epoch-best (by the metric `best`), epoch-N (every epoch_save epochs).
    A killed run goes on from the last and, on the same CPU, gives the same bits.
    """
    provenance.commit()  # now, before somebody commits while this runs
    train_set, val_set = data_sets
    run = begin(engine, config, folder, ranks, wandb_project, resume)
    with run.alive():
        step, epoch = run.progress.step, run.progress.epoch
        if epoch > config.epoch_max:
            more = "another --name trains anew" if config.cosine_lr else "a larger one goes on"
            print(f"{folder} is finished: it has {epoch - 1} epochs and epoch_max is {config.epoch_max}; {more}")
            return
        several = f", {ranks.world_size} processes" if ranks.world_size > 1 else ""
        run.log.text(f"{note}, resumed at epoch {epoch}, step {step}" if step else note)
        run.log.text(f"train: {len(train_set)} samples, val: {len(val_set or ())}, seed {config.seed}{several}")
        while run.progress.epoch <= config.epoch_max:
            rate = train_epoch(run, make_loader, train_set)
            finish_epoch(run, make_loader, train_set, val_set, rate)
            if run.progress.epoch <= config.epoch_max and run.stop_requested():  # asked in validation
                raise Stopped(run.stopped())


def train_epoch(run: Run, make_loader, train_set) -> float:
    """The steps of the epoch that are left; the learning rate of its last one. Raises Stopped when asked to."""
    config, progress, ranks = run.config, run.progress, run.ranks
    began, size = time.monotonic() - progress.seconds, config.train_dataset.batch_size
    batches = Batches(train_set, size, config.seed, progress.epoch, progress.batch, ranks.rank, ranks.world_size)
    steps = progress.batch + len(batches)
    plan = config.multi_step_lr or config.cosine_lr

    def rate_at(batch: int) -> Callable[[float], float]:
        """What an optimizer's learning rate is in that batch of the epoch, from its base."""
        epoch = progress.epoch + batch / steps
        return lambda base: schedule.learning_rate(base, epoch, plan, config.epoch_max, config.warmup)

    title, hidden = f"epoch {progress.epoch}/{config.epoch_max}", ranks.rank > 0 or None
    with tqdm(total=steps, initial=progress.batch, desc=title, leave=False, disable=hidden) as bar:
        for batch, weight in zip(checked(make_loader(batches)), batches.weights, strict=True):
            decay = schedule.decay(config.ema, progress.step)
            run.engine.begin_step(step_seed(config.seed, progress.step, ranks.rank), rate_at(progress.batch), decay)
            run.engine.train_step(run.normalisation.batch(batch), weight)
            progress.step += 1
            progress.batch += 1
            run.recent[progress.step] = batch
            bar.update()
            if progress.step % config.step_log == 0:
                run.fetch_losses()
                bar.set_postfix({name: f"{value:.4f}" for name, value in progress.mean_losses().items()})
            progress.seconds = time.monotonic() - began
            if config.step_save and progress.step % config.step_save == 0:
                run.save("epoch-last")
            if (ranks.world_size == 1 or progress.step % config.step_log == 0) and run.stop_requested():
                raise Stopped(run.stopped())
    run.fetch_losses()
    progress.seconds = time.monotonic() - began
    if batches and config.epoch_val:
        run.save("epoch-last")  # what happens in validation shall not cost the epoch
    return rate_at(steps - 1)(float(config.optimizer.args["lr"]))


def finish_epoch(run: Run, make_loader, train_set, val_set, rate: float) -> None:
    """Validate, write the logs and the checkpoints, and go on to the next epoch."""
    config, progress, began = run.config, run.progress, time.monotonic() - run.progress.seconds
    epoch = progress.epoch
    losses = {f"train_{name}": value for name, value in progress.mean_losses().items()}
    record: dict = {"step": progress.step, "epoch": epoch, "lr": rate} | losses
    names = [f"epoch-{epoch}"] if config.epoch_save and epoch % config.epoch_save == 0 else []
    if val_set and config.epoch_val and epoch % config.epoch_val == 0:
        values = evaluate.validate(run.engine, make_loader, val_set, config, run.normalisation, run.ranks)
        if run.ranks.rank == 0:
            for name, page in evaluate.comparisons(run.engine, val_set, config.val_images, run.normalisation):
                run.log.image(f"val/{name}", page, progress.step)
        if any(map(math.isnan, values.values())):
            run.log.text(f"warning: the validation after epoch {epoch} is NaN: the network's numbers overflow")
        record |= {f"val_{name}": value for name, value in values.items() if math.isfinite(value)}
        if METRICS[config.best].improves(values[config.best], progress.best):
            progress.best = values[config.best]
            names.append("epoch-best")
    elif makes_images(run.engine, config) and config.epoch_val and epoch % config.epoch_val == 0 and config.val_images:
        if run.ranks.rank == 0:
            size = train_set.sample(0)["gt"].shape[:2]
            page = evaluate.drawn(run.engine, size, config.val_images, run.normalisation)
            run.log.image("samples", page, progress.step)
    record |= {"commit": provenance.commit(), "seconds": round(time.monotonic() - began, 3)}
    report(run, record, len(train_set))
    progress.epoch, progress.batch, progress.losses, progress.seconds = epoch + 1, 0, {}, 0.0
    run.save(*names, "epoch-last")  # last, for it says that the others are there


def report(run: Run, record: dict, samples: int) -> None:
    """The epoch in the logs, with its speed, the memory and, after the time since the start, that of the whole run
    from there if all epochs that are left take as long.
    """
    epoch = record["epoch"]
    losses = ", ".join(f"{key[6:]}={value:.4f}" for key, value in record.items() if key.startswith("train_"))
    values = ", ".join(f"{key[4:]}={value:.4f}" for key, value in record.items() if key.startswith("val_"))
    speed = samples / run.progress.seconds if run.progress.seconds else 0.0
    memory = run.engine.peak_memory() / 2**30
    elapsed = time.monotonic() - run.started
    whole = elapsed + record["seconds"] * (run.config.epoch_max - epoch)
    run.log.text(
        f"epoch {epoch}/{run.config.epoch_max}, train: {losses}, "
        f"{f'val: {values}, ' if values else ''}{speed:.1f} samples/s, {memory:.1f} GiB, "
        f"{duration(record['seconds'])} {duration(elapsed)}/{duration(whole)}"
    )
    run.log.record([record | {"samples_per_second": round(speed, 2), "memory_gib": round(memory, 3)}])

"""The weights that a new run starts with where the config's `start_from` names some."""

import re
from pathlib import Path

from liif_core.checkpoints import formats, native
from liif_core.config import load
from liif_core.config.schema import TrainConfig
from liif_core.engine import MODEL, NetworkState, is_buffer
from liif_core.errors import UserError
from liif_core.system.packages import FRAMEWORKS

LAST, BEST = "epoch-last.safetensors", "epoch-best.safetensors"


def runs(folder: Path, named: str) -> list[Path]:
    """The folders in which the run that `start_from` names may lie, for a run in `folder`; none where it names a file.
    Without a framework in the name it is that of `folder`, and either where that has none."""
    if Path(named).suffix or Path(named).name != named:
        return []
    frameworks = re.findall(f"_({'|'.join(FRAMEWORKS)})(?=_|$)", folder.name)[-1:] or FRAMEWORKS
    own = (f"{prefix}{named}_{framework}" for framework in frameworks for prefix in ("", "train_"))
    return [folder.with_name(name) for name in (named, *own)]


def find(folder: Path, named: str) -> Path:
    """The checkpoint that the config's `start_from` names, for a run in `folder`: a file, or the best, else the last
    one of a run beside it. Raises UserError if there is none, or that run is not finished."""
    possible = runs(folder, named)
    if not possible:
        return formats.locate(named)
    for path in (run / name for run in possible for name in (BEST, LAST)):
        if path.is_file():
            _require_finished(path, named)
            return path
    raise UserError(
        f"start_from '{named}': no checkpoint in {possible[0]}, {' or '.join(run.name for run in possible[1:])}: "
        f"train it first, or name a file, like {possible[1] / BEST}"
    )


def _require_finished(path: Path, named: str) -> None:
    """A run that is still trained, or has failed, has a best checkpoint as well."""
    last, written = path.with_name(LAST), path.with_name("config.yaml")
    if not (last.is_file() and written.is_file()):
        return
    epoch, epochs = formats.load(last).progress.get("epoch", 1), load.load(written, "train").epoch_max
    if epoch <= epochs:
        raise UserError(
            f"start_from '{named}': {path.parent} is in epoch {epoch} of {epochs}: let it end first, or name a file, "
            f"like {path}"
        )


def give_weights(engine, config: TrainConfig, source: Path) -> None:
    """Give the weights that a checkpoint predicts with to the network that predicts."""
    found = formats.load(source)
    for what, before, now in (
        ("model", found.model, config.model.model_dump()),
        ("data_norm", found.data_norm, config.data_norm.model_dump()),
    ):
        if before is not None and before != now:
            raise UserError(f"start_from: {source} has the {what} {before}, the config has {now}")
    weights = found.state[MODEL].weights
    parameters = {name: array for name, array in weights.items() if not is_buffer(name)}
    buffers = {name: array for name, array in weights.items() if is_buffer(name)}
    native.restore(engine, {MODEL: NetworkState(parameters, buffers=buffers)}, source)

"""The weights that a new run starts with where the config's `start_from` names some."""

from pathlib import Path

from liif_core.checkpoints import formats, native
from liif_core.config.schema import TrainConfig
from liif_core.engine import MODEL, NetworkState, is_buffer
from liif_core.errors import UserError

LAST, BEST = "epoch-last.safetensors", "epoch-best.safetensors"


def find(folder: Path, named: str) -> Path:
    """The checkpoint that the config's `start_from` names, for a run in `folder`: a file, or the best, else the last
    one of a run beside it, of the same framework if the name says none. Raises UserError if there is none."""
    if Path(named).suffix or Path(named).name != named:
        return formats.locate(named)
    runs = [folder.with_name(named), folder.with_name(f"{named}_{folder.name.rpartition('_')[2]}")]
    kept = [run / name for run in runs for name in (BEST, LAST)]
    for path in kept:
        if path.is_file():
            return path
    raise UserError(
        f"start_from '{named}': no checkpoint in {runs[0]} or {runs[1].name}: train it first, or name a file, like "
        f"{runs[1] / BEST}"
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

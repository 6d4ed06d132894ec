"""Any checkpoint file, found and read."""

from pathlib import Path

import pydantic

from liif_core.checkpoints import checks, content, foreign, native, shipped
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load as configs
from liif_core.config.registry import explain
from liif_core.config.schema import DataNorm, ModelConfig, TrainConfig
from liif_core.errors import UserError
from liif_core.system.files import is_file
from liif_core.system.places import SHIPPED, expand


def locate(path: str | Path) -> Path:
    """The checkpoint file as given, or among what is shipped (in a checkout: from its root), there by its name too."""
    path = expand(path)
    for candidate in (Path(path), SHIPPED / path):
        if is_file(candidate):
            return candidate
    if named := shipped.find(path):
        return named
    raise UserError(
        f"no checkpoint '{path}': expected a .safetensors of this project, a .pth of the original LIIF, "
        f"a .pth.tar of LIIF-PyTorch, or one of pretrained/ by name: {', '.join(shipped.listed()) or 'there is none'}"
    )


def load(path: str | Path, config: ModelConfig | TrainConfig | None = None, training: bool = False) -> Checkpoint:
    """Read a checkpoint of any kind, whatever its ending. config: of which model bare weights are. training: what an
    optimizer needs to go on must be finite as well as the weights.

    Raises UserError for a damaged or foreign file, for weights that are NaN or infinite, and for bare ones without a
    config.
    """
    path = locate(path)
    try:
        if content.form(path) == content.SAFETENSORS:
            found = _safetensors(path, config)
        else:
            found = foreign.read(path, config, training)
    except MemoryError:
        raise UserError(f"not enough memory to read {path}") from None
    try:
        DataNorm.model_validate(found.data_norm or {})
    except pydantic.ValidationError as error:
        raise UserError(explain(error, lambda _: ["inp", "gt"], f"{path}: its data_norm")) from None
    checks.require_finite(found.state, path, training)
    checks.require_plausible(found.model, found.state, path)
    return found


def _safetensors(path: Path, config: ModelConfig | TrainConfig | None) -> Checkpoint:
    metadata, tensors, kinds = native.read_tensors(path)
    if native.FORMAT in metadata:
        return native.parse(path, metadata, tensors, kinds)
    if config is None:
        raise UserError(
            f"{path} is a safetensors file, but not a checkpoint of this project (no '{native.FORMAT}' in it), and "
            f"does not say of which model its weights are: {foreign.ASKED_FOR}"
        )
    return foreign.of_config(path, tensors, config)


def load_for(path: str | Path, config_path: str | Path | None) -> Checkpoint:
    """Read a checkpoint to predict with. config_path: what --config names; its data_norm wins over the file's.

    Raises UserError as `load` does, and for a file that says itself that it is of another model than the config.
    """
    if config_path is None:
        return load(path)
    config = configs.load_model(config_path)
    found = load(path, config)
    if found.model != config.model.model_dump():
        raise UserError(f"{path} holds another model than {config_path}: {found.model}; leave the config away")
    if "data_norm" in config.model_fields_set:
        found.data_norm = config.data_norm.model_dump()
    return found

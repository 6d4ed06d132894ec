"""Any checkpoint file, found and read."""

import os
from pathlib import Path

from liif_core.checkpoints import foreign, native
from liif_core.checkpoints.native import Checkpoint
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError
from liif_core.system.places import SHIPPED


def locate(path: str | Path) -> Path:
    """The checkpoint file as given, or among what is shipped (in a checkout: from its root)."""
    for candidate in (Path(path), SHIPPED / path):
        if os.path.isfile(candidate):
            return candidate
    raise UserError(
        f"no checkpoint '{path}': expected a .safetensors of this project, a .pth of the original LIIF "
        "or a .pth.tar of LIIF-PyTorch"
    )


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint of any of the three kinds. Raises UserError for a damaged or foreign file."""
    path = locate(path)
    if path.suffix != ".safetensors":
        found = foreign.read(path)
        progress = {"epoch": found.epoch + 1, "step": int(found.moments.get("step", 0))}
        state = {MODEL: NetworkState(found.parameters, optimizer=found.moments)}
        return Checkpoint(found.model, state, found.data_norm, found.optimizer, progress)
    return native.read(path)

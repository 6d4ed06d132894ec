"""Checkpoints of other code: whose a file is, and its content in this project's terms."""

import zipfile
from pathlib import Path

from liif_core.checkpoints import liif, liif_pytorch
from liif_core.checkpoints.unpickle import ForeignCheckpoint, Refused, unpickle
from liif_core.errors import UserError


def read(path: Path) -> ForeignCheckpoint:
    """Read a checkpoint of the original LIIF, or of LIIF-PyTorch (.pth.tar, the same container).

    Raises UserError for a file that is damaged, another project's, or asks for more than tensors.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is not a .pth archive of PyTorch 1.6 or later (cut short, or older: load and save it again), "
            "nor a .safetensors of this project"
        )
    try:
        content = unpickle(path)
        parts = content if isinstance(content, dict) else {}
        model = parts.get("model")
        if isinstance(model, dict) and {"name", "args", "sd"} <= set(model):
            return liif.translate(content)
        if isinstance(parts.get("state_dict"), dict):
            return liif_pytorch.translate(content)
    except Refused as refusal:
        raise UserError(f"{path} is refused: it contains {refusal}, which weights do not need") from None
    except liif_pytorch.AnotherModel as reason:
        raise UserError(f"{path} has a state_dict, but not of LIIF-PyTorch's model: {reason}") from None
    except Exception as error:  # a broken pickle can raise nearly anything, and so can what it holds
        raise UserError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    raise UserError(
        f"{path} is not a checkpoint of the original LIIF: it has no model with name, args and sd "
        "(nor of LIIF-PyTorch: no state_dict)"
    )

"""The command of scripts/convert_checkpoint.py: any checkpoint in, bare weights out.

IN is a checkpoint of a run (its optimizer state is left behind), LIIF's .pth or LIIF-PyTorch's .pth.tar. The
ending of OUT chooses: a .safetensors holds the model's spec and its normalisation, so that test.py and demo.py of both
trees need nothing else; a .pth is what LIIF's test.py, demo.py and, as `resume`, train_liif.py read.
"""

import argparse
from pathlib import Path

import numpy as np

from liif_core.checkpoints import formats, liif, native
from liif_core.checkpoints.liif import ADAM, save_pth
from liif_core.checkpoints.native import Checkpoint
from liif_core.config.schema import DataNorm
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError
from liif_core.system.files import check_writable


def main() -> int:
    """Read, strip, write; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Turn a checkpoint into bare weights, for this project or the original LIIF."
    )
    parser.add_argument("input", type=Path, help="a run's .safetensors, LIIF's .pth or LIIF-PyTorch's .pth.tar")
    parser.add_argument("output", type=Path, help="the .safetensors, or the .pth for the original LIIF, to write")
    parser.add_argument("--half", action="store_true", help="keep the numbers as float16: half the size")
    arguments = parser.parse_args()
    if arguments.output.suffix not in (".safetensors", ".pth"):
        raise UserError(f"{arguments.output}: the output is a .safetensors file, or a .pth for the original LIIF")
    if arguments.half and arguments.output.suffix == ".pth":
        raise UserError("--half is for .safetensors: the original LIIF computes in the precision of the file")
    found = formats.load(arguments.input)
    data_norm = DataNorm.model_validate(found.data_norm or {}).model_dump()
    kind = np.float16 if arguments.half else np.float32
    weights = {name: array.astype(kind) for name, array in found.state[MODEL].weights.items()}
    bare = Checkpoint(found.model, {MODEL: NetworkState(weights)}, data_norm, method=found.method)
    check_writable(arguments.output)
    if arguments.output.suffix == ".safetensors":
        native.save(arguments.output, bare)
    else:
        save_pth(arguments.output, bare, found.optimizer or ADAM)
    count = sum(array.size for array in found.state[MODEL].parameters.values())
    print(f"{arguments.input} -> {arguments.output}: {found.model['name']}, {count:,} parameters")
    if arguments.output.suffix == ".pth" and found.data_norm != liif.DATA_NORM:
        print(f"LIIF's demo.py assumes 0.5 / 0.5; these weights want, in a config, data_norm: {found.data_norm}")
    return 0

"""The command of scripts/convert_checkpoint.py: any checkpoint in, bare weights out.

IN is a checkpoint of a run (its optimizer state is left behind), LIIF's .pth, LIIF-PyTorch's .pth.tar, or bare weights
with the --config that says of which model. The ending of OUT chooses: a .safetensors holds the model's spec and its
normalisation, so that test.py and demo.py of both trees need nothing else; a .pth is what LIIF's test.py, demo.py and,
as `resume`, train_liif.py read, and of diffusion what SR3-PyTorch reads.
"""

from pathlib import Path

import numpy as np

from liif_core.checkpoints import formats, liif, native, sr3
from liif_core.checkpoints.liif import ADAM, save_pth
from liif_core.checkpoints.native import Checkpoint
from liif_core.commands.entry import CONFIG_HELP
from liif_core.config.schema import DataNorm
from liif_core.engine import MODEL, NetworkState
from liif_core.errors import UserError
from liif_core.system.arguments import Parser
from liif_core.system.files import check_new, check_writable


def main() -> int:
    """Read, strip, write; returns the exit status."""
    parser = Parser(description="Turn a checkpoint into bare weights, for this project or the original LIIF.")
    parser.add_argument("input", type=Path, help="a run's .safetensors, LIIF's .pth or LIIF-PyTorch's .pth.tar")
    parser.add_argument("output", type=Path, help="the .safetensors, or the .pth for the original LIIF, to write")
    parser.add_argument("--config", "--model-config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    parser.add_argument("--half", action="store_true", help="keep the numbers as float16: half the size")
    arguments = parser.parse_args()
    if arguments.output.suffix not in (".safetensors", ".pth"):
        raise UserError(f"{arguments.output}: the output is a .safetensors file, or a .pth for the original LIIF")
    if arguments.half and arguments.output.suffix == ".pth":
        raise UserError("--half is for .safetensors: the original LIIF computes in the precision of the file")
    check_new(arguments.output, formats.locate(arguments.input), arguments.overwrite)
    found = formats.load_for(arguments.input, arguments.config)
    data_norm = DataNorm.model_validate(found.data_norm or {}).model_dump()
    weights = found.state[MODEL].weights
    weights = halved(weights) if arguments.half else weights
    bare = Checkpoint(found.model, {MODEL: NetworkState(weights)}, data_norm, method=found.method)
    check_writable(arguments.output)
    diffuses = found.method["name"] == "diffusion"
    if arguments.output.suffix == ".safetensors":
        native.save(arguments.output, bare)
    elif diffuses:
        sr3.save(arguments.output, bare)
    else:
        save_pth(arguments.output, bare, found.optimizer or ADAM)
    count = sum(array.size for array in found.state[MODEL].parameters.values())
    print(f"{arguments.input} -> {arguments.output}: {found.model['name']}, {count:,} parameters")
    for note in found.notes:
        print(f"{arguments.input}: {note}")
    if arguments.output.suffix == ".pth" and found.data_norm != liif.DATA_NORM and not diffuses:
        print(f"LIIF's demo.py assumes 0.5 / 0.5; these weights want, in a config, data_norm: {found.data_norm}")
    return 0


def halved(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights as float16. Raises UserError that names one which is too large for it."""
    largest = np.finfo(np.float16).max
    for name, array in weights.items():
        if np.abs(array).max(initial=0) > largest:
            raise UserError(
                f"--half: {name} reaches {np.abs(array).max():g}, and float16 ends at {largest:g}: leave --half away"
            )
    return {name: array.astype(np.float16) for name, array in weights.items()}

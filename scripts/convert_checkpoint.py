"""Any checkpoint in, bare weights out: `python scripts/convert_checkpoint.py IN OUT.safetensors`.

IN is a checkpoint of a run (its optimizer state is left behind) or upstream LIIF's .pth. OUT holds the model's
spec and its normalisation, so test.py and demo.py of both trees need nothing else.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from liif_core import checkpoint  # noqa: E402
from liif_core.checkpoint import Checkpoint  # noqa: E402
from liif_core.engine import State  # noqa: E402
from liif_core.errors import UserError  # noqa: E402


def main() -> None:
    """Read, strip, write."""
    parser = argparse.ArgumentParser(description="Turn a checkpoint into bare weights for both frameworks.")
    parser.add_argument("input", type=Path, help="a run's .safetensors or upstream's .pth")
    parser.add_argument("output", type=Path, help="the .safetensors to write")
    arguments = parser.parse_args()
    if arguments.output.suffix != ".safetensors":
        raise UserError(f"{arguments.output}: the output is a .safetensors file")
    found = checkpoint.load(arguments.input)
    bare = Checkpoint(found.model, State(found.state.parameters), found.data_norm)
    checkpoint.save(arguments.output, bare)
    count = sum(array.size for array in found.state.parameters.values())
    print(f"{arguments.input} -> {arguments.output}: {found.model['name']}, {count:,} parameters")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

"""How long until something happens?  python benchmarks/startup.py

Whole processes from start to end: `demo.py --help`, and demo.py on an image of 32x32 pixels at x4, in both frameworks
and, where --upstream names a clone, in LIIF's code. `import torch` alone is the least that any use of it takes.
"""

import sys
import tempfile
from argparse import Namespace
from pathlib import Path

import candidates
import common
import numpy as np
from PIL import Image

SIDE, SCALE = 32, 4
IMPORT = "python -c 'import torch'"
BASELINES = [candidates.AS_IT_IS, IMPORT]


def demos(arguments: Namespace, place: Path) -> tuple[dict[str, list], dict[str, list]]:
    """The commands by name: for help, and for an image."""
    rng = np.random.default_rng(0)
    image, result = place / "in.png", place / "out.png"
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(image)
    given = ["--input", image, "--output", result, "--resolution", f"{SCALE * SIDE},{SCALE * SIDE}"]
    helps, upscales = {}, {}
    if arguments.upstream:
        weights = place / "weights.pth"
        candidates.original_weights(arguments.upstream, weights)
        start = [sys.executable, common.ROOT / "benchmarks/upstream.py", arguments.upstream, arguments.gpu, "demo.py"]
        helps[candidates.AS_IT_IS] = [*start, "--help"]
        upscales[candidates.AS_IT_IS] = [*start, *given, "--model", weights]
    helps[IMPORT] = upscales[IMPORT] = [sys.executable, "-c", "import torch"]
    for name, (_, framework, precision) in candidates.ours(arguments, None).items():
        start = [sys.executable, f"liif_{framework}/demo.py", "--gpu", arguments.gpu]
        if precision == arguments.precision[0]:
            helps[name] = [*start, "--help"]
        upscales[name] = [*start, *given, "--overwrite", "--precision", precision]
    return helps, upscales


def main() -> None:
    """Once to warm up, then in turn."""
    parser = common.options(__doc__, runs=7)
    arguments = common.parse(parser)
    with tempfile.TemporaryDirectory() as place:
        tables = {}
        titles = ("demo.py --help", f"demo.py, {SIDE}x{SIDE} -> {SCALE * SIDE}x{SCALE * SIDE}")
        for title, commands in zip(titles, demos(arguments, Path(place)), strict=True):
            timed = {
                name: lambda command=command: common.whole_process(command)[0]
                for name, command in commands.items()
                if common.selected(name, arguments.only)
            }
            common.in_turn(timed, 1)
            tables[title] = common.in_turn(timed, arguments.runs)
    common.print_head(arguments.kind)
    for title, seconds in tables.items():
        common.print_times(f"{title}, {arguments.runs} runs", seconds, BASELINES, {})


if __name__ == "__main__":
    common.exit_with(main)

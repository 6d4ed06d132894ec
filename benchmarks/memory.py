"""How much memory does a picture take?  python benchmarks/memory.py [--model rdn-liif] [--size 678 1020] [--scale 2]

Each framework decodes a random picture in a process of its own, whose peak of resident memory is printed: on the CPU,
float32, random weights, with all that the framework itself takes.
"""

import argparse
import resource
import subprocess
import sys
import time

import common
from compare_upstream import SPECS


def decode(framework: str, model: str, size: list[int], scale: float) -> None:
    """In the child: build, enlarge band by band, report."""
    import importlib

    import numpy as np

    from liif_core import environment

    environment.prepare(framework, "cpu")
    engine = importlib.import_module(f"liif_{framework}.engine").Engine(SPECS[model])
    engine.seed(0)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, *size)).astype(np.float32)
    height, width = (round(side * scale) for side in size)
    start = time.perf_counter()
    rows = sum(len(band) for band in engine.predict_image(picture, height, width))
    assert rows == height
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"| {framework} | {gigabytes:.2f} | {time.perf_counter() - start:.0f} |", flush=True)


def main() -> None:
    """One child per framework."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=SPECS, default="rdn-liif")
    parser.add_argument("--size", type=int, nargs=2, default=[678, 1020], metavar=("H", "W"))
    parser.add_argument("--scale", type=float, default=2)
    parser.add_argument("--framework", choices=("torch", "jittor"), help="run in this process")
    arguments = parser.parse_args()
    if arguments.framework:
        decode(arguments.framework, arguments.model, arguments.size, arguments.scale)
        return
    print(common.describe_machine())
    target = "x".join(str(round(side * arguments.scale)) for side in arguments.size)
    print(f"\n{arguments.model}, {'x'.join(map(str, arguments.size))} -> {target}, float32\n")
    print("| framework | peak resident GiB | s |\n|---|---|---|", flush=True)
    for framework in ("torch", "jittor"):
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--framework", framework], check=True)


if __name__ == "__main__":
    main()

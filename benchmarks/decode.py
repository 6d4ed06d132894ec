"""How fast is a picture enlarged?  python benchmarks/decode.py [--size 96 96] [--scale 4] [--upstream PATH]

One run, the same weights and picture for all: the plain formulation of tests/plain.py, upstream's code if
a clone of it is given, and ours in both frameworks; encoder and decoder together, float32.
"""

import argparse
from pathlib import Path

import common
import numpy as np
from compare_upstream import SPECS, load_upstream

from liif_core import coords, environment


def main() -> None:
    """Build, check that all agree, time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("H", "W"))
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--model", choices=SPECS, default="edsr-baseline-liif")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--upstream", type=Path, help="a clone of yinboc/liif to measure as well")
    arguments = parser.parse_args()
    environment.prepare("torch", "cpu")
    environment.prepare("jittor", "cpu")
    import plain
    import torch

    from liif_jittor.engine import Engine as JittorEngine
    from liif_torch.engine import Engine as TorchEngine

    spec = SPECS[arguments.model]
    engines = {"PyTorch": TorchEngine(spec), "Jittor": JittorEngine(spec)}
    for engine in engines.values():
        engine.seed(0)
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, *arguments.size)).astype(np.float32)
    height, width = (round(side * arguments.scale) for side in arguments.size)
    tensor = torch.from_numpy(picture)
    model = engines["PyTorch"].model

    def run_plain():
        with torch.no_grad():
            return plain.decode_image(model, model.encoder(tensor), height, width).numpy()

    candidates = {}
    if arguments.upstream:
        theirs = load_upstream(arguments.upstream, spec, engines["PyTorch"].state().parameters)
        coord = torch.from_numpy(coords.make_coord((height, width)))[None]
        cell = torch.from_numpy(coords.make_cell((height, width))).expand_as(coord)

        def run_upstream():  # its demo.py: 30000 queries at a time
            with torch.no_grad():
                theirs.gen_feat(tensor)
                parts = zip(coord.split(30000, dim=1), cell.split(30000, dim=1), strict=True)
                return torch.cat([theirs.query_rgb(*part) for part in parts], dim=1).view(height, width, 3).numpy()

        candidates["upstream"] = run_upstream
    candidates["plain formulation (tests/plain.py)"] = run_plain
    for name, engine in engines.items():
        candidates[name] = lambda engine=engine: np.concatenate(list(engine.predict_image(picture, height, width)))

    pictures = [candidate() for candidate in candidates.values()]
    seconds = common.paired(candidates, arguments.runs)
    print(common.describe_machine())
    title = f"{arguments.size[0]}x{arguments.size[1]} -> {height}x{width}, {arguments.model}, float32"
    common.print_table(title, seconds)
    print("\nlargest difference from the first:", *(f"{np.abs(p - pictures[0]).max():.1e}" for p in pictures[1:]))


if __name__ == "__main__":
    main()

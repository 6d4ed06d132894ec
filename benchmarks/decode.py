"""How fast is an image upscaled?  python benchmarks/decode.py [--size 96 96] [--scale 4] [--model edsr-baseline-liif]

The same weights and image for all, encoder and decoder together: LIIF's code where --upstream names a clone,
otherwise the plain formulation of tests/helpers/equations.py, and ours in both frameworks. --runs 1 is enough for what
takes minutes: candidates are warmed up on a few rows of the image, and only Jittor, which compiles, on all of them.
"""

from argparse import Namespace
from functools import partial

import candidates
import common
import gemm
import numpy as np
from compare_upstream import SPECS


def start(arguments: Namespace) -> dict[str, common.Child]:
    """All candidates, the baseline first."""
    rest = (arguments.gpu, SPECS[arguments.model], arguments.size, arguments.scale)
    found: dict[str, tuple] = {}
    if not arguments.upstream and arguments.kind == "cpu":
        found[candidates.PLAIN] = (candidates.Plain, "torch", "fp32", *rest)
    return candidates.start(
        arguments, found | candidates.choose(arguments, candidates.Original, candidates.Ours, *rest)
    )


def columns(arguments: Namespace, children: dict, seconds: dict, ceiling: gemm.Ceiling) -> dict[str, dict[str, str]]:
    """Rates, memory, differences."""
    images = {name: child("output") for name, child in children.items()}
    first, base = next(iter(images.items()))
    shapes, pixels, queries = children[first]("shapes"), arguments.size[0] * arguments.size[1], base.size // 3
    work = candidates.multiply_adds(SPECS[arguments.model], shapes, pixels, queries, arguments.decoder_only)
    differences = {name: f"{np.abs(image - base).max():.1e}" for name, image in images.items() if name != first}
    return ceiling.columns(children, seconds, work) | {f"differs from {first} by": differences}


def main() -> None:
    """Warm up, time in turn, compare."""
    parser = common.options(__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("H", "W"))
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--model", choices=SPECS, default="edsr-baseline-liif")
    parser.add_argument("--decoder-only", action="store_true", help="the features are there already")
    arguments = common.parse(parser)
    children = start(arguments)
    for child in children.values():
        child("forget_encoder" if arguments.decoder_only else "warm_up")
    ceiling = gemm.Ceiling(arguments)
    ceiling.measure()
    seconds = common.in_turn({name: partial(child, "run") for name, child in children.items()}, arguments.runs)
    ceiling.measure()

    common.print_head(arguments.kind)
    height, width = (round(side * arguments.scale) for side in arguments.size)
    title = f"{arguments.size[0]}x{arguments.size[1]} -> {height}x{width}, {arguments.model}, {arguments.runs} runs"
    title += ", without the encoder" if arguments.decoder_only else ""
    more = columns(arguments, children, seconds, ceiling)
    common.print_times(title, seconds, candidates.BASELINES, more)
    print(f"\n{gemm.EXPLAINED} {ceiling}")


if __name__ == "__main__":
    common.exit_with(main)

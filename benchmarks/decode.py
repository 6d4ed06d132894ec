"""How fast is an image upscaled?  python benchmarks/decode.py [--size 96 96] [--scale 4] [--model edsr-baseline-liif]

The same weights and image for all, encoder and decoder together: the authors' code where --upstream names a clone of
it (originals.py), otherwise the plain formulation of tests/helpers/equations.py, and ours in both frameworks. On a GPU
PyTorch's decoder comes a second time, in the kernel of liif_torch/models/decoders/bands.py. --beside measures another
model of ours in the same turns. --runs 1 is enough for what takes minutes: candidates are warmed up on
a few rows of the image, and only Jittor, which compiles, on all of them.
"""

import os
import warnings
from argparse import Namespace
from functools import partial

import candidates
import common
import gemm
import numpy as np
from compare_upstream import SPECS


class Kernel(candidates.Ours):
    """With the kernel of Triton. It cannot be built where that does not run, and a table has no other's numbers."""

    def __init__(self, *arguments):
        os.environ["LIIF_TRITON"] = "1"
        warnings.filterwarnings("error", message="LIIF_TRITON")
        super().__init__(*arguments)
        from liif_torch.models.decoders import bands

        assert bands.ASKED == "1", "PyTorch's tree was imported before it was asked"
        self.decode(self.image[:, :, : candidates.WARM_UP_ROWS])


def found(arguments: Namespace) -> dict[str, tuple]:
    """All candidates by name, the baseline first."""
    spec = SPECS[arguments.model]
    rest = (arguments.gpu, spec, arguments.size, arguments.scale)
    given: dict[str, tuple] = {}
    if not arguments.upstream and arguments.kind == "cpu":
        given[candidates.PLAIN] = (candidates.Plain, "torch", "fp32", *rest)
    given |= candidates.choose(arguments, candidates.Original, candidates.Ours, *rest)
    if arguments.kind == "cuda" and spec["name"] == "liif" and spec["args"].get("imnet_spec"):
        kernels = {precision: (Kernel, "torch", precision, *rest) for precision in arguments.precision}
        given |= {f"PyTorch kernel {precision}": one for precision, one in kernels.items()}
    if arguments.beside:
        other = candidates.ours(arguments, candidates.Ours, arguments.gpu, SPECS[arguments.beside], *rest[2:])
        given |= {f"{name} {arguments.beside}": one for name, one in other.items()}
    return given


def columns(arguments: Namespace, children: dict, seconds: dict, ceiling: gemm.Ceiling) -> dict[str, dict[str, str]]:
    """Rates, memory, differences; nothing of the model beside, which does other work."""
    children = {name: child for name, child in children.items() if not is_beside(name, arguments)}
    images = {name: child("output") for name, child in children.items()}
    first, base = next(iter(images.items()))
    shapes, pixels, queries = children[first]("shapes"), arguments.size[0] * arguments.size[1], base.size // 3
    work = candidates.multiply_adds(SPECS[arguments.model], shapes, pixels, queries, arguments.decoder_only)
    differences = {name: f"{np.abs(image - base).max():.1e}" for name, image in images.items() if name != first}
    return ceiling.columns(children, seconds, work) | {f"differs from {first} by": differences}


def is_beside(name: str, arguments: Namespace) -> bool:
    """Whether a candidate is of the model that --beside names."""
    return bool(arguments.beside) and name.endswith(f" {arguments.beside}")


def main() -> None:
    """Warm up, time in turn, compare."""
    parser = common.options(__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("H", "W"))
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--model", choices=SPECS, metavar="NAME", default="edsr-baseline-liif")
    parser.add_argument("--beside", choices=SPECS, metavar="NAME", help="another model of ours, to be held against")
    parser.add_argument("--decoder-only", action="store_true", help="the features are there already")
    arguments = common.parse(parser)
    children = candidates.start(arguments, found(arguments))
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
    against = [*candidates.BASELINES, *(name for name in seconds if is_beside(name, arguments))]
    common.print_times(title, seconds, against, more)
    print(f"\n{gemm.EXPLAINED} {ceiling}")


if __name__ == "__main__":
    common.exit_with(main)

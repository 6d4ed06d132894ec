"""How fast is a UNet of diffusion?  python benchmarks/diffusion.py [--original PATH, a clone of SR3-PyTorch]

A training step of a config with random images, then the steps of an ancestral sampler for one image, then the memory
of one evaluation at 512 pixels by sr_sr3_64_512, each in a process of its own. SR3-PyTorch's step is that of its
model.py, which reads the loss every time; in bf16 it runs under autocast. --set changes the config, as in train.py.
"""

import resource
import sys
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import candidates
import common
import gemm
import numpy as np
from compare_sr3 import clone
from denoisers import Counted, OursSampling, OursStep, TheirSampling, TheirStep, of_steps

from liif_core.config import load
from liif_core.config.schema import TrainConfig
from liif_core.system import devices

ORIGINAL = "SR3-PyTorch"
LARGE = "train-faces/sr_sr3_64_512.yaml"
LIMIT = 8 * 2**30  # bytes: what the process of the memory's part may have on the CPU


def limited(make: Callable, *arguments) -> common.Work:
    """The Work in a process that ends where it would take more than LIMIT, on the CPU."""
    _, _, gpu, *_ = arguments
    if devices.choose_device(gpu).kind == "cpu":
        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    return make(*arguments)


def found(arguments: Namespace, theirs: Callable, ours: Callable, *rest) -> dict[str, tuple]:
    """Candidates by name: each a class and its arguments, the original first."""
    given: dict[str, tuple] = {}
    if arguments.original:
        plain = [ORIGINAL, f"{ORIGINAL}, pages kept"] if arguments.kind == "cpu" else [ORIGINAL]
        of = {"fp32": plain, "bf16": [f"{plain[-1]}, bf16 autocast"]}
        names = [name for precision, known in of.items() if precision in arguments.precision for name in known]
        given = {name: (theirs, arguments.original, name, arguments.gpu, *rest) for name in names}
    our = candidates.ours(arguments, ours)
    return given | {name: (*one, arguments.gpu, *rest) for name, one in our.items()}


def multiply_adds(settings: TrainConfig, side: int) -> int:
    """Of one evaluation for one image."""
    child = common.Child(Counted, settings, side)
    try:
        child("run")
        return child("output")
    finally:
        child.close()


def time_part(part: str, arguments: Namespace, settings: TrainConfig, ceiling: gemm.Ceiling) -> None:
    """`train` or `sample`: a table of times."""
    side = arguments.side or settings.model.args.get("image_size", 128)
    work = multiply_adds(settings, side)
    if part == "train":
        settings, steps = of_steps(settings), 1
        given = found(arguments, TheirStep, OursStep, settings, side)
        work *= 3 * settings.train_dataset.batch_size  # backward multiplies twice, see train_step.py
        title = f"A training step of {arguments.config}, {settings.train_dataset.batch_size} images of {side}x{side}"
    else:
        settings, steps = of_steps(settings, arguments.steps), arguments.steps
        given = found(arguments, TheirSampling, OursSampling, settings, side)
        title = f"A step of the ancestral sampler, {arguments.config}, one image of {side}x{side}, mean of {steps}"
    children = candidates.start(arguments, given)
    for child in children.values():
        child("warm_up")
    ceiling.measure()
    runs = common.in_turn({name: partial(child, "run") for name, child in children.items()}, arguments.runs)
    ceiling.measure()
    seconds = {name: [value / steps for value in values] for name, values in runs.items()}
    more = ceiling.columns(children, seconds, work)
    if part == "train":
        gradients = {name: child("output") for name, child in children.items()}
        first, base = next(iter(gradients.items()))
        norm = np.linalg.norm(base)
        apart = {name: f"{np.linalg.norm(array - base) / norm:.1e}" for name, array in gradients.items()}
        more[f"gradients differ from {first} by (relative)"] = apart
    for child in children.values():
        child.close()
    common.print_times(
        f"{title}; {arguments.runs} runs", seconds, [ORIGINAL, f"{ORIGINAL}, pages kept", "PyTorch"], more
    )


def memory_part(arguments: Namespace) -> None:
    """One evaluation by the large network, each candidate alone."""
    settings = of_steps(load.load(arguments.large, "train", ["train_dataset.batch_size=1"]), 1)
    side = arguments.large_side or settings.model.args["image_size"]
    rows = []
    for name, (make, *given) in found(arguments, TheirSampling, OursSampling, settings, side, False).items():
        if not common.selected(name, arguments.only):
            continue
        child = common.Child(limited, make, *given)
        try:
            seconds, peak, whole = child("run"), child("peak"), child("highest")
        except common.Gone as reason:  # of too much memory, perhaps
            print(f"left out: {name}, {reason}", file=sys.stderr)
            continue
        child.close()
        rows.append([name, "-" if peak is None else f"{peak:.0f}", f"{whole:.0f}", f"{seconds:.1f}"])
    print(f"\nOne evaluation of {arguments.large} for one image of {side}x{side}, without warm-up.\n")
    common.print_table(["variant", "peak MiB above base", "peak resident MiB", "s"], rows)


def main() -> None:
    """The parts, one after the other."""
    parser = common.options(__doc__, of_liif=False)
    parser.add_argument("--original", type=clone, metavar="PATH", help="a clone of SR3-PyTorch, to measure too")
    parser.add_argument("--config", default="train-emoji/train_sr3-16-128.yaml")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--side", type=int, help="of the images (default: the model's image_size)")
    parser.add_argument("--steps", type=int, default=5, help="of the sampler in each run (default: 5)")
    parser.add_argument("--large", default=LARGE, metavar="CONFIG", help=f"whose memory is asked (default: {LARGE})")
    parser.add_argument("--large-side", type=int, help="of its image (default: the model's image_size)")
    parts = ("train", "sample", "memory")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts, help="default: all")
    arguments = common.parse(parser)
    settings = load.load(arguments.config, "train", arguments.set)
    timed = [part for part in ("train", "sample") if part in arguments.parts]
    common.print_head(arguments.kind)
    if timed:
        ceiling = gemm.Ceiling(arguments)
        for part in timed:
            time_part(part, arguments, settings, ceiling)
        print(f"\nGFLOP/s: two operations for every multiply-add. The ceiling of matrix products: {ceiling}")
    if "memory" in arguments.parts:
        memory_part(arguments)


if __name__ == "__main__":
    common.exit_with(main)

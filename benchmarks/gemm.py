"""How fast can matrix products be here, and how near do ours come?  python benchmarks/gemm.py

The rate of a product of (rows, width) by (width, width), without bias, in every way at hand: F.linear, which on the CPU
is MKL in float32, a channels-last 1x1 convolution, which is oneDNN, oneDNN's product with weights that it has packed,
Jittor's; and of (width, rows) by (rows, width), which gives a layer's weights their gradient. Over all numbers of rows
that a tile or a batch may have, the best of many is the machine's ceiling, which shares are quoted against. It is
too low while other programs run, and so it says how much they do. Then the hidden layers of LIIF's MLP, timed inside
the decoder, on its tiles. liif_torch/models/decoders/mlp.py chooses by this.
"""

import time
from argparse import Namespace
from functools import partial
from itertools import product
from statistics import median

import candidates
import common
import quiet
from compare_upstream import SPECS

SHAPES = {  # (rows, width) by device: tiles from those that stay in a core's cache to a batch's, and a large square
    "cpu": [*((rows, 256) for rows in (512, 1024, 2048, 4096, 8192, 16384, 32768)), (2048, 2048)],
    "cuda": [*((rows, 256) for rows in (8192, 32768, 131072, 262144)), (8192, 8192)],
}
WORK = {"cpu": 1e9, "cuda": 4e12}  # floating point operations timed at once, at least: little, to find a quiet moment
TRIES = 2  # a run is the best of; every benchmark that quotes a share waits for all shapes
EXPLAINED = (
    "GFLOP/s: two operations for every multiply-add that is needed; the authors' code does more than these. "
    "The ceiling of matrix products, in PyTorch's libraries, before or after:"
)


PACKED = "oneDNN, weights packed"  # on the CPU alone


class Products(common.Work):
    """once(library, precision, rows, width): the product, as often as WORK wants it."""

    def __init__(self, gpu: str):
        self.kind = candidates.prepared(self.framework, gpu)
        self.ready: dict[tuple, tuple] = {}

    def once(self, *key) -> None:
        if key not in self.ready:
            _, _, rows, width = key
            self.ready[key] = self.make(*key), repeats(self.kind, rows, width)
        multiply, times = self.ready[key]
        for _ in range(times):
            multiply()

    def run(self, *key) -> float:
        return min(super(Products, self).run(*key) for _ in range(TRIES))


class Torch(Products):
    framework = "torch"
    libraries = ("F.linear", "1x1 convolution", PACKED, "gradient of the weights")

    def make(self, library: str, precision: str, rows: int, width: int):
        import torch
        import torch.nn.functional as F

        torch.set_grad_enabled(False)
        torch.backends.cudnn.allow_tf32 = False
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        x = torch.randn(rows, width, device=self.kind).to(dtype)
        weight = torch.randn(width, width, device=self.kind).to(dtype) / width**0.5
        if library == "F.linear":
            return lambda: F.linear(x, weight)
        if library == "gradient of the weights":
            return lambda: torch.mm(x.T, x)
        if library == PACKED:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
            return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
        image = x.view(16, 1, rows // 16, width).permute(0, 3, 1, 2)  # channels last in memory
        return lambda: F.conv2d(image, weight[:, :, None, None])


class Jittor(Products):
    framework = "jittor"
    libraries = ("Jittor's matmul",)

    def make(self, library: str, precision: str, rows: int, width: int):
        import jittor as jt

        jt.flags.use_cuda = int(self.kind == "cuda")
        x, weight = jt.randn(rows, width), jt.randn(width, width)
        if precision != "fp32":
            x, weight = (getattr(value, {"bf16": "bfloat16", "fp16": "float16"}[precision])() for value in (x, weight))
        jt.sync([x, weight])
        return lambda: jt.nn.matmul_transpose(x, weight).sync()


class HiddenLayers(candidates.Ours):
    """run() is the seconds inside MLP.after_first while an image is decoded: its products, ReLUs and biases."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        mlp = self.engine.networks["model"].module.imnet
        self.inside, self.flops = 0.0, 0
        original, (first, *others) = mlp.after_first, [layer for layer in mlp.layers if hasattr(layer, "weight")]
        per_row = sum(2 * layer.weight.numel() for layer in others)

        def after_first(x):
            common.synchronise()
            start = time.perf_counter()
            result = original(x)
            common.synchronise()
            self.inside += time.perf_counter() - start
            self.flops += x.numel() // first.out_features * per_row
            return result

        mlp.after_first = after_first

    def run(self) -> float:
        self.inside, self.flops = 0.0, 0
        super().run()
        return self.inside

    def output(self) -> int:
        """Floating point operations of the last run."""
        return self.flops


def repeats(kind: str, rows: int, width: int) -> int:
    """How many products are timed at once."""
    return max(1, round(WORK[kind] / (2 * rows * width**2)))


def products(children: list[tuple], shapes: list[tuple[int, int]], precisions: list[str], kind: str) -> dict:
    """(library, precision, rows, width) -> what times it, warmed up. children: each a Products class and its Child."""
    found = {}
    for shape, (work, child), precision in product(shapes, children, precisions):
        if work is Jittor and precision != "fp32" and kind == "cpu":
            continue  # Jittor: emulates 16 bits on the CPU, hundreds of times slower
        for library in work.libraries:
            if library == PACKED and kind != "cpu":
                continue
            key = (library, precision, *shape)
            found[key] = partial(child, "run", *key)
            child("warm_up", *key)
    return found


def rates(seconds: dict[tuple, list[float]], kind: str) -> dict[tuple, float]:
    """GFLOP/s, the best: whatever else runs only makes a product slower."""
    flops = {key: repeats(kind, *key[2:]) * 2 * key[2] * key[3] ** 2 for key in seconds}
    return {key: 1e-9 * flops[key] / min(values) for key, values in seconds.items()}


class Ceiling:
    """The best rate of PyTorch's libraries by precision, for other benchmarks: `measure` before and after."""

    def __init__(self, arguments: Namespace):
        self.kind, self.runs = arguments.kind, min(3, arguments.runs)
        children = [(Torch, common.Child(Torch, arguments.gpu))]
        self.products = products(children, SHAPES[self.kind], arguments.precision, self.kind)
        self.best = dict.fromkeys(arguments.precision, 0.0)
        self.others = 0.0

    def measure(self) -> None:
        """Once more; the larger counts."""
        self.others = max(self.others, quiet.busy_cores())
        for key, rate in rates(common.in_turn(self.products, self.runs, quiet=True), self.kind).items():
            self.best[key[1]] = max(self.best[key[1]], rate)

    def columns(self, children: dict, seconds: dict, multiply_adds: int | None) -> dict[str, dict[str, str]]:
        """Rates and memory of candidates, for `common.print_times`."""
        found: dict[str, dict[str, str]] = {"GFLOP/s": {}, "of the ceiling": {}, "peak MiB above base": {}}
        for name, child in children.items():
            if multiply_adds is not None:
                rate = 2e-9 * multiply_adds / median(seconds[name])
                share = rate / self.best[candidates.precision_of(name)]
                found["GFLOP/s"][name], found["of the ceiling"][name] = f"{rate:.0f}", f"{share:.0%}"
            peak = child("peak")
            if peak is not None:
                found["peak MiB above base"][name] = f"{peak:.0f}"
        return found

    def __str__(self) -> str:
        best = ", ".join(f"{precision} {rate:.0f} GFLOP/s" for precision, rate in self.best.items())
        return f"{best}. {quiet.sentence(self.others)}"


def print_products(found: dict[tuple, float], precisions: list[str]) -> None:
    """A line for each shape and library, a column for each precision."""
    lines = dict.fromkeys((rows, width, library) for library, _, rows, width in found)
    table = []
    for rows, width, library in lines:
        values = [found.get((library, precision, rows, width)) for precision in precisions]
        cells = ["-" if value is None else f"{value:.0f}" for value in values]
        table.append([f"{rows}x{width} by {width}x{width}", library, *cells])
    print("\nMatrix products, GFLOP/s\n")
    common.print_table(["product", "library", *precisions], table)


def print_hidden(found: dict[tuple, float], seconds: dict[str, list[float]], children: dict) -> None:
    """The hidden layers of each precision against its best product."""
    table = []
    for precision, child in children.items():
        rate = 1e-9 * child("output") / median(seconds[precision])
        library, _, rows, width = best = max((key for key in found if key[1] == precision), key=found.__getitem__)
        which = f"{library}, {rows}x{width}"
        table.append([precision, f"{rate:.0f}", f"{found[best]:.0f}", f"{rate / found[best]:.0%}", which])
    common.print_table(["precision", "GFLOP/s", "best product", "share of it", "which"], table)


def main() -> None:
    """Products and hidden layers in turn."""
    parser = common.options(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", help="of the products 256 wide (default: many)")
    parser.add_argument("--square", type=int, help="side of the large product")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("H", "W"), help="decoded for its tiles")
    parser.add_argument("--scale", type=float, default=4)
    decoders = [name for name, spec in SPECS.items() if spec["args"].get("imnet_spec")]
    parser.add_argument("--model", choices=decoders, default="edsr-baseline-liif")
    arguments = common.parse(parser)
    *tiles, square = SHAPES[arguments.kind]
    tiles = [(rows, 256) for rows in arguments.rows] if arguments.rows else tiles
    shapes = [*tiles, (arguments.square, arguments.square) if arguments.square else square]
    works = {work.__name__: work for work in (Torch, Jittor)}
    started = candidates.start(arguments, {name: (work, arguments.gpu) for name, work in works.items()})
    children = [(works[name], child) for name, child in started.items()]
    candidates_ = products(children, shapes, arguments.precision, arguments.kind)
    rest = (arguments.gpu, SPECS[arguments.model], arguments.size, arguments.scale)
    hidden = {precision: common.Child(HiddenLayers, "torch", precision, *rest) for precision in arguments.precision}
    for child in hidden.values():
        child("warm_up")
    insides = {precision: partial(child, "run") for precision, child in hidden.items()}
    others = quiet.busy_cores()
    seconds = common.in_turn(candidates_ | insides, arguments.runs)
    others = max(others, quiet.busy_cores())
    found = rates({key: seconds[key] for key in candidates_}, arguments.kind)
    common.print_head(arguments.kind)
    print(quiet.sentence(others))
    print_products(found, arguments.precision)
    size = "x".join(map(str, arguments.size))
    print(f"\nHidden layers in the decoder of {arguments.model}, {size} x{arguments.scale:g}, PyTorch\n")
    print_hidden(found, seconds, hidden)


if __name__ == "__main__":
    common.exit_with(main)

"""How soon does the web page follow?  python benchmarks/page.py [--model edsr-baseline-thera-air ...] [--size 300 450]

A view of 384x512 pixels of an image, with random weights, as the page's process makes it: the first one of the image,
where its features have to be encoded; those that follow as a slider moves from x2 to x12, Pillow's bicubic beside
them included; and the draft of the models that need one.
"""

import statistics
import tempfile
import time
from argparse import Namespace
from pathlib import Path

import candidates
import common
import numpy as np
from compare_upstream import SPECS

from liif_core.config.schema import DataNorm
from liif_core.images.normalisation import Normalisation
from liif_core.inference import web_view
from liif_core.inference.network import Network
from liif_core.inference.web_worker import Service

MODELS = ["edsr-baseline-thera-air", "edsr-baseline-lmliif", "edsr-baseline-liif"]
FACTORS = 2, 12


class Page(common.Work):
    """The process of one framework with one model."""

    def __init__(self, framework: str, precision: str, gpu: str, model: str, size: tuple[int, int]):
        engine = candidates.our_engine(framework, precision, gpu, SPECS[model])
        self.service, self.model, self.size = Service(None, framework, gpu), Path(model), size  # type: ignore[arg-type]
        self.service.networks[self.model] = Network(engine, Normalisation(DataNorm()), border="mirror")
        self.folder = tempfile.TemporaryDirectory()
        self.rgb = Path(self.folder.name) / "rgb.npy"
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        np.save(self.rgb, image)

    def view(self, factor: float, step: int) -> tuple[float, bool]:
        """Seconds until a view is there, and whether it is whole."""
        shown = web_view.view(self.size, factor, (0.5, 0.5))
        start = time.perf_counter()
        _, found = self.service.pair(0, self.model, self.rgb, shown, step, None)
        return time.perf_counter() - start, found.shape[:2] == (shown.height, shown.width)

    def measure(self, runs: int) -> dict[str, list[float]]:
        """Seconds of the first view, of drafts and of whole views."""
        self.view(4, 1)  # Jittor compiles
        self.service.kept.clear()
        found = {"first": [self.view(4, 1)[0]]}
        while self.service.look_around():
            pass
        factors = np.geomspace(*FACTORS, runs)
        drafts = [self.view(factor, web_view.DRAFT) for factor in factors]
        found["draft"] = [seconds for seconds, _ in drafts]
        if drafts[0][1]:
            return found | {"whole": found["draft"]}
        return found | {"whole": [self.view(factor, 1)[0] for factor in factors[:: max(1, runs // 3)]]}


def row(name: str, seconds: dict[str, list[float]]) -> list[str]:
    """A line of the table: milliseconds."""
    cells = [statistics.median(seconds[key]) for key in ("first", "draft", "whole")]
    return [name, *(f"{1000 * value:.0f}" for value in (*cells, max(seconds["whole"])))]


def measured(arguments: Namespace) -> list[list[str]]:
    """Every model in every framework, one after the other."""
    rows = []
    for model in arguments.model:
        found = candidates.ours(arguments, Page, arguments.gpu, model, tuple(arguments.size))
        for name, child in candidates.start(arguments, found).items():
            rows.append(row(f"{name} {model}", child("measure", arguments.runs)))
            child.close()
    return rows


def main() -> None:
    """Measure and print."""
    parser = common.options(__doc__, runs=20)
    parser.add_argument("--size", type=int, nargs=2, default=(300, 450), metavar=("H", "W"))
    parser.add_argument("--model", nargs="+", choices=SPECS, metavar="NAME", default=MODELS)
    arguments = common.parse(parser)
    rows = measured(arguments)
    common.print_head(arguments.kind)
    height, width = web_view.VIEW
    print(f"\nA view of {height}x{width} of {arguments.size[0]}x{arguments.size[1]}, factors {FACTORS}, in ms.\n")
    header = ["variant", "first at x4", "median until something is seen", "median until all is", "longest"]
    common.print_table(header, rows)


if __name__ == "__main__":
    common.exit_with(main)

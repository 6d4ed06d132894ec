"""How much memory does an image take?  python benchmarks/memory.py [--size 339 510] [--scale 4] [--tile 0 384]

Each candidate upscales one random image in a fresh process. Counted is the peak above the base, which is what the
process held with framework and model, before the image. Resident memory has the libraries' own pages in it, as far
as they have been touched; anonymous memory, sampled every 10 ms, has not. LIIF's code gathers the whole result;
ours gives it away band by band, so that the result itself is not in the number. --tile: sides of the tiles in which
PyTorch and Jittor encode, 0 for the whole image at once.
"""

import sys
import threading
from argparse import Namespace

import candidates
import common
import numpy as np
from compare_upstream import SPECS

EVERY = 0.01  # seconds


class Watched(candidates.Decode):
    """A Decode that looks at the process's anonymous memory meanwhile."""

    def mark_base(self) -> None:
        super().mark_base()
        self.anonymous_base = self.anonymous_peak = common.memory("RssAnon")

    def once(self) -> None:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(EVERY):
                self.anonymous_peak = max(self.anonymous_peak, common.memory("RssAnon"))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            super().once()
        finally:
            done.set()
            watcher.join()

    def all_of_it(self) -> tuple[float, float | None, float]:
        """MiB: the base, the peak above it, the peak of anonymous memory above its base."""
        return self.base, self.peak(), self.anonymous_peak - self.anonymous_base


class Ours(Watched, candidates.Ours):
    """Looks at every band and forgets it."""

    def upscale(self, image: np.ndarray, height: int, width: int) -> None:
        rows = sum(len(band) for band in self.bands(image, height, width))
        assert rows == height


class Original(Watched, candidates.Original):
    pass


def measure(arguments: Namespace) -> list[list[str]]:
    """One candidate after the other, the first being what the others are held against."""
    spec = SPECS[arguments.model]
    rest = (arguments.gpu, spec, arguments.size, arguments.scale)
    found = {}
    if arguments.upstream:
        found[candidates.AS_IT_IS] = (Original, arguments.upstream, False, *rest)
    for name, given in candidates.ours(arguments, Ours, *rest).items():
        for tile in arguments.tile:
            label = name if tile is None else f"{name}, tiles of {tile}" if tile else f"{name}, encoded at once"
            found[label] = (*given, tile)
    rows, first = [], None
    for name, given in found.items():
        if not common.selected(name, arguments.only):
            continue
        child = common.Child(*given)
        try:
            seconds = child("run")
            base, peak, anonymous = child("all_of_it")
            child.close()
        except common.Gone as reason:  # of too much memory, perhaps
            print(f"left out: {name}, {reason}", file=sys.stderr)
            continue
        first = first or peak
        shown = ["-", "-"] if peak is None else [f"{peak:.0f}", f"{first / peak:.1f}"]  # Jittor does not tell a GPU's
        rows.append([name, f"{base:.0f}", *shown, f"{anonymous:.0f}", f"{seconds:.1f}"])
        print(*rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure, print."""
    parser = common.options(__doc__)
    parser.add_argument("--model", choices=SPECS, metavar="NAME", default="edsr-baseline-liif")
    parser.add_argument("--size", type=int, nargs=2, default=[339, 510], metavar=("H", "W"))
    parser.add_argument("--scale", type=float, default=4)
    parser.add_argument("--tile", type=int, nargs="+", default=[None])
    arguments = common.parse(parser)
    rows = measure(arguments)
    common.print_head(arguments.kind)
    height, width = (round(side * arguments.scale) for side in arguments.size)
    print(f"\n{arguments.model}, {'x'.join(map(str, arguments.size))} -> {height}x{width}, one run without warm-up.")
    print(f"The result itself has {height * width * 3 * 4 / common.MIB:.1f} MiB.\n")
    header = ["variant", "base MiB", "peak above base", "times less", "anonymous memory above base", "s"]
    common.print_table(header, rows)


if __name__ == "__main__":
    common.exit_with(main)

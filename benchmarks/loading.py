"""How fast do training samples come?  python benchmarks/loading.py [--upstream PATH] [--images 24]

One process, one thread, the same images for all: the official recipe (crops of 48x48, scale 1 to 4, flips, 2304
queries) on images of DIV2K's size, which are made here. A sample is what a worker draws. A batch is what a training
step takes: 16 samples, stacked and normalised. The processor's seconds are counted, whatever else the machine does.
"""

import itertools
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # read at import

import common
import numpy as np
from PIL import Image

from liif_core.config import load
from liif_core.data import sets
from liif_core.data.batching import Batches
from liif_core.images.normalisation import Normalisation
from liif_core.system import memory

HEIGHT, WIDTH = 1356, 2040
RECIPE = "train-div2k/train_edsr-baseline-liif.yaml"
PHOTO = "train-div2k/train_edsr-baseline-liif-photo.yaml"  # the same samples with noise, JPEG and the like
SAMPLES = 320  # a measurement


def image(number: int) -> Image.Image:
    """Smooth, with some noise; each number gives another one."""
    rng = np.random.default_rng(number)
    small = Image.fromarray(rng.integers(0, 256, (HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
    noise = rng.normal(0, 6, smooth.shape).astype(np.float32)
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def data_spec(folder: Path, cache: str, recipe: str = RECIPE) -> dict:
    """A recipe's train_dataset, with these images, so often that even one is enough for a measurement."""
    spec = load.load(recipe, "train").train_dataset.model_dump()
    spec["dataset"]["args"] |= {"root_path": str(folder), "cache": cache, "repeat": SAMPLES}
    spec["wrapper"]["args"]["sample_q"] = 2304
    return spec


def shuffled(length: int) -> Iterator[int]:
    """Positions of one epoch after the other, so that nothing is drawn that the last measurement left in a cache."""
    for epoch in itertools.count():
        yield from np.random.default_rng(epoch).permutation(length).tolist()


def ours(folder: Path, cache: str, recipe: str = RECIPE) -> tuple[Callable, Callable]:
    """Two functions: draw SAMPLES samples, and make batches of as many."""
    spec = data_spec(folder, cache, recipe)
    wrapper = sets.make(spec, seed=0, training=True)
    normalisation = Normalisation(load.load(RECIPE, "train").data_norm)
    order, epochs = shuffled(len(wrapper)), itertools.count(1)

    def draw() -> None:
        epoch = next(epochs)
        for index in itertools.islice(order, SAMPLES):
            wrapper.sample(index, epoch)

    def make_batches() -> None:
        batches = Batches(wrapper, spec["batch_size"], epoch=next(epochs))
        for k in range(SAMPLES // spec["batch_size"]):
            normalisation.batch(batches[k])

    return draw, make_batches


def original(clone: Path, folder: Path) -> tuple[Callable, Callable]:
    """The same in LIIF's data sets, with float images in memory; batches as its training script makes them."""
    import torch
    from torch.utils.data import default_collate

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message="torch.meshgrid")
    sys.path.insert(0, str(clone))
    import datasets

    spec, norm = data_spec(folder, "in_memory"), load.load(RECIPE, "train").data_norm
    wrapper = datasets.make(spec["wrapper"], args={"dataset": datasets.make(spec["dataset"])})
    order = shuffled(len(wrapper))
    inp_sub, inp_div = (torch.tensor(numbers).view(1, -1, 1, 1) for numbers in (norm.inp.sub, norm.inp.div))
    gt_sub, gt_div = (torch.tensor(numbers).view(1, 1, -1) for numbers in (norm.gt.sub, norm.gt.div))

    def draw() -> None:
        for index in itertools.islice(order, SAMPLES):
            wrapper[index]

    def make_batches() -> None:
        for _ in range(SAMPLES // spec["batch_size"]):
            batch = default_collate([wrapper[index] for index in itertools.islice(order, spec["batch_size"])])
            batch["inp"] = (batch["inp"] - inp_sub) / inp_div
            batch["gt"] = (batch["gt"] - gt_sub) / gt_div

    return draw, make_batches


def resize_alone() -> Callable:
    """Pillow's part in SAMPLES samples, without what leads to it and away from it."""
    whole = image(0)
    sides = np.rint(48 * np.random.default_rng(0).uniform(1, 4, SAMPLES)).astype(int).tolist()
    crops = [whole.crop((side, side, 2 * side, 2 * side)) for side in sides]

    def resize() -> None:
        for crop in crops:
            crop.resize((48, 48), Image.Resampling.BICUBIC)

    return resize


def in_turn(candidates: dict[tuple, Callable], runs: int) -> dict[tuple, list[float]]:
    """The processor's seconds of each, by turns, so that a drifting machine drifts for all."""
    seconds: dict[tuple, list[float]] = {name: [] for name in candidates}
    for run in range(runs + 1):
        for name, work in candidates.items():
            start = time.process_time()
            work()
            if run:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio(first: list[float], second: list[float]) -> float:
    """The median of the paired ratios."""
    return statistics.median(one / other for one, other in zip(first, second, strict=True))


def main() -> None:
    """Make the images, measure samples and batches, print."""
    parser = common.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--upstream", type=common.clone, metavar="PATH", help="a clone of yinboc/liif")
    parser.add_argument("--images", "--pictures", type=int, default=24)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    memory.keep_freed_pages()  # as train.py does; the original LIIF gains by it, too
    found: dict[str, tuple[Callable, Callable]] = {}
    with tempfile.TemporaryDirectory() as place:
        os.environ["LIIF_CACHE"] = f"{place}/cache"
        folder = Path(place) / "images"
        folder.mkdir()
        for number in range(arguments.images):
            image(number).save(folder / f"{number:04}.bmp")
        if arguments.upstream:
            found["LIIF's code, `in_memory`"] = original(arguments.upstream, folder)
        found |= {f"ours, `{cache}`": ours(folder, cache) for cache in ("in_memory", "bin")}
        found["ours, `bin`, degraded"] = ours(folder, "bin", PHOTO)
        candidates = {(name, part): functions[part] for name, functions in found.items() for part in (0, 1)}
        seconds = in_turn({**candidates, ("resize", 0): resize_alone()}, arguments.runs)

    common.print_head("cpu")
    print(f"\n{arguments.images} images of {HEIGHT}x{WIDTH}, one thread; per second and core.\n")
    rows = []
    for name in found:
        row = [name]
        for part in (0, 1):
            values, base = seconds[name, part], seconds[next(iter(found)), part]
            row += [f"{SAMPLES / statistics.median(values):.0f}", f"{ratio(base, values):.2f}"]
        rows.append(row)
    common.print_table(["path", "samples", "times the first", "samples in finished batches", "times the first"], rows)
    share = ratio(seconds["resize", 0], seconds["ours, `bin`", 0])
    print(f"\nPillow's bicubic alone is {share:.0%} of a sample of ours with `bin`.")


if __name__ == "__main__":
    common.exit_with(main)

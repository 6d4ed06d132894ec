"""What memory do the images of a training set take?  python benchmarks/loading_memory.py [--cache bin] [--workers 4]

Images of DIV2K's size are made here, few different ones under many names. A process opens them, starts workers
through its framework's own loader, draws an epoch of the official recipe, and looks at all these processes while they
live. The same with a single image is what the processes take without the data, and is subtracted.

    anonymous     what the processes hold themselves; on a machine without swap it cannot be given back
    page cache    pages of files that they have mapped: the kernel's, one copy for all, given back when it is short

The sums share a page among those who have it (PSS). RssAnon counts it once for each process.
"""

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import common
import loading

from liif_core.data import sets
from liif_core.data.batching import Batches, checked
from liif_core.system import devices

MB = 1e6
DIFFERENT = 4  # contents


def processes() -> list[int]:
    """This one and its children, threads' children among them."""
    lists = Path("/proc/self/task").glob("*/children")
    return [os.getpid(), *(int(number) for path in lists for number in path.read_text().split())]


def held() -> dict[str, float]:
    """MB by the kernel's names, summed over these processes."""
    found = {"RssAnon": 0.0, "Pss": 0.0, "Pss_Anon": 0.0, "Pss_File": 0.0}
    for process in processes():
        for file in ("status", "smaps_rollup"):
            for line in Path(f"/proc/{process}/{file}").read_text().splitlines():
                name = line.partition(":")[0]
                if name in found:
                    found[name] += int(line.split()[-2]) * 1024 / MB
    return found


def draw(folder: Path, arguments: argparse.Namespace) -> None:
    """In a child: open the folder, draw, and print what is held while the last batch is in hand."""
    devices.prepare(arguments.framework, "cpu")
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores
    spec = loading.data_spec(folder, arguments.cache)
    spec["dataset"]["args"]["repeat"] = 20 * arguments.images // len(list(folder.iterdir()))
    wrapper = sets.make(spec, seed=0, training=True)
    make_loader = importlib.import_module(f"liif_{arguments.framework}.datasets").make_loader
    batches = Batches(wrapper, spec["batch_size"], epoch=1)
    last = min(arguments.batches or len(batches), len(batches) - 1)  # after the very last one there are no workers
    for number, _ in enumerate(checked(make_loader(batches, arguments.workers)), start=1):
        if number == last:
            print(json.dumps({**held(), "processes": len(processes()), "batches": number}), flush=True)
            break


def measure(folder: Path) -> dict[str, float]:
    """`draw` in a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def check_room(place: str, arguments: argparse.Namespace) -> float:
    """GB of the images as bytes; ends the program where they do not fit."""
    needed = arguments.images * loading.HEIGHT * loading.WIDTH * 3 / 1e9
    if arguments.cache == "bin" and needed * 1.05 > (free := shutil.disk_usage(place).free / 1e9):
        sys.exit(f"{place} has {free:.1f} GB free, the cache takes {needed:.1f}: set TMPDIR, or fewer --images")
    available = int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) * 1024 / 1e9
    if arguments.cache == "in_memory" and needed + 4 > available:
        sys.exit(f"{available:.1f} GB of memory are free, the images take {needed:.1f}: fewer --images")
    return needed


def main() -> None:
    """Make two folders, measure both, print the difference."""
    parser = common.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", "--pictures", type=int, default=800)
    parser.add_argument("--cache", choices=("bin", "in_memory", "none"), default="bin")
    parser.add_argument("--framework", choices=("torch", "jittor"), default="torch")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--batches", type=int, help="of 16 samples (default: nearly an epoch, 20 crops of an image)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        draw(arguments.folder, arguments)
        return
    with tempfile.TemporaryDirectory() as place:
        needed = check_room(place, arguments)
        os.environ["LIIF_CACHE"] = f"{place}/cache"
        for number in range(DIFFERENT):
            loading.image(number).save(f"{place}/{number}.jpg")
        one, many = Path(place) / "one", Path(place) / "many"
        for folder, count in ((one, 1), (many, arguments.images)):
            folder.mkdir()
            for number in range(count):
                os.link(f"{place}/{number % DIFFERENT}.jpg", folder / f"{number:04}.jpg")
        base, full = measure(one), measure(many)

    common.print_head("cpu")
    print(f"\n{arguments.images} images of {loading.HEIGHT}x{loading.WIDTH}, {needed:.1f} GB as bytes,", end=" ")
    print(
        f"`cache: {arguments.cache}`, {arguments.framework}: {full['processes']} processes, {full['batches']} batches\n"
    )
    rows = []
    for name, title in (
        ("Pss_Anon", "anonymous"),
        ("Pss_File", "page cache"),
        ("Pss", "all (PSS)"),
        ("RssAnon", "anonymous, once for each process (RssAnon)"),
    ):
        rows.append([title, *(str(round(number)) for number in (base[name], full[name], full[name] - base[name]))])
    common.print_table(["MB, all processes", "one image", f"{arguments.images} images", "difference"], rows)


if __name__ == "__main__":
    common.exit_with(main)

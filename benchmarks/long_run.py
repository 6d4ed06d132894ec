"""Does memory stay flat, does Jittor compile again and again?  python benchmarks/long_run.py FOLDER [--steps 2000]

Both frameworks train EDSR-baseline-LIIF on the same samples, each in a process of its own, in turn for 20 steps. The
last batch of every epoch is smaller than the others. After every --evaluate steps come the validation queries, eight
whole images of sizes and factors that have not been there before, odd and not square, and a checkpoint. The images
are those of load/bsds400, or made here if there are none.

FOLDER gets long_run.json, with what each process held and how long each step took, and long_run.png. Jittor begins
without any compiled operator, unless --known-operators leaves it those of earlier runs.
"""

import argparse
import importlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import candidates
import common
import numpy as np

from helpers import made_images
from liif_core.checkpoints import native
from liif_core.checkpoints.native import Checkpoint
from liif_core.config import load
from liif_core.config.schema import TrainConfig
from liif_core.data import sets
from liif_core.data.batching import Batches, checked
from liif_core.evaluation import evaluate
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network
from liif_core.report.experiments_folder import FRAMEWORKS

CONFIG = "train-bsds400/train_edsr-baseline-liif.yaml"
EVERY = 20  # steps from one look to the next
MADE, HELD_BACK = 30, 10  # images that are made here, to train on and to validate on


class Training(common.Work):
    """A run that goes on when it is told to."""

    def __init__(self, framework: str, settings: TrainConfig, folder: Path, operators: Path | None, gpu: str):
        candidates.prepared(framework, gpu)
        if framework == "jittor" and operators:
            keep_operators_in(operators)
        specs = (spec.model_dump() for spec in (settings.model, settings.method, settings.optimizer))
        self.engine = candidates.our_engine(framework, "fp32", gpu, *specs)
        self.make_loader = importlib.import_module(f"liif_{framework}.datasets").make_loader
        self.train_set = sets.make(settings.train_dataset.model_dump(), settings.seed, training=True)
        self.val_set = sets.make(settings.val_dataset.model_dump(), settings.seed, training=False)
        self.settings, self.normalisation = settings, Normalisation(settings.data_norm)
        self.network = network.Network(self.engine, self.normalisation)
        self.path = folder / f"{framework}.safetensors"
        self.batches, self.step = self.epochs(), 0

    def epochs(self) -> Iterator[dict]:
        """The batches of one epoch after the other."""
        for epoch in itertools.count(1):
            batches = Batches(self.train_set, self.settings.train_dataset.batch_size, self.settings.seed, epoch)
            yield from checked(self.make_loader(batches))

    def train(self, steps: int) -> dict:
        """Go on for some steps. "seconds" has each without its loading."""
        seconds = []
        for _ in range(steps):
            batch = self.normalisation.batch(next(self.batches))
            start = time.perf_counter()
            self.engine.begin_step(self.step, lambda base: base)
            self.engine.train_step(batch)
            if cuda := common.torch_on_gpu():
                cuda.synchronize()
            seconds.append(round(time.perf_counter() - start, 4))
            self.step += 1
        loss = statistics.fmean(losses["loss"] for losses in self.engine.read_losses())
        return self.look() | {"what": "steps", "seconds": seconds, "loss": loss}

    def evaluate(self) -> dict:
        """Queries, whole images, a checkpoint."""
        start = time.perf_counter()
        psnr = evaluate.validate(self.engine, self.make_loader, self.val_set, self.settings, self.normalisation)
        for number, (low, high) in enumerate(sizes(self.step)):
            image = self.val_set.dataset[number % len(self.val_set)][: low[0], : low[1]]
            assert np.isfinite(self.network(image, *high)).all()
        native.save(self.path, Checkpoint(self.settings.model.model_dump(), self.engine.state()))
        return self.look() | {"what": "evaluation", "seconds": [round(time.perf_counter() - start, 1)], "psnr": psnr}

    def look(self) -> dict:
        """The process: MiB resident and anonymous, and of PyTorch on a GPU; Jittor's operators and variables."""
        found: dict[str, Any] = {"what": "start", "step": self.step}
        found |= {"resident": common.memory("VmRSS"), "anonymous": common.memory("RssAnon")}
        if cuda := common.torch_on_gpu():
            found["gpu"] = cuda.memory_allocated() / common.MIB
        if jittor := sys.modules.get("jittor"):
            found |= {"operators": count_operators(jittor), "variables": jittor.number_of_lived_vars()}
        return found


def keep_operators_in(folder: Path) -> None:
    """Jittor: let it keep the operators that it compiles here, where there are none yet; its core stays where it is."""
    import jittor

    for part in ("jit", "obj_files"):
        (folder / part).mkdir(parents=True)
    jittor.flags.cache_path = str(folder)


def count_operators(jittor: Any) -> int:
    """Jittor: how many different operators this process has needed. Each is a library of its own, compiled when it is
    first needed unless the cache has it, and then loaded for good."""
    folder = f"{jittor.flags.cache_path}/jit/"
    lines = Path("/proc/self/maps").read_text().splitlines()
    return len({line[line.index(folder) :] for line in lines if folder in line})


def sizes(seed: int, count: int = 8) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Of some images (H, W), odd and not square, and of what they are upscaled to."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        height, width = (2 * int(half) + 1 for half in rng.choice(np.arange(8, 60), 2, replace=False))
        factor = rng.uniform(1, 4)
        yield (height, width), (round(height * factor), round(width * factor))


def settings_for(arguments: argparse.Namespace, made: Path) -> TrainConfig:
    """The config with the arguments in it, on images that are made in the folder `made` if there are no others."""
    there = (common.ROOT / "load/bsds400").is_dir()
    number = min(arguments.images, 390 if there else MADE)
    number -= int(number % arguments.batch == 0)  # so that the last batch of an epoch is smaller
    changes = {"train_dataset.dataset.args.first_k": number, "train_dataset.dataset.args.repeat": 1}
    for name in ("train_dataset", "val_dataset"):
        changes |= {f"{name}.batch_size": arguments.batch, f"{name}.dataset.args.cache": "none"}
        changes |= {f"{name}.wrapper.args.inp_size": arguments.side, f"{name}.wrapper.args.sample_q": arguments.queries}
        if not there:
            changes |= {f"{name}.dataset.args.root_path": made}
            changes |= {f"{name}.dataset.args.split_file": made / "split.json", f"{name}.dataset.args.repeat": 1}
    if not there:
        names = [f"{i}.png" for i in range(MADE + HELD_BACK)]
        made_images.folder(made, dict.fromkeys(names, (321, 481)))
        (made / "split.json").write_text(json.dumps({"train": names[:MADE], "val": names[MADE:]}))
    return load.load(CONFIG, "train", [*(f"{key}={value}" for key, value in changes.items()), *arguments.set])


def measure(children: dict[str, common.Child], steps: int, evaluate: int, about: dict, file: Path) -> dict:
    """What each run saw of itself, by framework; also in a file after every look, with what else is known about it."""
    found = {name: [child("look")] for name, child in children.items()}
    for step in range(0, steps, EVERY):
        following = min(step + EVERY, steps)
        todo: list[tuple] = [("train", following - step)]
        todo += [("evaluate",)] if following // evaluate > step // evaluate else []
        for what in todo:
            for name, child in children.items():
                found[name].append(child(*what))
        file.write_text(json.dumps(about | {"samples": found}))
        held = (f"{FRAMEWORKS[name]} {samples[-1]['anonymous']:.0f} MiB" for name, samples in found.items())
        print(f"step {following} of {steps}", *held, sep=", ", file=sys.stderr, flush=True)
    return found


def print_memory(found: dict[str, list[dict]]) -> None:
    """Markdown: what the processes held at the start, before and after every evaluation, and at the end."""
    fields = {"anonymous": "anonymous MiB", "resident": "resident MiB", "gpu": "GPU MiB", "operators": "operators"}
    there = [(name, field) for name, samples in found.items() for field in fields if field in samples[0]]
    whats = [sample["what"] for sample in next(iter(found.values()))]
    rows = []
    for number, what in enumerate(whats):
        if number < 2 or "evaluation" in whats[number : number + 2] or number == len(whats) - 1:
            samples = {name: of_one[number] for name, of_one in found.items()}
            step = next(iter(samples.values()))["step"]
            label = {"start": "built", "steps": f"{step} steps", "evaluation": f"evaluated at step {step}"}[what]
            rows.append([label, *(f"{samples[name][field]:.0f}" for name, field in there)])
    common.print_table(["", *(f"{FRAMEWORKS[name]}, {fields[field]}" for name, field in there)], rows)


def print_steps(found: dict[str, list[dict]]) -> None:
    """How long steps took, and when Jittor needed operators that it had not needed before."""
    for name, samples in found.items():
        seconds = [second for sample in samples if sample["what"] == "steps" for second in sample["seconds"]]
        later = max(seconds[EVERY:], default=0)
        print(f"\n{FRAMEWORKS[name]}: median of a step {statistics.median(seconds):.3f} s,", end=" ")
        print(f"longest {max(seconds):.1f} s, longest after the first {EVERY} {later:.1f} s.")
        for before, after in itertools.pairwise(samples):
            if new := after.get("operators", 0) - before.get("operators", 0):
                where = {"steps": f"the last {EVERY} steps", "evaluation": "the evaluation"}[after["what"]]
                longest = max(after["seconds"])
                print(f"- step {after['step']}: {new} more operators in {where}, the longest took {longest:.1f} s")


def figure(found: dict[str, list[dict]]) -> Any:
    """Memory at the left, Jittor's operators at the right, over steps; evaluations are upright lines."""
    import matplotlib
    from matplotlib.figure import Figure

    from liif_core.report import plots

    with matplotlib.rc_context(plots.STYLE):
        drawn = Figure(figsize=(8, 2.6), layout="constrained")
        memory, operators = drawn.subplots(1, 2)
        for name, samples in found.items():
            pale, full = (plots.PALE[name], (0, (4, 2)), 1.0), (plots.COLOURS[name], "solid", 1.4)
            _line(memory, samples, "resident", f"{FRAMEWORKS[name]}, resident", pale, 4)
            _line(memory, samples, "anonymous", f"{FRAMEWORKS[name]}, anonymous", full, -10)
            if "operators" in samples[0]:
                _line(operators, samples, "operators", FRAMEWORKS[name], full, 4)
        for axes, title in ((memory, "memory of the process (MiB)"), (operators, "operators that were needed so far")):
            axes.set(title=title, xlabel="step", ylim=(0, 1.12 * axes.get_ylim()[1]))
            axes.grid(axis="x", visible=False)
            marks = [sample["step"] for sample in next(iter(found.values())) if sample["what"] == "evaluation"]
            for step in marks:
                axes.axvline(step, color=plots.INK, linewidth=0.5, linestyle=(0, (1, 3)), zorder=0)
            if marks:
                place = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 7}
                axes.annotate("evaluation", (marks[0], 1), (3, -6), **place)
    return drawn


def _line(axes: Any, samples: list[dict], field: str, label: str, look: tuple, above: int) -> None:
    """A field over steps, with a label at its end, so many points above it."""
    colour, style, width = look
    steps, values = [sample["step"] for sample in samples], [sample[field] for sample in samples]
    axes.step(steps, values, where="post", color=colour, linestyle=style, linewidth=width)
    place = {"xytext": (0, above), "textcoords": "offset points", "ha": "right", "fontsize": 8}
    axes.annotate(label, (steps[-1], values[-1]), color=colour, **place)


def main() -> None:
    """Train, look, write, draw."""
    parser = common.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--evaluate", type=int, default=400, metavar="STEPS", help="an evaluation after so many")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=24, help="of a low-resolution crop, in pixels")
    parser.add_argument("--queries", type=int, default=576)
    parser.add_argument("--images", "--pictures", type=int, default=390, help="to train on, at most")
    parser.add_argument("--frameworks", nargs="+", choices=FRAMEWORKS, default=list(FRAMEWORKS))
    parser.add_argument("--known-operators", action="store_true", help="Jittor may load what it compiled before")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as in train.py")
    parser.add_argument("--gpu", default="cpu", help="GPU number (default: cpu)")
    arguments = common.parse(parser)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        settings = settings_for(arguments, Path(place) / "images")
        operators = None if arguments.known_operators else Path(place) / "operators"
        given = (settings, arguments.folder.resolve(), operators, arguments.gpu)
        children = {name: common.Child(Training, name, *given) for name in arguments.frameworks}
        about = {"config": settings.model_dump(), "known_operators": arguments.known_operators}
        file = arguments.folder / "long_run.json"
        found = measure(children, arguments.steps, arguments.evaluate, about, file)
        for child in children.values():
            child.close()

    from liif_core.report import plots

    plots.save_png(figure(found), arguments.folder / "long_run.png")
    common.print_head(arguments.kind)
    print(f"\n{arguments.steps} steps, {arguments.batch} crops of {arguments.side}x{arguments.side},", end=" ")
    print(f"{arguments.queries} queries each, {len(list(sizes(0)))} images after every {arguments.evaluate} steps\n")
    print_memory(found)
    print_steps(found)


if __name__ == "__main__":
    common.exit_with(main)

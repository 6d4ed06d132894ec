"""How good is diffusion in how many steps?  python benchmarks/samplers.py --model CHECKPOINT [--output results/emoji]

A network of diffusion under several samplers, beside bicubic and a network that was trained by regression, on the
images of a test config; each in a process of its own, one after the other. The sampler that asks the network for every
time of the schedule, hours on a CPU, makes the first --few images only. Into --output goes samplers.json, from which
report.py --readme writes the table `samplers`; what is there of the same weights and images is not measured again,
and stays, whatever --only says.
"""

import json
import math
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import candidates
import common

from liif_core.checkpoints import formats
from liif_core.config import load as configs
from liif_core.data import sets
from liif_core.diffusion.samplers import Sampler
from liif_core.diffusion.schedules import Schedule
from liif_core.errors import UserError
from liif_core.evaluation import evaluate, sr3
from liif_core.images import rgb8
from liif_core.inference import network
from liif_core.report import samplers as report
from liif_core.report import tables
from liif_core.system import packages, provenance
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import PRETRAINED

# Name, steps and start; None is all of the schedule. Those with more steps than the schedule has are left out.
SAMPLERS = [
    *(("dpmpp-2m", 10, 1.0), ("dpmpp-2m", 20, 1.0), ("ddim", 20, 1.0), ("ddim", 50, 1.0)),
    *(("dpmpp-2m", 10, 0.55), ("ddim", 20, 0.55), ("ancestral", 50, 0.55), ("ancestral", None, 1.0)),
]


class Measured(common.Work):
    """once(): the values of report.COLUMNS by image. given: a method as `methods` lists it."""

    def __init__(self, given: dict[str, Any], framework: str, gpu: str, config: str, changes: list[str]):
        self.config = configs.load(config, "test", changes)
        self.predict: Any = network.bicubic
        if given["file"]:
            kind = candidates.prepared(framework, gpu)
            self.predict = network.load(given["file"], framework, kind, sampler=given["sampler"])

    def once(self) -> dict[str, dict[str, float | None]]:
        data = sets.make(self.config.test_dataset.model_dump(), 0, False, self.config.eval_type)
        seconds: list[float] = []
        others: list[dict[str, float]] = []

        def predict(*arguments):
            start = time.perf_counter()
            prediction = self.predict(*arguments)
            seconds.append(time.perf_counter() - start)
            return prediction

        def keep(index: int, prediction) -> None:
            low, high = map(rgb8.to_float, data.pair(index))
            values = sr3.not_white(prediction, high, low)
            others.append({report.NOT_WHITE + name: value for name, value in values.items()})
            others[-1]["shift"] = sr3.shift(prediction, low)
            print(f"{data.name(index)}: {seconds[-1]:.2f} s", file=sys.stderr, flush=True)

        rows = evaluate.test(predict, data, self.config, keep=keep)
        found = {row.name: row.values for row in rows}
        for values, other, taken in zip(found.values(), others, seconds, strict=True):
            values |= other | {"seconds": taken}
        return {name: {key: _short(value) for key, value in values.items()} for name, values in found.items()}


def _short(value: float) -> float | None:
    """JSON has no NaN, which is of images without such pixels."""
    return float(f"{value:.6g}") if not math.isnan(value) else None


def methods(arguments: Namespace) -> list[dict[str, Any]]:
    """Name, file, weights, sampler, how often the network is asked, whether it makes the first images only. Raises
    UserError for a model that draws nothing, or draws without a condition."""
    found = formats.load(arguments.model)
    if found.method["name"] != "diffusion" or found.model["args"].get("scale") is None:
        raise UserError(f"--model {arguments.model}: expected a network of diffusion that upscales")
    times = Schedule(**found.method.get("args", {}).get("schedule", {})).steps
    plain = [("bicubic", None), *((name, file) for name, file in arguments.beside)]
    listed = [{"name": name, "file": file, "sampler": None, "asked": None, "few": False} for name, file in plain]
    for name, steps, start in SAMPLERS:
        sampler = Sampler(name=name, steps=steps, start=start).model_dump()  # type: ignore[arg-type]
        asked = steps or times
        if asked > round(start * times):
            continue
        label = f"{name} {asked}" + (f" from {start}" if start < 1 else "")
        one = {"name": label, "file": arguments.model, "sampler": sampler, "asked": asked}
        listed.append(one | {"few": steps is None})
    for one in listed:
        one["weights"] = provenance.sha256(formats.locate(one["file"])) if one["file"] else None
    return listed


def measure(arguments: Namespace) -> None:
    """What is missing, written after each method."""
    target = arguments.output / report.FILE
    check_writable(target)
    of = {"config": arguments.config, "set": arguments.set, "framework": arguments.framework}
    before = report.read(arguments.output) if target.exists() else of | {"methods": []}
    if (other := {key: before.get(key) for key in of}) != of:
        raise UserError(f"{target}: expected what was measured with {of}, got {other}: give another --output")
    found = {one["name"]: one for one in before["methods"]}
    changes = [*arguments.set, f"metrics=[{', '.join(report.METRICS)}]"]
    listed = methods(arguments)
    for given in listed:
        if not common.selected(given["name"], arguments.only):
            continue
        limits = [f"test_dataset.dataset.args.first_k={arguments.few}"] if given["few"] else []
        config = configs.load(arguments.config, "test", [*changes, *limits])
        data = sets.make(config.test_dataset.model_dump(), 0, False, config.eval_type)
        names = {data.name(index) for index in range(len(data))}
        kept = found.get(given["name"])
        if kept and (kept["weights"], set(kept["images"])) == (given["weights"], names):
            continue
        print(f"{given['name']}, {len(names)} images", file=sys.stderr, flush=True)
        child = common.Child(Measured, given, arguments.framework, arguments.gpu, arguments.config, [*changes, *limits])
        child("run")
        what = {key: given[key] for key in ("name", "asked", "weights")} | {"commit": provenance.commit() or "unknown"}
        found[given["name"]] = what | {"machine": common.machine(arguments.kind), "images": child("output")}
        child.close()
        order = list(dict.fromkeys([*(one["name"] for one in listed), *found]))
        written = of | {"methods": [found[name] for name in order if name in found]}
        write_atomically(target, (json.dumps(written) + "\n").encode())


def named(text: str) -> tuple[str, Path]:
    """NAME=CHECKPOINT"""
    name, equals, file = text.partition("=")
    if not (name and equals and file):
        raise UserError(f"--beside: expected NAME=CHECKPOINT, got '{text}'")
    return name, Path(file)


def main() -> None:
    """Measure, print."""
    parser = common.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, metavar="CHECKPOINT", help="of diffusion")
    parser.add_argument("--beside", nargs="+", default=[f"LIIF={PRETRAINED}"], metavar="NAME=CHECKPOINT")
    parser.add_argument("--config", default="test/test-emoji-16-128.yaml", help="(default: %(default)s)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--few", type=int, default=20, help="images of the longest sampler (default: 20)")
    parser.add_argument("--framework", choices=packages.FRAMEWORKS, default="torch", help="(default: torch)")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="methods whose names contain one of these")
    parser.add_argument("--gpu", default="cpu", help="GPU number (default: cpu)")
    parser.add_argument("--output", type=Path, default=common.ROOT / "save" / "samplers", help="(save/samplers)")
    arguments = common.parse(parser)
    arguments.beside = [named(text) for text in arguments.beside]
    measure(arguments)
    print(tables.markdown(report.table(report.read(arguments.output))))


if __name__ == "__main__":
    common.exit_with(main)

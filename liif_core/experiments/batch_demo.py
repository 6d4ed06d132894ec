"""Upscale one image with all models and lay the results side by side.

    python scripts/batch_demo.py --input examples/chelsea.png --scale 4 --save-dir save/bsds400

Writes into demo_result/ a PNG per model and framework, sheet.jpg with the same part of each beside the input's pixels
and bicubic, and log.txt. What was made of the same image with the same weights is skipped.
"""

import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from liif_core.errors import UserError
from liif_core.experiments import jobs, trained
from liif_core.images import comparison, rgb8
from liif_core.inference import plan
from liif_core.system import provenance
from liif_core.system.arguments import Parser
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import PRETRAINED, WORK

HEADER = ["model", "framework", "image"]
SHEET = "sheet.jpg"  # a third of the PNG
FINISHED = "finished.json"
COLUMN = 360  # pixels: how wide a column of the comparison is at most
NEAREST = Image.Resampling.NEAREST


@dataclass
class Task:
    """One model in one framework, and the image that it makes."""

    model: trained.Model
    framework: str
    output: Path

    def origin(self, input_digest: str, height: int, width: int) -> dict:
        """What the result depends on."""
        return {"image": input_digest, "weights": self.model.weights, "height": height, "width": width}


class Finished:
    """Of every PNG in a folder what it was made from; kept in a file beside them."""

    def __init__(self, folder: Path):
        self.path, self.lock = folder / FINISHED, threading.Lock()
        self.origins: dict = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        for origin in self.origins.values():
            if "picture" in origin:  # the key's name before
                origin["image"] = origin.pop("picture")

    def holds(self, output: Path, origin: dict) -> bool:
        """Is this image there, and made from that?"""
        return output.exists() and self.origins.get(output.name) == origin

    def add(self, output: Path, origin: dict) -> None:
        """Remember it at once, for the next one may be interrupted."""
        with self.lock:
            self.origins[output.name] = origin
            self._write()

    def forget(self, output: Path) -> None:
        """It is about to be replaced, which may be interrupted."""
        with self.lock:
            if self.origins.pop(output.name, None):
                self._write()

    def _write(self) -> None:
        write_atomically(self.path, json.dumps(self.origins, indent=1).encode())


def shown_part(height, width):
    """Left, top, right and bottom of what the comparison shows: all of an image that fits, else the middle."""
    if max(height, width) > COLUMN:
        h, w = min(COLUMN // 2, height), min(COLUMN // 2, width)
        left, top = (width - w) // 2, (height - h) // 2
        return left, top, left + w, top + h
    return 0, 0, width, height


def cells(image, results):
    """The input's own pixels and the results, (caption, uint8 (h, w, 3)), cut to what is shown, each pixel repeated."""
    height, width = results[0][1].shape[:2]
    left, top, right, bottom = box = shown_part(height, width)
    times = COLUMN // max(right - left, bottom - top)
    size = (right - left) * times, (bottom - top) * times
    down, across = image.shape[0] / height, image.shape[1] / width
    own = Image.fromarray(image).resize(size, NEAREST, (left * across, top * down, right * across, bottom * down))
    found = [(f"input, {image.shape[0]}x{image.shape[1]}", own)]
    found += [(name, Image.fromarray(result).crop(box).resize(size, NEAREST)) for name, result in results]
    return [(name, np.array(result)) for name, result in found]


def caption(task: Task) -> str:
    """At most as long as a column is wide."""
    name = task.model.name.removesuffix(f"_{task.framework}")
    return f"{name[:36]} {task.framework}" if task.model.path else "bicubic"


def check_names(tasks: list[Task]) -> None:
    """Raise UserError if two of them would write the same image."""
    first: dict[Path, Task] = {}
    for task in tasks:
        other = first.setdefault(task.output, task)
        if other is not task:
            raise UserError(
                f"the models '{other.model.name}' and '{task.model.name}' would both write {task.output}: "
                "name one of them only, or rename a file"
            )


def check_folder(folder: Path, outputs: list[Path], source: Path) -> None:
    """Raise UserError where a result would replace the input, or an image in a folder that is not of this command."""
    for path in (*outputs, folder / SHEET):
        if os.path.exists(path) and os.path.samefile(path, source):
            raise UserError(f"{path} is the input: name another folder with --output")
        if os.path.lexists(path) and not os.path.lexists(folder / FINISHED):
            raise UserError(f"{path} exists already, and no {FINISHED} says whose it is: name another folder")


def main() -> int:
    """Returns the exit status."""
    parser = Parser(description="Upscale one image with all models.")
    parser.add_argument("--input", "-i", required=True, type=Path)
    plan.add_size_arguments(parser)
    trained.add_arguments(parser)
    parser.add_argument("--output", type=Path, default=WORK / "demo_result", help="folder (default: demo_result/)")
    jobs.add_arguments(parser)
    arguments = parser.parse_args()
    pool = jobs.Pool(jobs.gpu_list(arguments.gpu))
    image = rgb8.read_image(arguments.input)
    height, width = plan.output_size((image.shape[0], image.shape[1]), arguments)
    digest = provenance.sha256(arguments.input)
    check_writable(arguments.output / "log.txt")
    files = arguments.models or ([] if arguments.save_dir else [str(PRETRAINED)])
    models = [m for m in trained.collect(arguments.save_dir, files, arguments.output) if m.path]
    tasks = [Task(trained.bicubic(arguments.output), "pillow", arguments.output / "bicubic.png")]
    for model in models:
        for framework in model.frameworks(arguments.frameworks):
            name = f"{model.name.removesuffix(f'_{model.trained_in}')}"
            origin = f"_trained-in-{model.trained_in}" if model.trained_in not in (None, framework) else ""
            tasks.append(Task(model, framework, arguments.output / f"{name}{origin}_{framework}.png"))
    check_names(tasks)
    check_folder(arguments.output, [task.output for task in tasks], arguments.input)
    finished = Finished(arguments.output)
    lines: list[str] = []

    def work(task: Task, device: str | None) -> jobs.Result:
        cells = [task.model.name, task.framework, task.output.name]
        origin = task.origin(digest, height, width)
        if finished.holds(task.output, origin):
            return jobs.Result(cells, "skipped")
        if task.model.path is None:
            if not arguments.dry_run:
                finished.forget(task.output)
                rgb8.write_image(task.output, rgb8.resize(image, height, width))
                finished.add(task.output, origin)
            return jobs.Result(cells, "would make" if arguments.dry_run else "done")
        command = [*jobs.script(task.framework, "demo"), "--input", str(arguments.input), "--model"]
        command += [str(task.model.path), "--resolution", f"{height},{width}", "--output", str(task.output)]
        command += ["--overwrite"]
        if arguments.dry_run:
            print(" ".join([*command, *(["--gpu", device] if device else [])]))
            return jobs.Result(cells, "would make")
        print(f"\n{task.model.name} in {task.framework}", flush=True)
        finished.forget(task.output)
        status, last_lines = pool.run(command, device, task.output.stem)
        if status == 0:
            finished.add(task.output, origin)
        lines.append(f"{task.output.name}: {last_lines[-1] if last_lines else ''} (exit status {status})")
        return jobs.Result(cells, jobs.state_of(status, pool.stopping), last_lines)

    started = time.time()
    results = pool.map(work, tasks)
    status = jobs.finish(pool, HEADER, results, started)
    if arguments.dry_run:
        return status
    shown = [task for task in tasks if finished.holds(task.output, task.origin(digest, height, width))]
    if shown:
        captioned = [(caption(task), rgb8.read_image(task.output)) for task in shown]
        sheet = comparison.comparison(cells(image, captioned), columns=4)
        write_atomically(arguments.output / SHEET, rgb8.encoded(sheet, "JPEG", quality=95, subsampling=0))
    head = (
        f"{time.strftime('%Y-%m-%d %H:%M:%S')} {arguments.input} {image.shape[0]}x{image.shape[1]} -> {height}x{width}"
    )
    states = [f"{' '.join(result.cells)}: {result.state}" for result in results if result is not None]
    with open(arguments.output / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as log:
        log.write("\n".join([head, *states, *lines, ""]) + "\n")
    print(f"look at {arguments.output / SHEET}")
    return status

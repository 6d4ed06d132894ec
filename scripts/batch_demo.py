"""Enlarge one picture with all models and lay the results side by side.

    python scripts/batch_demo.py --input examples/chelsea.png --scale 4 --save-dir save/bsds400

Writes into demo_result/ a PNG per model and framework, sheet.png with the same part of each beside bicubic, and
log.txt. What was made of the same picture with the same weights is skipped.
"""

import argparse
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from liif_core import demo_plan, imaging, jobs, provenance, sheet, trained  # noqa: E402
from liif_core.config import PRETRAINED  # noqa: E402
from liif_core.errors import UserError  # noqa: E402
from liif_core.files import check_writable, write_atomically  # noqa: E402
from liif_core.places import WORK  # noqa: E402

HEADER = ["model", "framework", "picture"]
PART = 180  # pixels: the largest side of the part that the sheet shows
COLUMN = 360  # pixels: how wide the sheet shows it


@dataclass
class Task:
    """One model in one framework, and the picture that it makes."""

    model: trained.Model
    framework: str
    output: Path

    def origin(self, picture: str, height: int, width: int) -> dict:
        """What the result depends on."""
        return {"picture": picture, "weights": self.model.weights, "height": height, "width": width}


class Finished:
    """Of every PNG in a folder what it was made from; kept in a file beside them."""

    def __init__(self, folder: Path):
        self.path, self.lock = folder / "finished.json", threading.Lock()
        self.origins: dict = json.loads(self.path.read_text()) if self.path.exists() else {}

    def holds(self, output: Path, origin: dict) -> bool:
        """Is this picture there, and made from that?"""
        return output.exists() and self.origins.get(output.name) == origin

    def add(self, output: Path, origin: dict) -> None:
        """Remember it at once, for the next one may be interrupted."""
        with self.lock:
            self.origins[output.name] = origin
            write_atomically(self.path, json.dumps(self.origins, indent=1).encode())


def middle(picture):
    """The part in the middle, at most PART pixels high and wide, enlarged to COLUMN pixels."""
    height, width = (min(PART, side) for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return sheet.enlarge_pixels(picture[top : top + height, left : left + width], COLUMN)


def caption(task: Task) -> str:
    """At most as long as a column is wide."""
    name = task.model.name.removesuffix(f"_{task.framework}")
    return f"{name[:28]} {task.framework}" if task.model.path else "bicubic"


def check_names(tasks: list[Task]) -> None:
    """Raise UserError if two of them would write the same picture."""
    first: dict[Path, Task] = {}
    for task in tasks:
        other = first.setdefault(task.output, task)
        if other is not task:
            raise UserError(
                f"the models '{other.model.name}' and '{task.model.name}' would both write {task.output}: "
                "name one of them only, or rename a file"
            )


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Enlarge one picture with all models.")
    parser.add_argument("--input", "-i", required=True, type=Path)
    demo_plan.add_size_arguments(parser)
    trained.add_arguments(parser)
    parser.add_argument("--output", type=Path, default=WORK / "demo_result", help="folder (default: demo_result/)")
    jobs.add_arguments(parser)
    arguments = parser.parse_args()
    pool = jobs.Pool(jobs.gpu_list(arguments.gpu))
    image = imaging.read_image(arguments.input)
    height, width = demo_plan.output_size(image.shape[:2], arguments)
    picture = provenance.sha256(arguments.input)
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
    finished = Finished(arguments.output)
    lines: list[str] = []

    def work(task: Task, place: str | None) -> jobs.Result:
        cells = [task.model.name, task.framework, task.output.name]
        origin = task.origin(picture, height, width)
        if finished.holds(task.output, origin):
            return jobs.Result(cells, "skipped")
        if task.model.path is None:
            if not arguments.dry_run:
                imaging.write_image(task.output, imaging.resize(image, height, width))
                finished.add(task.output, origin)
            return jobs.Result(cells, "would make" if arguments.dry_run else "done")
        command = [*jobs.script(task.framework, "demo"), "--input", str(arguments.input), "--model"]
        command += [str(task.model.path), "--resolution", f"{height},{width}", "--output", str(task.output)]
        command += ["--overwrite"]
        if arguments.dry_run:
            print(" ".join([*command, *(["--gpu", place] if place else [])]))
            return jobs.Result(cells, "would make")
        print(f"\n{task.model.name} in {task.framework}", flush=True)
        status, last_lines = pool.run(command, place, task.output.stem)
        if status == 0:
            finished.add(task.output, origin)
        lines.append(f"{task.output.name}: {last_lines[-1] if last_lines else ''} (exit status {status})")
        return jobs.Result(cells, jobs.state_of(status, pool.stopping), last_lines)

    started = time.time()
    results = pool.map(work, tasks)
    status = jobs.finish(pool, HEADER, results, started)
    if arguments.dry_run:
        return status
    shown = [task for task in tasks if finished.holds(task.output, task.origin(picture, height, width))]
    pictures = [(caption(task), middle(imaging.read_image(task.output))) for task in shown]
    imaging.write_image(arguments.output / "sheet.png", sheet.sheet(pictures, columns=4))
    head = (
        f"{time.strftime('%Y-%m-%d %H:%M:%S')} {arguments.input} {image.shape[0]}x{image.shape[1]} -> {height}x{width}"
    )
    states = [f"{' '.join(result.cells)}: {result.state}" for result in results if result is not None]
    with open(arguments.output / "log.txt", "a") as log:
        log.write("\n".join([head, *states, *lines, ""]) + "\n")
    print(f"look at {arguments.output / 'sheet.png'}")
    return status


if __name__ == "__main__":
    jobs.exit_with(main)

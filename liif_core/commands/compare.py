"""The command of scripts/compare_methods.py: methods beside each other in a table and in a figure of details.

    python scripts/compare_methods.py --models LIIF=pretrained/edsr-baseline-liif_bsds400.safetensors bicubic
        --sets Set5 Set14 B100 --scale 4 --frameworks both --output save/compared

Into --output go table.md and table.csv, details.png and page.html, and below scores/ and images/ what they are made
of: what is there of the same weights is not measured again.
"""

import argparse
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from liif_core.config.protocol import number
from liif_core.errors import UserError
from liif_core.evaluation import metrics
from liif_core.experiments import compared, jobs
from liif_core.experiments.batch_test import brief
from liif_core.experiments.compared import METRICS, Task, TestSet
from liif_core.images import rgb8
from liif_core.report.experiments_folder import FRAMEWORKS
from liif_core.report.score_tables import set_title
from liif_core.report.tables import Table, markdown
from liif_core.system import packages
from liif_core.system.arguments import Parser
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import INSTALLED, WORK

HEADER = ["method", "framework", "sets", "measured now"]


def _arguments() -> argparse.Namespace:
    parser = Parser(description="Lay methods side by side: a table, and a figure of details.")
    model_help = "NAME=CHECKPOINT, CHECKPOINT or bicubic (which is always there)"
    parser.add_argument("--models", nargs="+", required=True, metavar="MODEL", help=model_help)
    config_help = "of which model bare weights are"
    parser.add_argument("--model-config", nargs="+", default=[], metavar="NAME=CONFIG", help=config_help)
    sets_help = "names of configs/test, like Set5, or test configs (default: Set5)"
    parser.add_argument("--sets", nargs="+", default=["Set5"], metavar="SET", help=sets_help)
    parser.add_argument("--scale", type=float, default=4, metavar="S", help="the factor (default: 4)")
    choices = [*packages.FRAMEWORKS, "both"]
    parser.add_argument("--frameworks", choices=choices, default="torch", help="which measure (default: torch)")
    parser.add_argument("--metrics", nargs="+", default=[], metavar="NAME", help="more of them; see `liif metrics`")
    boxes_help = "SET/IMAGE:top,left,height,width of details (default: where methods differ most)"
    parser.add_argument("--boxes", nargs="+", default=[], metavar="BOX", help=boxes_help)
    parser.add_argument("--details", type=int, default=4, metavar="N", help="how many, without --boxes (default: 4)")
    parser.add_argument("--output", type=Path, default=WORK / "save" / "compared", help="folder (save/compared)")
    keep_help = "copy table, figure and means into results/, from which report.py --readme writes documents"
    parser.add_argument("--keep", action="store_true", help=keep_help)
    jobs.add_arguments(parser)
    return parser.parse_args()


def _tasks(arguments: argparse.Namespace, sets: list[TestSet]) -> list[Task]:
    """In the order of the table; the first framework keeps the images of the figure."""
    measured = tuple(dict.fromkeys([*METRICS, *arguments.metrics]))
    metrics.find(measured)
    found = []
    for method in compared.methods(arguments.models, arguments.scale, arguments.model_config):
        for place, framework in enumerate(method.frameworks(arguments.frameworks)):
            found.append(Task(method, framework, tuple(sets), measured, arguments.output, place == 0))
    return found


def main() -> int:
    """Returns the exit status."""
    arguments = _arguments()
    if arguments.details < 1:
        raise UserError(f"--details: expected 1 or more, got {arguments.details}")
    if INSTALLED and arguments.keep:
        raise UserError("--keep: results/ is not part of what pip installs; run this in the repository")
    from liif_core.report import details, methods, readme

    pool = jobs.Pool(jobs.gpu_list(arguments.gpu))
    sets = compared.find_sets(arguments.sets, number(arguments.scale))
    boxes = [details.read_box(text, sets) for text in arguments.boxes]
    tasks = _tasks(arguments, sets)
    if not arguments.dry_run:
        check_writable(arguments.output / "page.html")
    started = time.time()
    results, errors = _measure(tasks, pool, arguments.dry_run)
    status = jobs.finish(pool, HEADER, results, started)
    if arguments.dry_run or pool.stopping:
        return status
    shown = [task for task in tasks if task.keeps_images and not task.missing()]
    if shown:
        _write(arguments.output, tasks, shown, sets, boxes or details.choose(shown, sets, arguments.details))
        if arguments.keep:
            methods.keep(tasks, arguments.output, readme.RESULTS / arguments.output.resolve().name)
    if errors:
        raise UserError("; ".join(errors))
    return status


def _measure(tasks: list[Task], pool: jobs.Pool, dry_run: bool) -> tuple[list[jobs.Result | None], list[str]]:
    """Measure what is missing; the results, and the sentences of what users can put right."""
    errors: list[str] = []
    waiting = {task.title: task.missing() for task in tasks}
    total = sum(len(test_set.pairs) for missing in waiting.values() for test_set in missing)
    with tqdm(total=0 if dry_run else total, unit="image", leave=False, disable=None) as bar:

        def work(task: Task, device: str | None) -> jobs.Result:
            missing = waiting[task.title]
            cells = [task.method.name, task.framework, str(len(task.sets)), str(len(missing))]
            if not missing:
                return jobs.Result(cells, "skipped")
            if dry_run:
                print(" ".join([*task.command(missing), *(["--gpu", device] if device else [])]))
                return jobs.Result(cells, "would test")
            tqdm.write(f"{task.method.name} in {task.framework}: {', '.join(set_title(one.name) for one in missing)}")
            bar.set_description(task.title)
            task.forget(missing)
            show = brief if bar.disable else lambda line: None
            status, lines = pool.run(task.command(missing), device, task.title, show, _counting(bar))
            left = task.missing()
            cells[3] = str(len(missing) - len(left))
            if status == 2 and lines:
                errors.append(f"{task.title}: {lines[-1].removeprefix('error: ')}")
            return jobs.Result(cells, jobs.state_of(status or int(bool(left)), pool.stopping), lines)

        return pool.map(work, tasks), errors


def _counting(bar: tqdm) -> Callable[[str], None]:
    """A listener to test.py that moves the bar by one for every image's row."""

    def listen(line: str) -> None:
        if re.search(r" \d+x\d+ +[-\d.]", line):
            bar.update()

    return listen


def _write(output: Path, tasks: Sequence[Task], shown: Sequence[Task], sets: Sequence[TestSet], boxes: list) -> None:
    """Tables, figure and page. shown: the tasks whose images are."""
    from liif_core.report import details, methods, methods_page

    found = methods.records(tasks, sets)
    tables: list[Table] = [methods.table(found)]
    for test_set in sets:
        unstated = [one for one in found if one.test_set == test_set.name and methods.UNSTATED in one.values]
        if unstated:
            tables.append(methods.closest(unstated, methods.variants(shown, test_set)))
    rows = {box: list(details.details(box, shown)) for box in boxes}
    text = "\n\n".join(f"**{table.title}**\n\n{markdown(table)}" for table in tables) + "\n"
    write_atomically(output / "table.md", text.encode())
    write_atomically(output / "table.csv", methods.as_csv(found).encode())
    if rows:
        rgb8.write_image(output / "details.png", details.figure(rows))
    else:
        (output / "details.png").unlink(missing_ok=True)
    framework = next((FRAMEWORKS[task.framework] for task in shown if task.framework in FRAMEWORKS), "neither")
    write_atomically(output / "page.html", methods_page.render(tables, rows, framework).encode())
    print("\n".join(str(box) for box in boxes))
    print(f"{output / 'page.html'}, and details.png, table.md and table.csv beside it")

"""Test all models on all test sets, and write one table.

    python scripts/batch_test_simple.py --save-dir save/bsds400
    python scripts/batch_test_simple.py --models pretrained/*.safetensors bicubic
        --configs "test/test-set5-*.yaml" --scales 1.5 2.5 3.5

Of every run folder the best checkpoint is tested, else the last one, and bicubic beside them. What has been
measured with the same weights is skipped. The rows of each test are kept as JSON, under results/ in the run
folder or under --output for single files; their means are gathered in scores.csv.
"""

import csv
import io
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from liif_core.config import load as configs
from liif_core.config import protocol
from liif_core.data.check import make_uncached
from liif_core.errors import UserError
from liif_core.experiments import jobs, trained
from liif_core.experiments.scores import COLUMNS, is_of, is_usual, read_report
from liif_core.system.arguments import Parser
from liif_core.system.files import write_atomically
from liif_core.system.places import SHIPPED, expand

HEADER = ["model", "framework", "tests", "measured now"]


@dataclass
class Task:
    """One model in one framework, with the sets that it is tested on."""

    model: trained.Model
    framework: str
    tests: list[str]

    @property
    def folder(self) -> Path:
        return self.model.results / self.framework

    def report(self, test: str) -> dict | None:
        """What was measured on a set with these weights, None if nothing was."""
        path = self.folder / f"{Path(test).stem}.json"
        try:
            found = read_report(path)
        except (OSError, UserError):
            return None
        same = found.get("weights") == self.model.weights and is_of(found, test)
        return found if same and is_usual(found) else None

    def missing(self) -> list[str]:
        """The sets that are still to be measured."""
        return [test for test in self.tests if self.report(test) is None]

    def command(self, tests: list[str]) -> list[str]:
        """test.py's, without --gpu."""
        model = str(self.model.path or trained.BICUBIC)
        script = jobs.script(trained.scripts_tree(self.framework), "test")
        return [*script, "--model", model, "--json", str(self.folder), "--config", *tests]


def find_tests(patterns: list[str] | None, scales: list[float] | None = None) -> tuple[list[str], dict[str, str]]:
    """Test configs, and of those that cannot be run what is wrong.

    Without patterns: all of configs/test whose folders exist; the others are named and no complaint. scales: of those
    the ones with such a protocol; without, the whole scales of configs/test, or all that the patterns name.
    """
    found: list[Path] = []
    for pattern in patterns or ["test/*.yaml"]:
        pattern = expand(pattern).removeprefix("configs/")
        matches = sorted((SHIPPED / "configs").glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        if not matches:
            raise UserError(f"--configs '{pattern}': no such file in {SHIPPED / 'configs'}, like test/test-set5-*.yaml")
        found += [match for match in matches if match not in found]
    good: list[str] = []
    left_out: list[str] = []
    complaints: dict[str, str] = {}
    tests = {path: configs.load(path, "test") for path in found}
    scale_of = {path: protocol.scale_of(config.eval_type) for path, config in tests.items()}
    known = {scale for scale in scale_of.values() if scale}
    if absent := set(scales or ()) - known:
        there = ", ".join(f"{scale:g}" for scale in sorted(known))
        raise UserError(f"--scales {' '.join(f'{scale:g}' for scale in sorted(absent))}: there are tests at {there}")
    for path, config in tests.items():
        if scale_of[path] not in scales if scales else not patterns and isinstance(scale_of[path], float):
            continue
        name = str(path.relative_to(SHIPPED / "configs")) if path.is_relative_to(SHIPPED / "configs") else str(path)
        try:
            for key, value in config.test_dataset.dataset.args.items():
                if value is not None and (key.startswith("root_path") or key == "split_file"):
                    configs.locate_data(value)
        except UserError as error:
            if patterns is None:
                left_out.append(path.stem)
            else:
                complaints[name] = str(error)
            continue
        try:
            make_uncached(config.test_dataset, False, config.eval_type)
            good.append(name)
        except UserError as error:
            complaints[name] = str(error)
    if left_out:
        print(f"left out, their data is not here: {', '.join(left_out)}")
    return good, complaints


def brief(line: str) -> str | None:
    """Of test.py's output what LIIF's scripts show: the set, the scale, the result."""
    if ", protocol " in line:
        name, _, scale = Path(line.partition(", protocol ")[0]).stem.rpartition("-")
        return f"{name.removeprefix('test-')} x{scale}"
    return line if line.startswith(("result:", "error:")) else None


def measure(task: Task, pool: jobs.Pool, device: str | None, show: Callable[[str], str | None] | None) -> list[str]:
    """Test a model on what is missing, past the sets that break; returns the last lines of what failed."""
    failures: list[str] = []
    announced: list[str] = []

    def listen(line: str) -> None:
        announced.extend([line] if ", protocol " in line else [])

    missing = task.missing()
    while missing and not pool.stopping:
        announced.clear()
        status, lines = pool.run(task.command(missing), device, f"{task.model.name} {task.framework}", show, listen)
        left = [test for test in missing if task.report(test) is None]
        if status:  # it ended at the first that is left; the others get their turn
            failures += [f"{left[0]}:", *lines[-2:]] if left else lines[-2:]
            if not announced:  # it came to no set at all: the model itself does not load
                break
        elif left:
            failures.append(f"{task.model.path} became another file meanwhile: begin again when its training is over")
        missing = left[1:] if status else []
    return failures


def write_scores(folder: Path, models: list[trained.Model]) -> int:
    """Gather in scores.csv what is below an experiments folder or --output; of `models` only what these weights
    reached.

    Returns how many files are damaged; each of them is named.
    """
    rows = []
    damaged = 0
    for file in sorted(folder.glob("*/**/*.json")):
        try:
            found = read_report(file)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            damaged += 1
            continue
        if "psnr" not in found or not is_usual(found):
            continue
        model = next((model for model in models if file.is_relative_to(model.results)), None)
        if model is None:
            model = trained.by_name(file.relative_to(folder).parts[0], folder)
        elif found.get("weights") != model.weights:
            continue
        names = {"model": model.name, "experiment": model.experiment, "checkpoint": model.checkpoint}
        rows.append({key: found.get(key) for key in COLUMNS} | names)
    if not rows:
        return damaged
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "scores.csv", text.getvalue().encode())
    print(f"{len(rows)} means in {folder / 'scores.csv'}")
    return damaged


def main() -> int:
    """Returns the exit status."""
    parser = Parser(description="Test all models on all test sets.")
    trained.add_arguments(parser)
    parser.add_argument(
        "--configs", nargs="+", metavar="PATTERN", help="below configs/ (default: test/*.yaml with data)"
    )
    scales_help = "of the configs those at such scales, like 1.5 2.5 3.5 (default: the whole ones)"
    parser.add_argument("--scales", nargs="+", type=float, metavar="S", help=scales_help)
    parser.add_argument("--output", type=Path, default=trained.default_output(), help="for --models (save/scores)")
    parser.add_argument("--brief", action="store_true", help="show only sets and results, as LIIF's scripts do")
    jobs.add_arguments(parser)
    arguments = parser.parse_args()
    pool = jobs.Pool(jobs.gpu_list(arguments.gpu))
    models = trained.collect(arguments.save_dir, arguments.models, arguments.output)
    tests, complaints = find_tests(arguments.configs, arguments.scales)
    for model in models:
        if model.trained_in and model.path:
            print(f"{model.name}: {model.path.name}")
    tasks = [
        Task(model, framework, model.at_its_scale(tests))
        for model in models
        for framework in model.frameworks(arguments.frameworks)
    ]

    def work(task: Task, device: str | None) -> jobs.Result:
        missing = task.missing()
        cells = [task.model.name, task.framework, str(len(task.tests)), str(len(missing))]
        if arguments.brief:
            for test, report in ((test, task.report(test)) for test in task.tests if test not in missing):
                psnr = report and report["psnr"]  # null where it is infinite: JSON has no infinity
                print(brief(f"on {test}, protocol "), f"result: {math.inf if psnr is None else psnr:.4f}", sep="\n")
        if not missing:
            return jobs.Result(cells, "skipped")
        print(f"\n{task.model.name} in {task.framework}: {len(missing)} of {len(task.tests)} sets", flush=True)
        if arguments.dry_run:
            print(" ".join([*task.command(missing), *(["--gpu", device] if device else [])]))
            return jobs.Result(cells, "would test")
        last_lines = measure(task, pool, device, brief if arguments.brief else None)
        cells[3] = str(len(missing) - len(task.missing()))
        complete = not task.missing() and not last_lines
        return jobs.Result(cells, jobs.state_of(0 if complete else 1, pool.stopping), last_lines)

    started = time.time()
    results = pool.map(work, tasks) if tests else []
    results += [jobs.Result([test, "-", "1", "0"], "failed", [text]) for test, text in complaints.items()]
    status = jobs.finish(pool, HEADER, results, started)
    if not arguments.dry_run:
        folders = filter(None, [arguments.save_dir, arguments.output if arguments.models else None])
        damaged = sum(write_scores(folder, models) for folder in folders)
        status = status or int(damaged > 0)
    return status

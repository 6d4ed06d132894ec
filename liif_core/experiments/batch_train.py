"""Train the runs of a recipe one after the other; batch_0.sh calls this.

    bash batch_0.sh --recipe bsds400 --only paper --gpu 0
    bash batch_0.sh --recipe div2k-100 --framework both --gpu 0,1 --dry-run

What is finished is skipped, what was stopped goes on, a failure does not end the others. Each experiment gets
the run folder <save-dir>/<experiment>_<framework>.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from liif_core.config import load as configs
from liif_core.errors import UserError
from liif_core.experiments import jobs, listed
from liif_core.system import packages, text
from liif_core.system.arguments import Parser
from liif_core.system.files import look
from liif_core.system.places import WORK
from liif_core.training import run_folder, runlog, start

HEADER = ["experiment", "framework", "best PSNR", "time"]
WORDS = {"new": "train", "unfinished": "go on with", "finished": "skip"}


@dataclass
class Task:
    """One experiment in one framework, and what train.py is called with.

    first: the folders of runs that it may start from, which must have ended.
    """

    experiment: listed.Experiment
    framework: str
    folder: Path
    config: Path
    changes: list[str]
    first: list[Path] = field(default_factory=list)

    def command(self) -> list[str]:
        """train.py's, without --gpu."""
        place = ["--name", self.folder.name, "--save-dir", str(self.folder.parent), "--resume", "auto"]
        changes = ["--set", *self.changes] if self.changes else []
        return [*jobs.script(self.framework, "train"), "--config", str(self.config), *place, *changes]

    def state(self) -> str:
        """new, unfinished or finished. Raises UserError if the run folder was made with another config."""
        if look(self.folder) is None:
            return "new"
        found = run_folder.last_checkpoint(self.folder)
        if found is None:
            return "unfinished"
        config = configs.load(self.config, "train", self.changes)
        run_folder.check_unchanged(self.folder, config)
        return "finished" if found[1].progress["epoch"] > config.epoch_max else "unfinished"

    def result(self, state: str, last_lines: list[str] | None = None) -> jobs.Result:
        """With the best PSNR and the time of all epochs from the run's log."""
        log = self.folder / "metrics.jsonl"
        found = runlog.read_metrics(log) if os.path.exists(log) else ()
        records = [record for _, record in found if "train_loss" in record]
        best = max((record["val_psnr"] for record in records if "val_psnr" in record), default=None)
        seconds = sum(record.get("seconds", 0) for record in records)
        cells = [self.experiment.name, self.framework, f"{best:.4f}" if best is not None else "-"]
        return jobs.Result([*cells, text.duration(seconds) if records else "-"], state, last_lines or [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is to be trained; scripts/sweep.py asks the same."""
    parser.add_argument("--recipe", default="div2k", help=f"{', '.join(listed.recipes())} (default: div2k)")
    parser.add_argument("--only", help="experiments or groups of configs/experiments.txt, with commas between")
    parser.add_argument("--framework", choices=[*packages.FRAMEWORKS, "both"], default="torch")
    parser.add_argument("--save-dir", type=Path, help="where run folders go (default: save/<recipe>)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="as for train.py")


def tasks(arguments: argparse.Namespace) -> list[Task]:
    """What is asked for, in the order of configs/experiments.txt. Raises UserError for a wrong config."""
    frameworks = packages.FRAMEWORKS if arguments.framework == "both" else [arguments.framework]
    folder = arguments.save_dir or WORK / "save" / arguments.recipe
    found = [
        Task(e, framework, folder / f"{e.name}_{framework}", e.config_in(arguments.recipe), arguments.set)
        for e in listed.select(arguments.recipe, arguments.only)
        for framework in frameworks
    ]
    for task in found:
        config = configs.load(task.config, "train", task.changes)  # what is misspelt is an error now
        task.first = start.runs(task.folder, config.start_from) if config.start_from else []
    return found


def parents(task: Task, todo: Sequence[Task]) -> list[Task]:
    """Those among the tasks whose weights another one starts from."""
    return [other for other in todo if other.folder in task.first]


def begin(task: Task, command: Sequence[str], where: str, dry_run: bool) -> jobs.Result | None:
    """Say what becomes of a task; the result if its command is not to be run, None if it is."""
    try:
        state = task.state()
    except UserError as error:
        print(f"{task.folder.name}: {error}", flush=True)
        return task.result("failed", [str(error)])
    print(f"\n{WORDS[state]} {task.folder.name}{where}", flush=True)
    if state == "finished":
        return task.result("skipped")
    if dry_run:
        print(" ".join(command))
        return task.result(f"would {WORDS[state]}")
    return None


def main() -> int:
    """Returns the exit status."""
    parser = Parser(description="Train the runs of a recipe.")
    add_arguments(parser)
    jobs.add_arguments(parser)
    arguments = parser.parse_args()
    pool = jobs.Pool(jobs.gpu_list(arguments.gpu))
    todo = tasks(arguments)

    def work(task: Task, device: str | None) -> jobs.Result:
        command = [*task.command(), *(["--gpu", device] if device else [])]
        result = begin(task, command, f" on {device}" if device else "", arguments.dry_run)
        if result is not None:
            return result
        status, last_lines = pool.run(task.command(), device, task.folder.name)
        return task.result(jobs.state_of(status, pool.stopping), last_lines)

    started = time.time()
    return jobs.finish(pool, HEADER, pool.map(work, todo, lambda task: parents(task, todo)), started)

"""A study on the disk: run folders with their logs and configs, and scores.csv with what they reached."""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liif_core import config as configs
from liif_core import experiments
from liif_core.errors import UserError
from liif_core.report.reference import data_set

FRAMEWORKS = {"torch": "PyTorch", "jittor": "Jittor"}
COLUMNS = "model experiment framework config dataset scale protocol psnr ssim pictures weights commit".split()


@dataclass(frozen=True)
class Score:
    """A line of scores.csv: the mean of one model, measured in one framework, on one test set.

    psnr is in dB and None where it is infinite; weights is the SHA-256 of the file, empty for bicubic.
    """

    model: str
    experiment: str
    framework: str
    config: str
    dataset: str
    scale: int | None
    protocol: str
    psnr: float | None
    ssim: float
    pictures: int
    weights: str
    commit: str

    @property
    def trained_in(self) -> str | None:
        """The framework that trained the model, by its run folder's name; None for a single file and bicubic."""
        name = self.model.removesuffix(".safetensors").rstrip("/").rsplit("/", 1)[-1]
        found = re.search(r"_(torch|jittor)$", name)
        return found[1] if found else None


@dataclass(frozen=True)
class Run:
    """A training run: its config as given, and the epoch records of its metrics.jsonl."""

    experiment: str
    framework: str
    config: dict[str, Any]
    epochs: list[dict[str, Any]]

    @property
    def data(self) -> str:
        """The folder of the training pictures, without where it lies."""
        return Path(self.config["train_dataset"]["dataset"]["args"]["root_path"]).name

    @property
    def steps(self) -> int:
        """Steps of all epochs that were finished."""
        return self.epochs[-1]["step"] if self.epochs else 0

    def validated(self) -> list[dict[str, Any]]:
        """The epochs after which there was a validation."""
        return [record for record in self.epochs if record.get("val_psnr") is not None]


@dataclass(frozen=True)
class Study:
    """What one folder holds. Runs stand in the order of configs/experiments.txt, PyTorch's first, others last."""

    folder: Path
    runs: list[Run]
    scores: list[Score]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name


def load(folder: Path) -> Study:
    """Read a study. Raises UserError for a folder that is none, and for a file in it that cannot be read."""
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: a study is what batch_0.sh leaves, for example save/bsds400")
    order = [experiment.name for experiment in experiments.read()]
    runs = [_run(path) for path in folder.glob("*") if _is_run(path)]
    runs.sort(
        key=lambda run: (
            [*order, run.experiment].index(run.experiment),
            run.experiment,
            list(FRAMEWORKS).index(run.framework),
        )
    )
    scores = read_scores(folder / "scores.csv") if (folder / "scores.csv").exists() else []
    if not runs and not scores:
        raise UserError(
            f"{folder} holds no study: run folders called EXPERIMENT_torch or EXPERIMENT_jittor, or a scores.csv"
        )
    return Study(folder, runs, scores)


def _is_run(folder: Path) -> bool:
    named = folder.name.endswith(tuple(f"_{framework}" for framework in FRAMEWORKS))
    return named and (folder / "metrics.jsonl").is_file() and (folder / "config.yaml").is_file()


def _run(folder: Path) -> Run:
    experiment, framework = folder.name.rsplit("_", 1)
    epochs: dict[int, dict] = {}
    path = folder / "metrics.jsonl"
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break  # being written at this moment
        try:
            record = json.loads(line)
        except ValueError:
            raise UserError(f"{path}, line {number}: not JSON; `train.py --resume` mends it") from None
        if "train_loss" in record:
            epochs[record["epoch"]] = record
    return Run(experiment, framework, configs.read_yaml(folder / "config.yaml"), [epochs[e] for e in sorted(epochs)])


def read_scores(path: Path) -> list[Score]:
    """The lines of a scores.csv as batch_test_simple.py writes it."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{path}: no column {', '.join(missing)}; batch_test_simple.py writes what is wanted")
            return [_score(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _score(row: dict[str, str], place: str) -> Score:
    try:
        return Score(
            model=row["model"],
            experiment=row["experiment"] or row["model"],
            framework=row["framework"],
            config=row["config"],
            dataset=data_set(row["dataset"]) or Path(row["config"]).stem,
            scale=int(row["scale"]) if row["scale"] else None,
            protocol=row["protocol"] or "RGB, no border",
            psnr=float(row["psnr"]) if row["psnr"] else None,
            ssim=float(row["ssim"]),
            pictures=int(row["pictures"]),
            weights=row["weights"] or "",
            commit=row["commit"] or "",
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"{place}: {error}; batch_test_simple.py writes what is wanted") from None

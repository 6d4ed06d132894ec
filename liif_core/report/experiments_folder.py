"""An experiments folder: run folders with their logs and configs, and scores.csv with what they reached."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liif_core.config import load as configs
from liif_core.config.protocol import number
from liif_core.errors import UserError
from liif_core.experiments import listed
from liif_core.experiments.scores import COLUMNS
from liif_core.report import reference
from liif_core.system.files import is_file, is_folder
from liif_core.training.runlog import read_metrics

FRAMEWORKS = {"torch": "PyTorch", "jittor": "Jittor"}
LOSSES = {"l1": "L1", "l2": "L2", "mse": "MSE", "charbonnier": "Charbonnier"}


@dataclass(frozen=True)
class Score:
    """A line of scores.csv: the mean of one model, measured in one framework, on one test set.

    scale is an int where it is whole. psnr is in dB and None where it is infinite; weights is the SHA-256 of the file,
    empty for bicubic; checkpoint is best, last or a file's name, empty for bicubic and where the file says nothing of
    it.
    """

    model: str
    experiment: str
    framework: str
    config: str
    dataset: str
    scale: float | None
    protocol: str
    psnr: float | None
    ssim: float
    images: int
    weights: str
    commit: str
    checkpoint: str = ""

    @property
    def gap(self) -> float | None:
        """PSNR less the published one in dB; None without either, and where that has another protocol."""
        if self.psnr is None or self.scale is None:
            return None
        paper = reference.published(self.dataset, self.experiment, self.scale)
        same = reference.same_protocol(self.dataset, self.scale, self.protocol)
        return self.psnr - paper if paper is not None and same else None

    @property
    def trained_in(self) -> str | None:
        """The framework that trained the model, by its run folder's name; None for a single file and bicubic."""
        framework = self.model.rpartition("_")[2]
        # Single files have their own name there, whatever it ends with; "" is of files from before the column.
        return framework if framework in FRAMEWORKS and self.checkpoint in ("best", "last", "") else None


@dataclass(frozen=True)
class Run:
    """A training run: its config with all defaults, and the epoch records of its metrics.jsonl."""

    experiment: str
    framework: str
    config: dict[str, Any]
    epochs: list[dict[str, Any]]

    @property
    def data(self) -> str:
        """The folder of the training images below load/, of pairs the high resolution's; elsewhere its name alone."""
        found = self.config["train_dataset"]["dataset"]["args"]
        parts = Path(found["root_path_2"] if "root_path_2" in found else found["root_path"]).parts
        below = parts[len(parts) - parts[::-1].index("load") :] if "load" in parts else ()
        return "/".join(below or parts[-1:])

    @property
    def on_div2k(self) -> bool:
        """Whether the training images are DIV2K's, as the predecessor's were."""
        return "div2k" in self.data.lower()

    @property
    def epochs_done(self) -> int:
        """The last epoch that was finished; with those of a run whose checkpoint this one began from."""
        return self.epochs[-1]["epoch"] if self.epochs else 0

    @property
    def steps(self) -> int:
        """Steps of all these epochs."""
        return self.epochs[-1]["step"] if self.epochs else 0

    @property
    def origin(self) -> str:
        """What the run did not learn itself, to be put behind the rest: ", from a.safetensors"; empty for most."""
        source = self.config.get("resume") or self.config.get("start_from")
        return f", from {Path(source).name}" if source else ""

    @property
    def loss(self) -> str:
        """What was minimised: "L1"; empty for a sum of several losses."""
        method = {"name": "regression", "args": {}} | (self.config.get("method") or {})
        return LOSSES.get(method["args"].get("loss", "l1"), "") if method["name"] != "adversarial" else ""

    def validated(self) -> list[dict[str, Any]]:
        """The epochs after which there was a validation."""
        return [record for record in self.epochs if record.get("val_psnr") is not None]


@dataclass(frozen=True)
class ExperimentsFolder:
    """What one folder holds. Runs are in the order of configs/experiments.txt, PyTorch's first, others last."""

    folder: Path
    runs: list[Run]
    scores: list[Score]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name


def load(folder: Path) -> ExperimentsFolder:
    """Read an experiments folder. Raises UserError for a folder that is none, and for a file in it that cannot be
    read."""
    if not is_folder(folder):
        raise UserError(f"no folder {folder}: expected one that batch_0.sh filled, for example save/bsds400")
    order = [experiment.name for experiment in listed.read()]
    _name_what_is_left_out(folder)
    runs = [_run(path) for path in folder.glob("*") if _is_run(path)]
    runs.sort(
        key=lambda run: (
            [*order, run.experiment].index(run.experiment),
            run.experiment,
            list(FRAMEWORKS).index(run.framework),
        )
    )
    scores = read_scores(folder / "scores.csv") if is_file(folder / "scores.csv") else []
    if not runs and not scores:
        raise UserError(
            f"{folder} holds no experiments: run folders called EXPERIMENT_torch or EXPERIMENT_jittor, or a scores.csv"
        )
    return ExperimentsFolder(folder, runs, scores)


def below(folder: Path) -> list[Path]:
    """A folder and those in it, of them what has run folders or a scores.csv."""
    found = []
    for path in [folder, *sorted(folder.glob("*"))]:
        if is_file(path / "scores.csv") or any(map(_is_run, path.glob("*"))):
            found.append(path)
        else:
            _name_what_is_left_out(path)
    return found


def _name_what_is_left_out(folder: Path) -> None:
    for path in sorted(path.parent for path in folder.glob("*/config.yaml")):
        if not _is_run(path):
            print(f"left out: {path} is not called EXPERIMENT_torch or EXPERIMENT_jittor, or has no metrics.jsonl yet")


def _is_run(folder: Path) -> bool:
    named = folder.name.endswith(tuple(f"_{framework}" for framework in FRAMEWORKS))
    return named and is_file(folder / "metrics.jsonl") and is_file(folder / "config.yaml")


def _run(folder: Path) -> Run:
    experiment, framework = folder.name.rsplit("_", 1)
    records = [record for _, record in read_metrics(folder / "metrics.jsonl")]
    epochs = {record["epoch"]: record for record in records if "train_loss" in record}
    config = configs.load(folder / "config.yaml", "train").model_dump()
    return Run(experiment, framework, config, [epochs[epoch] for epoch in sorted(epochs)])


def read_scores(path: Path) -> list[Score]:
    """The lines of a scores.csv as batch_test_simple.py writes it.

    Raises UserError for a file that is none, and where two scores of one model on one test set differ.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            # `images` was called `pictures` before.
            reader.fieldnames = [{"pictures": "images"}.get(name, name) for name in reader.fieldnames or ()]
            missing = [column for column in COLUMNS if column not in ("checkpoint", *reader.fieldnames)]
            if missing:
                raise UserError(
                    f"{path}: no column {', '.join(missing)}: expected a file that batch_test_simple.py wrote"
                )
            scores = [_score(row, f"{path}, line {reader.line_num}") for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    seen: dict[tuple, Score] = {}
    for score in scores:
        first = seen.setdefault((score.model, score.framework, score.dataset, score.scale), score)
        if (first.psnr, first.ssim, first.protocol) != (score.psnr, score.ssim, score.protocol):
            place = f"{score.model} in {score.framework} on {score.dataset} x{score.scale}"
            raise UserError(f"{path}: two scores of {place}, by {first.config} and {score.config}: keep one of them")
    return scores


def _score(row: dict[str, str], where: str) -> Score:
    try:
        return Score(
            model=row["model"],
            experiment=row["experiment"] or row["model"],
            framework=row["framework"],
            config=row["config"],
            dataset=reference.data_set(row["dataset"]) or Path(row["config"]).stem,
            scale=number(float(row["scale"])) if row["scale"] else None,
            protocol=row["protocol"] or "RGB, no border",
            psnr=float(row["psnr"]) if row["psnr"] else None,
            ssim=float(row["ssim"]),
            images=int(row["images"]),
            weights=row["weights"] or "",
            commit=row["commit"] or "",
            checkpoint=row.get("checkpoint") or "",
        )
    except (ValueError, TypeError) as error:
        raise UserError(f"{where}: {error}: expected a file that batch_test_simple.py wrote") from None

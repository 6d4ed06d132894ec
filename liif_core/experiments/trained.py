"""The models that the batch scripts test and show: those of an experiments folder's run folders, single files, and
bicubic."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from liif_core.checkpoints import formats
from liif_core.config import load as configs
from liif_core.config import protocol
from liif_core.config.factor import factor_of
from liif_core.errors import UserError
from liif_core.experiments import listed
from liif_core.system import packages, provenance
from liif_core.system.files import is_file, is_folder
from liif_core.system.places import WORK

BICUBIC = "bicubic"
DENOISERS = ("sr3-unet", "ddpm-unet")  # whose `scale` is absent where there is nothing to upscale


@dataclass(frozen=True)
class Model:
    """name: the run folder's, the file's without its ending, or bicubic. experiment: as in configs/experiments.txt,
    empty for a foreign file. path: the checkpoint, None for bicubic. trained_in: torch, jittor or None.
    results: where its scores go, a folder per framework.
    """

    name: str
    experiment: str
    path: Path | None
    trained_in: str | None
    results: Path

    @functools.cached_property
    def weights(self) -> str | None:
        """SHA-256 of the checkpoint, None for bicubic."""
        return provenance.sha256(self.path) if self.path else None

    @functools.cached_property
    def spec(self) -> dict:
        """Its model's, as far as its checkpoint says it; empty for bicubic."""
        try:
            return formats.load(self.path).model if self.path else {}
        except UserError:  # test.py says what is wrong
            return {}

    @property
    def scale(self) -> int | None:
        """The factor of a model that has no other."""
        return factor_of(self.spec)

    def at_its_scale(self, tests: list[str]) -> list[str]:
        """Of a model of one factor the tests at that factor; of one that makes images of noise alone none; of others
        all."""
        if self.scale is None:
            return [] if self.spec.get("name") in DENOISERS else tests
        return [test for test in tests if _scale_of(test) in (None, self.scale)]

    @property
    def checkpoint(self) -> str:
        """best or last of a run's, the file's name without its ending of others, empty for bicubic."""
        if self.name == BICUBIC:
            return ""
        return re.sub(r"^(.*_)?epoch-", "", self.path.stem if self.path else self.name)

    def frameworks(self, choice: str) -> list[str]:
        """In which to run it: `choice` is own, torch, jittor or both; own is both where it was not trained here."""
        if self.path is None:
            return ["pillow"]
        if choice == "own":
            return [self.trained_in] if self.trained_in else list(packages.FRAMEWORKS)
        return list(packages.FRAMEWORKS) if choice == "both" else [choice]


def _scale_of(test: str) -> float | None:
    """The factor of a test: its protocol's, or its wrapper's."""
    config = configs.load(test, "test")
    return protocol.scale_of(config.eval_type) or config.test_dataset.wrapper.args.get("scale")


def runs(folder: Path) -> list[Model]:
    """The best checkpoint of every run folder, else its last one; folders without any are named on the screen."""
    if not is_folder(folder):
        raise UserError(f"no folder {folder}: expected one with run folders, such as batch_0.sh leaves")
    found = []
    for run in sorted(path.parent for path in folder.glob("*/config.yaml")):
        existing = [run / f"epoch-{name}.safetensors" for name in ("best", "last")]
        existing = [path for path in existing if is_file(path)]
        if not existing:
            print(f"left out: {run} has no checkpoint yet")
            continue
        experiment, _, framework = run.name.rpartition("_")
        if framework in packages.FRAMEWORKS:
            found.append(Model(run.name, experiment, existing[0], framework, run / "results"))
        else:
            found.append(Model(run.name, "", existing[0], None, run / "results"))
    return found


def single(text: str, output: Path) -> Model:
    """A checkpoint file, or bicubic; its results go below `output`. Raises UserError for a file that is not there."""
    if text == BICUBIC:
        return bicubic(output)
    path = formats.locate(text)
    # All runs call their files epoch-best: the run's folder tells them apart.
    name = f"{path.resolve().parent.name}_{path.stem}" if path.stem.startswith("epoch-") else path.stem
    return replace(by_name(name, output), path=path)


def by_name(name: str, output: Path) -> Model:
    """A single file by its name alone; the experiment is what comes before the first underscore, if it is one."""
    start = name.split("_")[0]
    known = start == BICUBIC or start in (experiment.name for experiment in listed.read())
    return Model(name, start if known else "", None, None, output / name)


def bicubic(output: Path) -> Model:
    """Pillow's bicubic as a model."""
    return by_name(BICUBIC, output)


def collect(save_dir: Path | None, files: Sequence[str], output: Path) -> list[Model]:
    """All runs of an experiments folder with bicubic, and single files. Raises UserError if there are none or names
    come twice."""
    models = [*runs(save_dir), bicubic(save_dir)] if save_dir else []
    models += [single(text, output) for text in files]
    if not models:
        raise UserError("which models? give --save-dir FOLDER, --models FILE ..., or both")
    names = [model.name for model in models]
    double = next((name for name in names if names.count(name) > 1), None)
    if double:
        raise UserError(f"two models are called '{double}': name one of them only, or rename a file")
    return models


def add_arguments(parser) -> None:
    """--save-dir, --models and --frameworks."""
    parser.add_argument("--save-dir", type=Path, help="a folder of run folders, like save/bsds400: all of them")
    parser.add_argument("--models", nargs="+", default=[], metavar="FILE", help="checkpoints, or bicubic")
    choices = ["own", *packages.FRAMEWORKS, "both"]
    parser.add_argument("--frameworks", choices=choices, default="own", help="own (default): the one that trained it")


def scripts_tree(framework: str) -> str:
    """The tree whose script runs a model; bicubic needs none and takes either."""
    return framework if framework in packages.FRAMEWORKS else packages.FRAMEWORKS[0]


def default_output() -> Path:
    """Where the scores of single files go."""
    return WORK / "save" / "scores"

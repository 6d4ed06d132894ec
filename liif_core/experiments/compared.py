"""What scripts/compare_methods.py compares: methods, test sets, and what each framework measured of them.

A method is measured by test.py in a process of its own for each framework, on all sets that are still missing; its
scores are kept as JSON, its predictions as PNG.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liif_core.checkpoints import formats
from liif_core.config import load as configs
from liif_core.config import protocol
from liif_core.config.factor import factor_of
from liif_core.config.registry import nearest_known
from liif_core.data.check import make_uncached
from liif_core.errors import UserError
from liif_core.experiments import jobs, trained
from liif_core.experiments.scores import is_of, is_usual, read_report
from liif_core.system import packages, provenance
from liif_core.system.places import SHIPPED

METRICS = ("psnr-y", "ssim", "psnr-rgb", "ssim-rgb")
ORIGINAL = "original"


@dataclass(frozen=True)
class Method:
    """name: what tables and figures call it. path: the checkpoint, None for bicubic. config: of which model bare
    weights are."""

    name: str
    path: Path | None
    config: str | None = None

    @functools.cached_property
    def weights(self) -> str | None:
        """SHA-256 of the checkpoint, None for bicubic."""
        return provenance.sha256(self.path) if self.path else None

    def frameworks(self, choice: str) -> list[str]:
        """In which to run it; bicubic needs none."""
        if self.path is None:
            return ["pillow"]
        return list(packages.FRAMEWORKS) if choice == "both" else [choice]


def methods(texts: Sequence[str], scale: float, model_configs: Sequence[str] = ()) -> list[Method]:
    """NAME=CHECKPOINT, CHECKPOINT or bicubic, which comes first, named or not.

    model_configs: NAME=CONFIG of bare weights. Raises UserError for names that come twice or cannot be a folder's, for
    files that are no checkpoints, and for models of another factor alone.
    """
    split = [_named(text) for text in texts]
    given = dict(_pair(text, "--model-config", "NAME=CONFIG") for text in model_configs)
    found = [
        Method(name, None if file == trained.BICUBIC else formats.locate(file), given.pop(name, None))
        for name, file in split
    ]
    if given:
        raise UserError(f"--model-config '{next(iter(given))}': {nearest_known(next(iter(given)), dict(split))}")
    if all(method.path for method in found):
        found.append(Method(trained.BICUBIC, None))
    found.sort(key=lambda method: method.path is not None)  # the others keep their order
    names = [method.name.casefold() for method in found]
    for method in found:
        if names.count(method.name.casefold()) > 1:
            raise UserError(f"--models: two are called '{method.name}': give one another name, as NAME=CHECKPOINT")
        if method.path:
            _check_factor(method, formats.load_for(method.path, method.config).model, scale)
    return found


def _check_factor(method: Method, model: dict, scale: float) -> None:
    own = factor_of(model)
    if own not in (None, scale):
        raise UserError(f"--models: {method.name} upscales x{own} alone, --scale is {scale:g}: leave out one of them")


def _named(text: str) -> tuple[str, str]:
    if text == trained.BICUBIC:
        return text, text
    if "=" not in text or Path(text).is_file():
        return trained.single(text, Path()).name, text
    name, file = _pair(text, "--models", "NAME=CHECKPOINT, CHECKPOINT or bicubic")
    if not re.fullmatch(r"\w[\w .+-]*", name) or name.casefold() == ORIGINAL:
        raise UserError(f"--models '{text}': expected a name of letters, digits, '-', '_' and the like before '='")
    return name, file


def _pair(text: str, option: str, expected: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise UserError(f"{option}: expected {expected}, got '{text}'")
    return name, value


@dataclass(frozen=True)
class TestSet:
    """A test config with its data. name: set5, or the stem of a config of the user's own."""

    name: str
    config: str
    eval_type: str
    pairs: Any

    @property
    def scale(self) -> int | float:
        """The factor."""
        return protocol.split(self.eval_type)[1]

    @functools.cached_property
    def images(self) -> list[str]:
        """The names of its images, each once."""
        return list(dict.fromkeys(self.pairs.name(index) for index in range(len(self.pairs))))


def find_sets(names: Sequence[str], scale: float) -> list[TestSet]:
    """The sets of configs/test, by their names in any case, or test configs of the user's, at a factor.

    Raises UserError for one that is not known, has no such factor, or whose images are not here or do not fit.
    """
    found = [_own(name, scale) if name.endswith((".yaml", ".yml")) else _shipped(name, scale) for name in names]
    known = [one.name for one in found]
    if double := next((name for name in known if known.count(name) > 1), None):
        raise UserError(f"--sets: '{double}' is named twice")
    return found


def _shipped(name: str, scale: float) -> TestSet:
    scales: dict[str, dict[float, Path]] = {}
    for path in (SHIPPED / "configs" / "test").glob("test-*.yaml"):
        stem, _, number = path.stem.removeprefix("test-").rpartition("-")
        if re.fullmatch(r"[\d.]+", number) and configs.load(path, "test").eval_type:
            scales.setdefault(stem, {})[float(number)] = path
    if name.lower() not in scales:
        raise UserError(f"--sets '{name}': {nearest_known(name.lower(), scales)}, or a test config that ends in .yaml")
    at = scales[name.lower()]
    if scale not in at:
        there = ", ".join(f"{one:g}" for one in sorted(at))
        raise UserError(f"--sets {name}: there is no test at x{scale:g}, there are {there}")
    return _made(name.lower(), str(at[scale].relative_to(SHIPPED / "configs")))


def _own(file: str, scale: float) -> TestSet:
    eval_type = configs.load(file, "test").eval_type
    if protocol.scale_of(eval_type) != scale:
        says = f"eval_type {eval_type}" if eval_type else "no eval_type"
        raise UserError(f"--sets {file}: expected a protocol at x{scale:g}, like benchmark-{scale:g}, got {says}")
    return _made(Path(file).stem.removeprefix("test-").removesuffix(f"-{scale:g}"), file)


def _made(name: str, file: str) -> TestSet:
    config = configs.load(file, "test")
    assert config.eval_type is not None
    return TestSet(name, file, config.eval_type, make_uncached(config.test_dataset, False, config.eval_type))


@dataclass(frozen=True)
class Task:
    """One method in one framework on all sets. metrics: what is measured. output: of all."""

    method: Method
    framework: str
    sets: tuple[TestSet, ...]
    metrics: tuple[str, ...]
    output: Path
    keeps_images: bool

    @property
    def title(self) -> str:
        """For folders and messages."""
        return f"{self.method.name}_{self.framework}"

    def json(self, test_set: TestSet) -> Path:
        """Where its scores on a set are."""
        return self.output / "scores" / self.title / f"{Path(test_set.config).stem}.json"

    def png(self, test_set: TestSet, image: str) -> Path:
        """Where its prediction of an image is."""
        return self.output / "images" / self.title / Path(test_set.config).stem / f"{image}.png"

    def report(self, test_set: TestSet) -> dict | None:
        """What was measured on a set with these weights, None if nothing was, or not all of it."""
        try:
            found = read_report(self.json(test_set))
        except (OSError, UserError):
            return None
        same = {"weights": self.method.weights, "protocol": test_set.eval_type, "model_config": self.method.config}
        usual = is_usual(found | {"set": None}) and is_of(found, test_set.config)
        usual = usual and all(found.get(key) == value for key, value in same.items())
        changed = [word.partition("=")[0] for word in found.get("set", ())]
        measured = changed == ["metrics"] and all(name in found for name in self.metrics)
        kept = not self.keeps_images or all(self.png(test_set, image).is_file() for image in test_set.images)
        return found if usual and measured and kept and found.get("images") == len(test_set.pairs) else None

    def missing(self) -> list[TestSet]:
        """The sets that are still to be measured."""
        return [test_set for test_set in self.sets if self.report(test_set) is None]

    def command(self, sets: Sequence[TestSet]) -> list[str]:
        """test.py's, without --gpu."""
        folder = self.json(self.sets[0]).parent
        command = jobs.script(trained.scripts_tree(self.framework), "test")
        command += ["--model", str(self.method.path or trained.BICUBIC), "--json", str(folder)]
        if self.method.config:
            command += ["--model-config", self.method.config]
        if self.keeps_images:
            command += ["--images", str(self.png(self.sets[0], "").parents[1])]
        return [*command, "--metrics", *self.metrics, "--config", *(test_set.config for test_set in sets)]

    def forget(self, sets: Sequence[TestSet]) -> None:
        """Scores that are about to be replaced: their images may be of other weights by the time this is stopped."""
        for test_set in sets:
            self.json(test_set).unlink(missing_ok=True)

"""Every run, from configs/experiments.txt."""

from dataclasses import dataclass
from pathlib import Path

from liif_core.config.registry import nearest_known
from liif_core.errors import UserError
from liif_core.system.places import SHIPPED

FILE = SHIPPED / "configs" / "experiments.txt"


@dataclass(frozen=True)
class Experiment:
    """One line of the file.

    config: below configs/train-<recipe>/. group: paper, more, faces, rivals, photo, decoders or diffusion. curve: the
    experiment in reference/curves.csv with which it is compared, None without one.
    """

    name: str
    config: str
    group: str
    curve: str | None

    def config_in(self, recipe: str) -> Path:
        """Its config under a recipe such as "div2k"; the file need not exist."""
        return SHIPPED / "configs" / f"train-{recipe}" / self.config


def read(file: Path = FILE) -> list[Experiment]:
    """All experiments, in the file's order. Raises UserError for a line that is none or a name that comes twice."""
    experiments: list[Experiment] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = line.split("#")[0].split()
        if not parts:
            continue
        if len(parts) != 4:
            raise UserError(f"{file}, line {number}: expected name, config, group and curve (or -), got '{line}'")
        if parts[0] in (experiment.name for experiment in experiments):
            raise UserError(f"{file}, line {number}: the experiment '{parts[0]}' is named twice")
        name, config, group, curve = parts
        experiments.append(Experiment(name, config, group, None if curve == "-" else curve))
    return experiments


def recipes() -> list[str]:
    """The recipes there are configs for, such as "bsds400"."""
    return sorted(folder.name.removeprefix("train-") for folder in (SHIPPED / "configs").glob("train-*"))


def select(recipe: str, only: str | None = None) -> list[Experiment]:
    """The experiments that a recipe holds, all or those of `only`: names and groups, with commas between.

    Raises UserError for a recipe, name or group that is not known.
    """
    if recipe not in recipes():
        raise UserError(f"--recipe '{recipe}': {nearest_known(recipe, recipes())}")
    held = [experiment for experiment in read() if experiment.config_in(recipe).is_file()]
    if only is None:
        return held
    chosen = [word.strip() for word in only.split(",") if word.strip()]
    chosen = ["paper" if word == "study" else word for word in chosen]  # the group's name before
    known = {word for experiment in held for word in (experiment.name, experiment.group)}
    if not chosen:
        raise UserError(f"--only '{only}' names nothing: recipe {recipe}: known: {', '.join(sorted(known))}")
    for word in chosen:
        if word not in known:
            raise UserError(f"--only '{word}': recipe {recipe}: {nearest_known(word, known)}")
    return [experiment for experiment in held if {experiment.name, experiment.group} & set(chosen)]

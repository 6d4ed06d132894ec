"""Find, read and validate a YAML config. Unknown keys are errors that name the known ones.

The keys are LIIF's, so its files run unmodified; docs/configs.md says which are ours.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import pydantic

from liif_core.config import yaml_text
from liif_core.config.registry import explain, keys_at
from liif_core.config.schema import ModelConfig, TestConfig, TrainConfig
from liif_core.errors import UserError
from liif_core.system import places
from liif_core.system.files import is_file, look
from liif_core.system.places import SHIPPED, expand

# Keys that once had another name: a config or a run folder that says it is read as before.
RENAMED = {"val_pictures": "val_images"}


def find(path: str | Path) -> Path:
    """The config file, looked for as given, among what is shipped (in a checkout: from its root), then in configs/."""
    path = expand(path)
    tried = [Path(path), SHIPPED / path, SHIPPED / "configs" / path]
    for candidate in tried:
        if is_file(candidate):
            return candidate
    looked = ", ".join(dict.fromkeys(map(str, tried)))
    known = [str(file.relative_to(SHIPPED / "configs")) for file in (SHIPPED / "configs").rglob("*.yaml")]
    close = difflib.get_close_matches(str(path), known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    raise UserError(f"no config '{path}': {hint}looked for the YAML file {looked}")


def locate_data(path: str | Path) -> Path:
    """A data folder or file named in a config, looked for as given, then as `find` does."""
    path = expand(path)
    for candidate in (Path(path), SHIPPED / path):
        if look(candidate):
            return candidate
    listed = places.command("download", "download_data.py")
    raise UserError(f"no folder or file '{path}' here or in {SHIPPED}: see 'Data' in README.md and {listed} --list")


def _renamed(content: dict, where: str) -> dict:
    """`content` with today's names for the keys that once had another."""
    for old, new in RENAMED.items():
        if old in content:
            if new in content:
                raise UserError(f"{where}: '{old}' is the former name of '{new}': give one of them")
            content = {new if key == old else key: value for key, value in content.items()}
    return content


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    content = yaml_text.parse(text, str(path))
    if not isinstance(content, dict):
        kind = "nothing" if content is None else "a list" if isinstance(content, list) else f"'{str(content)[:40]}'"
        raise UserError(f"{path}: a config is a mapping of keys to values, this holds {kind}")
    return _renamed(content, str(path))


def merge(below: dict, change: dict) -> dict:
    """`below` with `change` laid over it, key by key, as a JSON merge patch (RFC 7386).

    Mappings merge, null takes a key away, everything else replaces. A block of another `name` replaces the
    old one whole, for arguments belong to what they were given to.
    """
    if change.get("name", below.get("name")) != below.get("name"):
        below = {}
    merged = {key: value for key, value in below.items() if key not in change or change[key] is not None}
    for key, value in change.items():
        if isinstance(value, dict):
            old = merged.get(key)
            merged[key] = merge(old if isinstance(old, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def read_merged(file: Path, above: tuple[Path, ...] = ()) -> dict:
    """A config file over the ones that its key `base` names: one path or a list, each laid over those before it."""
    content = read_yaml(file)
    if "base" not in content:
        return content
    if file.resolve() in above:
        raise UserError(f"{file}: its `base` leads back to itself: {' -> '.join(map(str, above))}")
    bases = content.pop("base")
    bases = bases if isinstance(bases, list) else [bases]
    if not bases or not all(isinstance(base, str) for base in bases):
        raise UserError(f"{file}: 'base' is the path of a config or a list of paths, not {bases}")
    merged: dict = {}
    for base in bases:
        merged = merge(merged, read_merged(find(base), (*above, file.resolve())))
    return merge(merged, content)


def parse_overrides(overrides: Sequence[str]) -> dict:
    """What `--set a.b=1 a.c=[2, 3]` lays over a config: {"a": {"b": 1, "c": [2, 3]}}.

    Values are YAML, but no mappings; null takes the key away.
    """
    change: dict = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        path = key.split(".")
        if not equals or not all(path):
            raise UserError(
                f"--set: expected KEY=VALUE like epoch_max=2 or train_dataset.batch_size=4, got '{override}'"
            )
        value = yaml_text.parse(text, f"--set '{override}'")
        if isinstance(value, dict):  # {a:1} would be a key "a:1" without a value, and go unnoticed
            raise UserError(f"--set '{override}': a block's keys are set one by one, like {key}.NAME=VALUE")
        block = change
        for part in path[:-1]:
            inner = block.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UserError(f"--set '{override}': another --set gives '{part}' a value of its own")
            block = inner
        if path[-1] in block:
            raise UserError(f"--set '{override}': another --set has set it already")
        block[path[-1]] = value
    return _renamed(change, "--set")


@overload
def load(path: str | Path, kind: Literal["train"], overrides: Sequence[str] = ()) -> TrainConfig: ...
@overload
def load(path: str | Path, kind: Literal["test"], overrides: Sequence[str] = ()) -> TestConfig: ...
def load(path: str | Path, kind: Literal["train", "test"], overrides: Sequence[str] = ()) -> TrainConfig | TestConfig:
    """Read a config with its bases, lay `overrides` ("KEY=VALUE") over it, and check it.

    Raises UserError with file, key and what would be accepted.
    """
    model = TrainConfig if kind == "train" else TestConfig
    file = find(path)
    content = merge(read_merged(file), parse_overrides(overrides))
    other = "test_dataset" if kind == "train" else "train_dataset"
    if other in content:
        raise UserError(f"{file} has the key '{other}': it is not a config for {kind}.py")
    where = f"{file} with --set {' '.join(overrides)}" if overrides else str(file)
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as error:
        raise UserError(explain(error, lambda path: keys_at(model, path), where)) from None


def load_model(path: str | Path) -> ModelConfig | TrainConfig:
    """Read what a training config, or a file with `model`, `data_norm` and `method` alone, says of weights.

    Raises UserError with file, key and what would be accepted.
    """
    file = find(path)
    content = read_merged(file)
    if "model" not in content:
        raise UserError(
            f"{file} has no key 'model': expected a training config, or a YAML file with model and data_norm"
        )
    if not set(content) <= set(ModelConfig.model_fields):
        return load(path, "train")
    try:
        return ModelConfig.model_validate(content)
    except pydantic.ValidationError as error:
        raise UserError(explain(error, lambda path: keys_at(ModelConfig, path), str(file))) from None


def dump(config: TrainConfig) -> str:
    """The config as YAML, with its defaults, so that it says the same when one of them has become another."""
    return yaml_text.dump(config.model_dump())

"""Words of the command line: a parser whose complaints are sentences, numbers, and paths with `~` and `$VARS`."""

import argparse
import math
from pathlib import Path
from typing import NoReturn

from liif_core.errors import UserError
from liif_core.system.places import expand


class Parser(argparse.ArgumentParser):
    """argparse's, which raises UserError for what is wrong instead of printing its usage.

    type=float, int and Path are `as_number`, `as_whole` and `as_path`.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        for kind, function in ((float, as_number), (int, as_whole), (Path, as_path)):
            self.register("type", kind, function)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the arguments)")


def _wrong(text: str, expected: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"expected {expected}, got '{text[:40]}'")


def as_number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(text, "a number like 4 or 1.5")
    return value


def as_whole(text: str) -> int:
    """A whole number, of so many digits that it can be one of pixels, steps or seconds."""
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or abs(value) >= 2**63:
        raise _wrong(text, "a whole number like 4")
    return value


def as_path(text: str) -> Path:
    """A path, as `places.expand` reads it."""
    return Path(expand(text))

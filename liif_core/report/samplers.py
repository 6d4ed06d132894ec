"""What benchmarks/samplers.py measured: a network of diffusion under several samplers, beside methods that draw
nothing, as a table."""

import json
import math
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from liif_core.errors import UserError
from liif_core.report.tables import NOTHING, Cell, Table, code, short

FILE = "samplers.json"
METRICS = ("psnr-8bit", "ssim-8bit", "consistency")
NOT_WHITE = "not white: "  # before a metric of those pixels alone
COLUMNS = (*METRICS, *(NOT_WHITE + name for name in METRICS), "shift", "seconds")


def read(folder: Path) -> dict[str, Any]:
    """The file in a folder: config, what was `set` of it, framework; methods, each with its name, how often its
    network is `asked` for an image, the SHA-256 of its `weights` (both may be null), commit and machine, and `images`,
    values by COLUMNS, null for NaN.

    Raises UserError for a file that is not there or another one.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        methods = found["methods"]
        right = all(set(image) == set(COLUMNS) for one in methods for image in one["images"].values())
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): expected what benchmarks/samplers.py wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        right = False
    if not right or not methods or not all(one["images"] for one in methods):
        raise UserError(f"{path}: expected methods and images with {', '.join(COLUMNS)}, as benchmarks/samplers.py has")
    return found


def table(found: dict[str, Any]) -> Table:
    """A row for each method: means of all its images and, since some have fewer, PSNR of those that all have."""
    methods = found["methods"]
    shared = set.intersection(*(set(one["images"]) for one in methods))
    fewer = any(set(one["images"]) != shared for one in methods)
    header = ["method", "network asked", "images", "PSNR", "SSIM", "consistency"]
    header += [f"PSNR of {len(shared)} images"] if fewer else []
    rows = []
    for one in methods:
        images = list(one["images"].values())
        row: list[Cell | str] = [one["name"], str(one["asked"] or NOTHING), str(len(images))]
        row += [_both(images, name) for name in METRICS]
        if fewer:
            row.append(_both([one["images"][name] for name in sorted(shared)], METRICS[0]))
        row += [f"{_mean(images, 'shift'):.2f}", f"{median(image['seconds'] for image in images):.3g}"]
        rows.append(row)
    return Table("samplers", [*header, "shift", "s per image"], rows, notes=[" ".join(_notes(found, fewer))])


def _notes(found: dict[str, Any], fewer: bool) -> list[str]:
    machines = " and ".join(sorted({one["machine"] for one in found["methods"]}))
    notes = [
        "The mean over images; in brackets that of the pixels that are not white.",
        "PSNR in dB and SSIM are of RGB in 8 bits without a border, consistency is in 1e-5, and less of it is better.",
        "Shift: by how many of 255 levels the mean of R, G or B is off the low resolution's.",
        f"Seconds: the median, one image at a time, on {machines}.",
    ]
    if fewer:
        notes.insert(1, "Where methods were asked for fewer images, the column of those that all have compares them.")
    digits = {one["weights"][:8] for one in found["methods"] if one["weights"]}
    weights = f" SHA-256 of the weights: {', '.join(map(code, sorted(digits)))}." if digits else ""
    commits = ", ".join(sorted({code(short(one["commit"])) for one in found["methods"]}))
    return [*notes, f"Test config {code(found['config'])}, measured at commit {commits}.{weights}"]


def _both(images: list[dict[str, float]], name: str) -> Cell:
    form = "{:.4f}" if name.startswith("ssim") else "{:.2f}"
    return Cell(form.format(_mean(images, name)), (form.format(_mean(images, NOT_WHITE + name)),))


def _mean(images: list[dict[str, float]], name: str) -> float:
    """NaN is of images that have no such pixels."""
    values = [image[name] for image in images if image[name] is not None]
    return float(np.mean(values)) if values else math.nan

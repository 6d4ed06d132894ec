"""What others published, read from reference/; the sources are in reference/README.md."""

import csv
import functools
import re
from dataclasses import dataclass

from liif_core.system.places import SHIPPED

FOLDER = SHIPPED / "reference"


@dataclass(frozen=True)
class Curve:
    """Loss (L1) and validation PSNR in dB over epochs, which count from 1."""

    epochs: list[int]
    loss: list[float]
    psnr: list[float]


@dataclass(frozen=True)
class Figure:
    """What somebody published of a method on a test set: PSNR in dB and SSIM, None where they say nothing of it.

    protocol: benchmark and div2k as in the configs, without the factor; rgb-no-shave; rgb, a border of the factor cut;
    or not stated.
    """

    method: str
    protocol: str
    psnr: float | None
    ssim: float | None
    source: str


def _rows(name: str) -> list[dict[str, str]]:
    with open(FOLDER / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@functools.cache
def _published() -> dict[tuple[str, str, float], float]:
    """PSNR under the protocol of the set."""
    rows = [row for row in _rows("published.csv") if row["metric"] == "psnr_db"]
    rows = [row for row in rows if row["protocol"] == _protocols()[row["dataset"]]]
    return {(row["dataset"], row["method"], int(row["scale"])): float(row["value"]) for row in rows}


@functools.cache
def _protocols() -> dict[str, str]:
    """That of each set: the first that its figures are given under."""
    return {row["dataset"]: row["protocol"] for row in reversed(_rows("published.csv"))}


@functools.cache
def scores() -> dict[tuple[str, str, str, float], float]:
    """The predecessor's PSNR in dB under (framework, its name for the experiment, test set, scale)."""
    rows = _rows("scores.csv")
    return {
        (row["framework"], row["experiment"], data_set(row["dataset"]), int(row["scale"])): float(row["psnr_db"])
        for row in rows
    }


@functools.cache
def curves() -> dict[tuple[str, str], Curve]:
    """The predecessor's curves under (framework, its name for the experiment)."""
    found: dict[tuple[str, str], Curve] = {}
    for row in _rows("curves.csv"):
        curve = found.setdefault((row["framework"], row["experiment"]), Curve([], [], []))
        curve.epochs.append(int(row["epoch"]))
        curve.loss.append(float(row["train_loss_l1"]))
        curve.psnr.append(float(row["val_psnr_db"]))
    return found


def data_set(name: str) -> str:
    """A test set's name as published.csv writes it."""
    lower = name.lower()
    return "div2k-valid" if lower.startswith("div2k") else lower


def method(experiment: str) -> str:
    """The paper's name of what an experiment trains: EDSR-baseline and others have one network for each scale."""
    experiment = re.sub(r"^celebAHQ-\d+-\d+-", "edsr-baseline-", experiment)
    return re.sub(r"^(edsr-baseline|rdn|srcnn|m?srresnet|srgan)-x\d+$", r"\1", experiment)


def published(test_set: str, experiment: str, scale: float) -> float | None:
    """The published PSNR in dB, None where the papers have none.

    A network for one scale, or for one pair of sizes, is never laid beside the published one for another.
    """
    name, test_set = method(experiment), data_set(test_set)
    fits = experiment in (name, f"{name}-x{scale}") or experiment.lower().startswith(f"{test_set}-")
    return _published().get((test_set, name, scale)) if fits else None


def figures(test_set: str, scale: float) -> list[Figure]:
    """All that was published on a test set at a scale, under whatever protocol, in the file's order."""
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in _rows("published.csv"):
        if row["dataset"] == data_set(test_set) and int(row["scale"]) == scale:
            values = found.setdefault((row["method"], row["protocol"], row["source"]), {})
            values[row["metric"]] = float(row["value"])
    return [Figure(*key[:2], values.get("psnr_db"), values.get("ssim"), key[2]) for key, values in found.items()]


def same_protocol(test_set: str, scale: float, protocol: str) -> bool:
    """Whether a protocol as in scores.csv is the one that figures on a test set were published under."""
    name = _protocols().get(data_set(test_set))
    return protocol == ("RGB, no border" if name == "rgb-no-shave" else f"{name}-{scale}")


def predecessor(framework: str, curve: str, test_set: str, scale: float) -> float | None:
    """The predecessor's PSNR in dB, None where it has none."""
    return scores().get((framework, curve, data_set(test_set), scale))

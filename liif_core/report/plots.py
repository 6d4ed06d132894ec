"""Plots of training runs beside the predecessor's curves, all in one look.

Only this module imports matplotlib, and only commands that draw import this module.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from liif_core.report import reference
from liif_core.report.experiments_folder import FRAMEWORKS, Run
from liif_core.system.text import title

# Okabe and Ito's blue and vermilion: told apart by every kind of colour vision, and by lightness.
COLOURS = {"torch": "#0072b2", "jittor": "#d55e00"}
# The predecessor's are the same two, washed out; dashes tell them apart in grey too.
PALE = {"torch": "#64889f", "jittor": "#a87f60"}
INK, FAINT, PAPER = "#1f2328", "#d8dce1", "#fefefe"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "svg.fonttype": "none",
    "svg.hashsalt": "liif",
}
# So that a page can give the plots its own colours, light or dark.
VARIABLES = {
    INK: "--ink",
    FAINT: "--line",
    PAPER: "--paper",
    COLOURS["torch"]: "--torch",
    COLOURS["jittor"]: "--jittor",
    PALE["torch"]: "--torch-pale",
    PALE["jittor"]: "--jittor-pale",
}
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

BOTH = ("train_loss", "val_psnr")  # of every run, and of the predecessor's curves


@dataclass(frozen=True)
class Line:
    """A curve in every panel: (epoch, value). curves: the training losses by their names in the log, "train_loss" the
    first, and "val_psnr"."""

    label: str
    colour: str
    own: bool
    width: float
    curves: dict[str, list[tuple[int, float]]]


def lines(runs: list[Run], curve: str | None) -> list[Line]:
    """The predecessor's lines, drawn first, then those of the runs of one experiment.

    The predecessor's are shown beside runs on DIV2K alone, for other images have other losses and PSNR.
    """
    found = []
    for framework, name in FRAMEWORKS.items():
        old = reference.curves().get((framework, curve or ""))
        if old and any(run.on_div2k for run in runs):
            pairs = (list(zip(old.epochs, values, strict=True)) for values in (old.loss, old.psnr))
            found.append(
                Line(f"{name},\npredecessor", PALE[framework], False, 1.1, dict(zip(BOTH, pairs, strict=True)))
            )
    for run in runs:
        names = dict.fromkeys(name for record in run.epochs for name in record if name.startswith("train_"))
        curves = {
            name: [(record["epoch"], record[name]) for record in run.epochs if record.get(name) is not None]
            for name in [*names, "val_psnr"]
        }
        width = 2.4 if run.framework == "torch" else 1.3  # the one on top leaves the one below to be seen
        found.append(Line(FRAMEWORKS[run.framework], COLOURS[run.framework], True, width, curves))
    return found


def experiment_figure(runs: list[Run], curve: str | None) -> Figure:
    """Training loss at the left, validation PSNR at its right, a label at the end of every line; the other losses of a
    method that has some, two panels to a row."""
    with matplotlib.rc_context(STYLE):
        drawn = lines(runs, curve)
        others = dict.fromkeys(name for line in drawn for name in line.curves if name not in BOTH)
        losses = {run.loss for run in runs}
        loss = f" ({losses.pop()})" if len(losses) == 1 and losses != {""} else ""
        units = {"train_loss": f"training loss{loss}", "val_psnr": "validation PSNR (dB)"}
        units |= {name: name.removeprefix("train_").replace("_", " ") for name in others}
        rows = -(-len(units) // 2)
        figure = Figure(figsize=(8, 3 * rows))
        panels = figure.subplots(rows, 2, squeeze=False, gridspec_kw={"wspace": 0.62})
        figure.subplots_adjust(left=0.09, right=0.885, top=1 - 0.04 / rows, bottom=0.155 / rows)
        for axes in panels.flat[len(units) :]:
            axes.remove()
        for axes, (what, unit) in zip(panels.flat, units.items(), strict=False):
            _draw(axes, drawn, what, _last_epoch(drawn))
            axes.set_ylabel(unit)
            axes.set_xlabel("epoch")
            figure.draw_without_rendering()  # the scale must be fixed before labels are placed on it
            _label_ends(axes, drawn, what)
    return figure


def summary_figure(experiments: dict[str, tuple[list[Run], str | None]]) -> Figure:
    """Validation PSNR of every experiment, a panel each, all on the same scales; the best of each run in figures."""
    with matplotlib.rc_context(STYLE):
        columns = min(3, len(experiments))
        rows = -(-len(experiments) // columns)
        figure = Figure(figsize=(8, 0.5 + 1.75 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        every = {name: lines(*found) for name, found in experiments.items()}
        last = max(_last_epoch(drawn) for drawn in every.values())
        for axes, (name, drawn) in zip(panels.flat, every.items(), strict=False):
            _draw(axes, drawn, "val_psnr", last)
            axes.set_title(title(name))
            axes.tick_params(labelbottom=True)
            best = [
                (line, max(value for _, value in line.curves["val_psnr"]))
                for line in drawn
                if line.own and line.curves["val_psnr"]
            ]
            for height, (line, value) in enumerate(reversed(best)):
                place = (0.97, 0.05 + 0.13 * height)
                text = f"{line.label} {value:.2f}"
                axes.text(*place, text, color=line.colour, ha="right", transform=axes.transAxes, fontsize=8)
        for axes in panels.flat[len(experiments) :]:
            axes.remove()
        figure.supxlabel("epoch", fontsize=9)
        figure.supylabel("validation PSNR (dB)", fontsize=9)
    return figure


def _last_epoch(drawn: list[Line]) -> int:
    return max([2, *(epoch for line in drawn for epoch, _ in line.curves.get("train_loss", [])[-1:])])


def _draw(axes: Axes, drawn: list[Line], what: str, last: int) -> None:
    """The lines over epochs 1 to `last`; few points are marked, for one alone makes no line."""
    for line in drawn:
        points = line.curves.get(what, [])
        axes.plot(
            [epoch for epoch, _ in points],
            [value for _, value in points],
            color=line.colour,
            linestyle="solid" if line.own else (0, (4, 2)),
            linewidth=line.width,
            marker="o" if len(points) <= 20 else None,
            markersize=2 + line.width,
        )
    if all(line.own for line in drawn):
        axes.set_xlim(1 - last / 50, last * 1.02)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        return
    # Logarithmic, since the predecessor's hundreds of epochs may be beside a few.
    axes.set_xscale("log")
    axes.set_xlim(0.9, last * 1.05)
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if tick <= last]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _label_ends(axes: Axes, drawn: list[Line], what: str) -> None:
    """A line that ends near the right edge has its label beyond it, another one beside its last point."""
    right = axes.get_xlim()[1]
    ends = [(line, *line.curves[what][-1]) for line in drawn if line.curves.get(what)]
    groups: dict[float, list] = {}
    for line, epoch, value in ends:
        beyond = epoch > right / 3
        groups.setdefault(right if beyond else epoch, []).append((axes.transLimits.transform((0, value))[1], line))
    for x, labels in groups.items():
        labels.sort(key=lambda item: item[0])
        heights = _apart(
            [height for height, _ in labels], [0.15 if "\n" in line.label else 0.085 for _, line in labels]
        )
        for height, (_, line) in zip(heights, labels, strict=True):
            axes.annotate(
                line.label,
                (x, height),
                xycoords=("data", "axes fraction"),
                xytext=(5, 0),
                textcoords="offset points",
                color=line.colour,
                fontsize=8,
                va="center",
                annotation_clip=False,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1, "alpha": 0.8},
            )


def _apart(heights: list[float], sizes: list[float]) -> list[float]:
    """Rising heights, moved up and down so that labels of these sizes keep apart and within 0 to 1."""
    placed: list[float] = []
    for i, height in enumerate(heights):
        placed.append(max(height, placed[-1] + (sizes[i - 1] + sizes[i]) / 2) if placed else height)
    raised = sum(placed) - sum(heights)
    placed = [height - raised / len(placed) for height in placed]
    least = 0.0
    for i in range(len(placed)):
        placed[i] = max(placed[i], least + sizes[i] / 2)
        least = placed[i] + sizes[i] / 2
    limit = 1.0
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], limit - sizes[i] / 2)
        limit = placed[i] - sizes[i] / 2
    return placed


def svg(figure: Figure) -> str:
    """The figure as an <svg> element for a page: no address in it, colours as CSS variables."""
    file = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg")
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*" height="[^"]*"', r"\1", text)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"', r"\1\2", text)
    text = text.replace(' xmlns="http://www.w3.org/2000/svg"', "")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text


def save_png(figure: Figure, path: Path) -> None:
    """The figure as an image 1600 pixels wide, for a README's 800."""
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=200)

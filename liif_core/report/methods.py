"""Methods beside each other and beside what was published, as a table for people and one for programs."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from liif_core.config import protocol
from liif_core.errors import UserError
from liif_core.evaluation import psnr_ssim
from liif_core.evaluation.metrics import METRICS as KNOWN
from liif_core.experiments.compared import METRICS, Task, TestSet
from liif_core.images import rgb8
from liif_core.report import reference
from liif_core.report.experiments_folder import FRAMEWORKS
from liif_core.report.score_tables import set_title
from liif_core.report.tables import NOTHING, Cell, Table, code, decibel, short
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.text import title

Pair = tuple[float | None, float | None]  # PSNR in dB and SSIM
Y, RGB, UNSTATED = "Y", "RGB", "not stated"
OF_PROTOCOL = {"benchmark": Y, "div2k": RGB, "rgb": RGB, UNSTATED: UNSTATED}
HEAD = "set scale method framework channels psnr ssim".split()
ORIGIN = "images weights protocol commit source".split()


@dataclass(frozen=True)
class Record:
    """A method on a set. framework: empty for published figures. values: by channels. others: of further metrics.
    origin: what else scores come with, ORIGIN."""

    test_set: str
    scale: float
    method: str
    framework: str
    values: dict[str, Pair]
    others: dict[str, float] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)


def records(tasks: Sequence[Task], sets: Sequence[TestSet]) -> list[Record]:
    """What was measured, set by set, each followed by what others published of it at this factor."""
    found = []
    for test_set in sets:
        for task in tasks:
            if (report := task.report(test_set)) is not None:
                psnr_y, ssim_y, psnr_rgb, ssim_rgb = (_infinite(report, name) for name in METRICS)
                values: dict[str, Pair] = {Y: (psnr_y, ssim_y), RGB: (psnr_rgb, ssim_rgb)}
                others = {name: _infinite(report, name) for name in task.metrics if name not in METRICS}
                origin = {key: str(report.get(key) or "") for key in ORIGIN}
                where = test_set.name, test_set.scale, task.method.name, task.framework
                found.append(Record(*where, values, others, origin))
        kind = protocol.split(test_set.eval_type)[0]
        for figure in reference.figures(test_set.name, test_set.scale):
            # RGB has a border of its own in each protocol.
            if figure.protocol in (kind, UNSTATED) or (figure.protocol == "rgb" and kind == "benchmark"):
                values = {OF_PROTOCOL[figure.protocol]: (figure.psnr, figure.ssim)}
                origin = {"source": figure.source, "protocol": figure.protocol}
                found.append(Record(test_set.name, test_set.scale, title(figure.method), "", values, {}, origin))
    return found


def _infinite(report: dict, name: str) -> float:
    """JSON has no infinity: it says null of the PSNR of equal images."""
    return float("inf") if report[name] is None else report[name]


def table(found: Sequence[Record]) -> Table:
    """PSNR and SSIM of Y and of RGB, measured and published."""
    others = list(dict.fromkeys(name for record in found for name in record.others))
    channels = [name for name in (Y, RGB, UNSTATED) if name != UNSTATED or any(UNSTATED in r.values for r in found)]
    header = ["set", "method", "measured in, or source", *channels, *others]
    rows: list[list[Cell | str]] = []
    for record in found:
        shown = f"{set_title(record.test_set)} x{record.scale:g}"
        where = FRAMEWORKS.get(record.framework, "Pillow") if record.framework else record.origin["source"]
        values = [_both(record.values.get(name)) for name in channels]
        values += [f"{record.others[name]:.4f}" if name in record.others else NOTHING for name in others]
        rows.append([shown, record.method, where, *values])
    return Table("methods", header, rows, labels=3, notes=[" ".join(_notes(found, channels, others))])


def _both(pair: Pair | None) -> str:
    if pair is None:
        return NOTHING
    psnr, ssim = pair
    return f"{decibel(psnr)} / {NOTHING if ssim is None else f'{ssim:.4f}'}"


def _notes(found: Sequence[Record], channels: list[str], others: list[str]) -> list[str]:
    own = [record for record in found if record.framework]
    kinds = sorted({record.origin["protocol"] for record in own})
    commits = sorted({record.origin["commit"] for record in own} - {""})
    weights = {record.method: record.origin["weights"][:8] for record in own if record.origin["weights"]}
    notes = ["PSNR in dB / SSIM, the mean over images."]
    if kinds:
        cut = ", ".join(map(code, kinds))
        notes.append(f"The border of {cut} is cut; SSIM of RGB is the mean of its channels'.")
    if any(not record.framework for record in found):
        notes.append("Published SSIM may be of another implementation.")
    if UNSTATED in channels:
        notes.append(f'"{UNSTATED}": that source says neither channels nor border.')
    if others:
        notes.append("; ".join(f"{name}: {KNOWN[name].better} is better" for name in others) + ".")
    if weights:
        listed = ", ".join(f"{name} {code(digits)}" for name, digits in weights.items())
        notes.append(f"SHA-256 of the weights: {listed}.")
    if commits:
        notes.append(f"Measured at commit {', '.join(code(short(commit)) for commit in commits)}.")
    return notes


def as_csv(found: Sequence[Record]) -> str:
    """All digits: a line for each record and what its PSNR and SSIM are of."""
    others = list(dict.fromkeys(name for record in found for name in record.others))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*HEAD, *others, *ORIGIN])
    for record in found:
        for channels, pair in record.values.items():
            name = [record.test_set, f"{record.scale:g}", record.method, record.framework, channels]
            rest = [record.others.get(one) for one in others]
            writer.writerow([*name, *pair, *rest, *(record.origin.get(key) for key in ORIGIN)])
    return text.getvalue()


def read_csv(path: Path) -> list[Record]:
    """What `as_csv` wrote. Raises UserError for a file that is not there or another one."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): expected what compare_methods.py wrote") from None
    found: dict[tuple[str, ...], Record] = {}
    for line in lines:
        if not {*HEAD, *ORIGIN} <= line.keys():
            raise UserError(
                f"{path}: expected the columns {', '.join([*HEAD, *ORIGIN])}, as compare_methods.py has them"
            )
        key = tuple(line[name] for name in ("set", "scale", "method", "framework", "source", "protocol"))
        others = {name: float(text) for name, text in line.items() if name not in (*HEAD, *ORIGIN) and text}
        origin = {name: line[name] for name in ORIGIN}
        record = found.setdefault(key, Record(key[0], float(key[1]), key[2], key[3], {}, others, origin))
        record.values[line["channels"]] = _number(line["psnr"]), _number(line["ssim"])
    return list(found.values())


def _number(text: str) -> float | None:
    return float(text) if text else None


def keep(tasks: Sequence[Task], output: Path, results: Path) -> None:
    """Copy table, figure and means of the scores, instead of those that were there; the predictions, the scores of
    single images and where these lie stay."""
    check_writable(results / "table.csv")
    for name in ("table.csv", "details.png"):
        if (output / name).exists():
            write_atomically(results / name, (output / name).read_bytes())
        else:
            (results / name).unlink(missing_ok=True)
    for path in results.glob("scores/*/*.json"):
        path.unlink()
    for path in (task.json(test_set) for task in tasks for test_set in task.sets if task.report(test_set)):
        means = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("rows", "data")}
        target = results / path.relative_to(output)
        check_writable(target)
        write_atomically(target, (json.dumps(means, indent=1) + "\n").encode())


# Under other protocols

Measured = dict[str, dict[str, tuple[float, float]]]  # PSNR and SSIM by method and variant


def variants(tasks: Sequence[Task], test_set: TestSet) -> Measured:
    """The kept predictions, 8 bits, of each method on a set, with and without a border, of Y and of RGB."""
    border = psnr_ssim.border(test_set.eval_type)
    kinds = {Y: (psnr_ssim.psnr_y, psnr_ssim.ssim), RGB: (psnr_ssim.psnr_rgb, psnr_ssim.ssim_rgb)}
    cuts = {f"border {border}": test_set.eval_type, "no border": None}
    columns: dict[str, dict[str, tuple[list[float], list[float]]]] = {task.method.name: {} for task in tasks}
    for index in range(len(test_set.pairs)):
        target = rgb8.to_float(test_set.pairs.pair(index)[1])
        for task in tasks:
            prediction = rgb8.to_float(rgb8.read_image(task.png(test_set, test_set.pairs.name(index))))
            for channels, functions in kinds.items():
                for cut, eval_type in cuts.items():
                    kept = columns[task.method.name].setdefault(f"{channels}, {cut}", ([], []))
                    for values, function in zip(kept, functions, strict=True):
                        values.append(function(prediction, target, eval_type))
    return {
        method: {variant: (float(np.mean(psnr)), float(np.mean(ssim))) for variant, (psnr, ssim) in found.items()}
        for method, found in columns.items()
    }


def closest(unstated: Sequence[Record], measured: Measured) -> Table:
    """Figures without a protocol beside what the compared methods have under each, and which is nearest in PSNR."""
    names = list(next(iter(measured.values())))
    rows: list[list[Cell | str]] = [
        [method, *(_both(found[name]) for name in names), NOTHING] for method, found in measured.items()
    ]
    notes = []
    for record in unstated:
        pair = record.values[UNSTATED]
        rows.append([f"{record.method}, not stated", *([NOTHING] * len(names)), _both(pair)])
        own = {method: found for method, found in measured.items() if record.method.lower() in method.lower()}
        if not own:
            notes.append(f"No method called {record.method} was compared.")
            continue
        asked = pair[0] or 0.0
        gaps = {(method, name): abs(own[method][name][0] - asked) for method in own for name in names}
        method, variant = min(gaps, key=lambda key: gaps[key])
        nearest = _both(own[method][variant])
        notes.append(f"{_both(pair)} of {record.method} is nearest to {nearest}: {method}, {variant}.")
    return Table("protocols", ["method", *names, "as published"], rows, notes=[" ".join(notes)])

"""The tables of an experiments folder: the paper's experiments, the runs, and how far the two frameworks agree."""

import re
from dataclasses import dataclass

from liif_core.experiments.listed import Experiment
from liif_core.report import reference
from liif_core.report.experiments_folder import FRAMEWORKS, ExperimentsFolder, Run, Score
from liif_core.report.tables import (
    BENCHMARKS,
    NOTHING,
    Cell,
    Table,
    code,
    commits,
    decibel,
    protocols,
    signed,
)
from liif_core.system.text import title

METHODS = ("bicubic", "edsr-baseline", "edsr-baseline-metasr", "edsr-baseline-liif", "rdn", "rdn-metasr", "rdn-liif")
ABLATION = tuple(f"edsr-baseline-liif{change}" for change in ("", "-c", "-u", "-e", "-d"))
SCALES = tuple(f"edsr-baseline-liif{change}" for change in ("", "-x2", "-x3", "-x4"))
SMALL_SETS = ("set5", "set14", "b100", "urban100")


@dataclass(frozen=True)
class Topic:
    """One of the paper's experiments: its methods, and the test sets of which those that were measured are shown."""

    title: str
    text: str
    methods: tuple[str, ...]
    test_sets: tuple[str, ...]
    instead: tuple[str, ...] = ()  # where none of test_sets was measured


TOPICS = (
    Topic(
        "Methods on DIV2K",
        "x2 to x4 were seen in training, x6 and more were not.",
        METHODS,
        ("div2k-valid",),
    ),
    Topic("Methods on the benchmark sets", "x6 and x8 were not seen in training.", METHODS, SMALL_SETS),
    Topic(
        "Ablation of the design",
        "-c: no cell decoding, -u: no feature unfolding, -e: no local ensemble, -d: a decoder with fewer layers.",
        ABLATION,
        ("div2k-valid",),
        SMALL_SETS,
    ),
    Topic(
        "Training at one scale only",
        "-x2, -x3 and -x4 saw one factor in training, the first all from x1 to x4.",
        SCALES,
        ("div2k-valid",),
        SMALL_SETS,
    ),
    Topic(
        "Faces: pairs of CelebA-HQ",
        "Trained for one pair of sizes each; PSNR of RGB without a border.",
        ("bicubic", "edsr-baseline-upsample", "edsr-baseline-liif"),
        ("celebahq-64-128", "celebahq-32-256"),
    ),
)


def set_title(test_set: str) -> str:
    """b100 as people write it."""
    return BENCHMARKS.get(test_set, test_set)


def chosen_sets(source: ExperimentsFolder, topic: Topic) -> list[str]:
    """The topic's test sets that were measured, or else those that stand in for them."""
    measured = {score.dataset for score in source.scores if score.scale is not None}
    return [name for name in topic.test_sets if name in measured] or [n for n in topic.instead if n in measured]


def topic_tables(source: ExperimentsFolder, topic: Topic, experiments: list[Experiment]) -> list[Table]:
    """The tables of each test set of the topic that was measured; none without any."""
    made = (_score_tables(source, topic.methods, test_set, experiments) for test_set in chosen_sets(source, topic))
    return [table for tables in made for table in tables]


def other_tables(source: ExperimentsFolder, experiments: list[Experiment]) -> list[Table]:
    """Whatever was measured and is in none of the topics' tables, by test set."""
    shown = {(test_set, name) for topic in TOPICS for test_set in chosen_sets(source, topic) for name in topic.methods}
    rest: dict[str, list[str]] = {}
    for score in source.scores:
        name = reference.method(score.experiment)
        names = rest.setdefault(score.dataset, ["bicubic"])
        if (score.dataset, name) not in shown and name not in names:
            names.append(name)
    made = (_score_tables(source, tuple(n), test_set, experiments) for test_set, n in rest.items() if len(n) > 1)
    return [table for tables in made for table in tables]


def all_tables(source: ExperimentsFolder, experiments: list[Experiment]) -> list[Table]:
    """Everything that was measured, by test set."""
    methods = [reference.method(name) for name in ("bicubic", *(experiment.name for experiment in experiments))]
    methods += [reference.method(score.experiment) for score in source.scores]
    found = {
        score.dataset: {reference.method(s.experiment) for s in source.scores if s.dataset == score.dataset}
        for score in source.scores
    }
    made = (
        _score_tables(source, tuple(name for name in dict.fromkeys(methods) if name in found[s]), s, experiments)
        for s in sorted(found, key=[*BENCHMARKS, *found].index)
    )
    return [table for tables in made for table in tables]


def _score_tables(
    source: ExperimentsFolder, methods: tuple[str, ...], test_set: str, experiments: list[Experiment]
) -> list[Table]:
    """One of the whole scales, which stand beside what was published, and one of the others, if there are any."""
    own = [s for s in source.scores if s.dataset == test_set and s.trained_in in (None, s.framework)]
    own = [s for s in own if reference.method(s.experiment) in methods]
    between = [s for s in own if isinstance(s.scale, float)]
    whole = [s for s in own if s not in between]
    parts = [part for part in (whole, between) if part] or [own]
    return [_score_table(source, methods, test_set, part, experiments) for part in parts]


def _score_table(
    source: ExperimentsFolder, methods: tuple[str, ...], test_set: str, own: list[Score], experiments: list[Experiment]
) -> Table:
    scales: list[float | None] = [*sorted({s.scale for s in own if s.scale is not None})] or [None]
    # What was measured under another protocol has nothing published beside it.
    same = {s.scale for s in own if s.scale and reference.same_protocol(test_set, s.scale, s.protocol)}
    comparable = [scale if scale in same else None for scale in scales]
    header = ["method", "where", *(f"x{scale}" if scale else "PSNR" for scale in scales), "weights"]
    rows: list[list[Cell | str]] = []
    missing = []
    for name in methods:
        models: dict[tuple[str, str], list[Score]] = {}
        for score in own:
            if reference.method(score.experiment) == name:
                place = (score.model, "" if name == "bicubic" else score.framework)
                models.setdefault(place, []).append(score)
        beside = _published_rows(name, test_set, comparable, experiments)
        if not models and not beside:
            continue
        ours = [_own_row(place, found, scales) for place, found in sorted(models.items(), key=_order)]
        trained = {score.trained_in or score.framework for found in models.values() for score in found}
        absent = [FRAMEWORKS[framework] for framework in FRAMEWORKS if framework not in trained]
        if not models or (absent and name != "bicubic"):
            missing.append(title(name) + (f" in {absent[0]}" if models else ""))
        rows += [[title(name) if i == 0 else "", *row] for i, row in enumerate(beside + ours)]
    heading = set_title(test_set) + (", fractional scales" if isinstance(scales[0], float) else "")
    return Table(heading, header, rows, labels=2, notes=_score_notes(source, own, missing))


def _order(item: tuple[tuple[str, str], list[Score]]) -> tuple[str, int]:
    (_, framework), scores = item
    return scores[0].experiment, list(FRAMEWORKS).index(framework) if framework in FRAMEWORKS else -1


def _published_rows(
    name: str, test_set: str, scales: list[float | None], experiments: list[Experiment]
) -> list[list[Cell | str]]:
    """What the paper has and what the predecessor had, where either has anything at these scales."""
    rows: list[list[Cell | str]] = []
    paper = [_published(test_set, name, scale) for scale in scales]
    if any(value is not None for value in paper):
        rows.append(["published", *map(decibel, paper), ""])
    curve = next((e.curve for e in experiments if e.name == name and e.curve), None)
    for framework, framework_name in FRAMEWORKS.items():
        values = [curve and scale and reference.predecessor(framework, curve, test_set, scale) for scale in scales]
        if any(values):
            rows.append([f"predecessor, {framework_name}", *(decibel(value or None) for value in values), ""])
    return rows


def _published(test_set: str, name: str, scale: float | None) -> float | None:
    """Of EDSR-baseline and RDN the network for this very scale."""
    if scale is None:
        return None
    single = f"{name}-x{scale}"
    return reference.published(test_set, single if name in ("edsr-baseline", "rdn") else name, scale)


def _own_row(place: tuple[str, str], scores: list[Score], scales: list[float | None]) -> list[Cell | str]:
    experiment, (_, framework) = scores[0].experiment, place
    where = FRAMEWORKS.get(framework, "Pillow")
    if experiment != reference.method(experiment):
        where += f", {re.findall('x?[0-9][0-9-]*(?=-|$)', experiment)[0]}"  # x2, or 64-128 of faces
    if scores[0].checkpoint not in ("", "best", "last"):  # a single file, of which there may be several
        where += f", {scores[0].checkpoint.removeprefix(f'{experiment}_')}"
    cells: list[Cell | str] = []
    for scale in scales:
        found = next((score for score in scores if score.scale == scale), None)
        if found is None:
            cells.append(NOTHING)
            continue
        small = [] if found.gap is None else [signed(found.gap)]
        cells.append(Cell("∞" if found.psnr is None else decibel(found.psnr), (*small, f"{found.ssim:.4f}")))
    return [where, *cells, code(scores[0].weights[:8]) if scores[0].weights else ""]


def _score_notes(source: ExperimentsFolder, own: list[Score], missing: list[str]) -> list[str]:
    images = " or ".join(map(str, sorted({score.images for score in own})))
    small = "its difference to the published one and SSIM" if any(score.gap is not None for score in own) else "SSIM"
    notes = [
        f"PSNR in dB, with {small}.",
        f"Protocol {protocols(own)}, {images} images, measured at commit {commits(own)}.",
    ]
    kinds: dict[str, list[str]] = {}
    for score in {score.model: score for score in own if score.checkpoint}.values():
        kind = score.checkpoint if score.checkpoint in ("best", "last") else code(score.checkpoint)
        where = f" ({FRAMEWORKS[score.trained_in]})" if score.trained_in else ""
        kinds.setdefault(kind, []).append(title(score.experiment) + where)
    if kinds:
        notes.append(f"Checkpoint: {_most(kinds)}.")
    models = {score.experiment for score in own}
    trained: dict[str, list[str]] = {}
    for run in source.runs:
        if run.experiment in models:
            trained.setdefault(_trained_on(run), []).append(f"{title(run.experiment)} ({FRAMEWORKS[run.framework]})")
    if trained:
        notes.append(f"Ours were trained on {_most(trained)}.")
    if missing:
        notes.append(f"Not measured: {', '.join(missing)}.")
    return notes


def _most(named: dict[str, list[str]]) -> str:
    """What is so of the most, then each other with the names of those it is so of."""
    most = max(named, key=lambda text: len(named[text]))
    return "; ".join([most, *(f"{', '.join(names)}: {text}" for text, names in named.items() if text != most)])


def _trained_on(run: Run) -> str:
    batch = run.config["train_dataset"]["batch_size"]
    return f"{run.data}, {run.epochs_done} epochs, {run.steps:,} steps of {batch}{run.origin}"

"""One HTML file that needs nothing else: no network, no script, light or dark, wide or on a phone."""

import datetime
import importlib.metadata
import os
import platform
import re
import shlex
from html import escape
from pathlib import Path

from tqdm import tqdm

from liif_core.experiments.listed import Experiment, recipes
from liif_core.report import plots, run_tables, score_tables
from liif_core.report.experiments_folder import FRAMEWORKS, ExperimentsFolder, Run
from liif_core.report.tables import Cell, Table, code, short
from liif_core.system import devices, provenance
from liif_core.system.places import WORK
from liif_core.system.text import title

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59616b; --paper: #fefefe; --line: #d8dce1; --shade: #f3f5f7;
  --torch: #0072b2; --jittor: #d55e00; --torch-pale: #64889f; --jittor-pale: #a87f60; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #a0a8b2; --paper: #16191d; --line: #363c44;
  --shade: #1f242a; --torch: #56b4e9; --jittor: #f0883e; --torch-pale: #7fa3ba; --jittor-pale: #b8977a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 54rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2.2em 0 .6em; } h1 { margin-top: .6em; } h4 { margin: 1.4em 0 .3em; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .25em; }
a { color: var(--torch); }
code, pre { font-family: ui-monospace, monospace; font-size: .875em; background: var(--shade); border-radius: 3px; }
code { padding: .1em .25em; } pre { padding: .7em; overflow-x: auto; } pre code { padding: 0; font-size: 1em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; margin: .4em 0; }
th, td { padding: .25em .5em; text-align: right; vertical-align: top; white-space: nowrap; }
th.label, td.label { text-align: left; }
th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
td small { display: block; color: var(--soft); }
tr.first td { border-top: 1px solid var(--line); }
td:first-child { font-weight: 600; }
.note, figcaption { font-size: .85rem; color: var(--soft); margin: .4em 0 1.2em; }
figure { margin: 1em 0; } figure svg { min-width: 38rem; width: 100%; height: auto; display: block; }
"""

PROTOCOLS = """<p>All figures come from <code>test.py</code>, which was given the checkpoint of each run with the best
validation PSNR (best), or the last one where nothing was validated (last). It counts <code>benchmark-S</code> as PSNR
of luma with a border of S pixels cut, and <code>div2k-S</code> as PSNR of RGB with a border of S + 6 pixels cut, S
being the scale, rounded up. SSIM is always that of luma: an 11x11 Gaussian window with sigma 1.5, the same border. The
mean is over images. Predictions are clamped to [0, 1] and not rounded; bicubic output is already 8-bit. x2, x3 and x4
take the low-resolution images of the set; at every other scale s the original, h pixels high, is cut to round(floor(h /
s) s) and downsampled to floor(h / s) with Pillow's bicubic, its width likewise.</p>
<p>A small figure with a sign is the difference to the published PSNR above it; the other small one is SSIM. The
published networks were trained on DIV2K for 1000 epochs; the tables say what ours were trained on. A dash means that
nothing was measured or published. <em>Weights</em> are the first digits of the file's SHA-256.</p>
<p>The predecessor's scores were measured at epoch 100 in PyTorch and at the best epoch in Jittor. Its Jittor code
downsampled images with height and width swapped, so its Jittor scores at x6 and above are too low. The sources are in
<code>reference/README.md</code>.</p>"""

CURVES = """<p>The runs were trained on {data}, and validated as each run's config says.</p>"""
PREDECESSOR = """<p>Dashed lines are the predecessor's, LIIF-Jittor by WindATree and EmoLorry. It trained on DIV2K, 16
crops a step, with a learning rate that never fell, and validated on crops of DIV2K that were cut anew each time:
compare the shapes, not the heights. It is left out where runs used other images. Where it is shown, the epochs are on
a logarithmic axis, so that short and long runs can be seen together.</p>"""


def render(sources: list[ExperimentsFolder], experiments: list[Experiment]) -> str:
    """The page of some experiments folders."""
    sections = [_section(source, experiments) for source in sources]
    today = datetime.date.today()
    names = ", ".join(f'<a href="#{escape(_anchor(source))}">{escape(source.name)}</a>' for source in sources)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>LIIF in PyTorch and Jittor: what was measured</title><style>{STYLE}</style></head><body>
<h1>LIIF in PyTorch and Jittor: what was measured</h1>
<p>LIIF upscales an image by any factor (Chen, Liu, Wang, CVPR 2021, arXiv 2012.09161). This project implements it
twice, in PyTorch and in Jittor, over one core that decides what is sampled and how it is scored. Below are the
experiments of the paper in both frameworks, compared with the published figures.</p>
<p>Experiments: {names}. Then: <a href="#protocol">how it was measured</a>, <a href="#commands">how to make it
again</a>, <a href="#environment">environment</a>.</p>
{"".join(sections)}
<h2 id="protocol">How it was measured</h2>{PROTOCOLS}
<h2 id="commands">How to make it again</h2>{_commands(sources)}
<h2 id="environment">Environment</h2>{_environment(today)}
</body></html>
"""


def _anchor(source: ExperimentsFolder) -> str:
    return "experiments-" + re.sub(r"[^\w.-]", "-", source.name)


def _section(source: ExperimentsFolder, experiments: list[Experiment]) -> str:
    parts = [f'<h2 id="{escape(_anchor(source))}">Experiments {escape(source.name)}</h2>']
    groups = by_experiment(source, experiments)
    if groups:
        parts += [_figures_intro(source), _summary(groups) if len(groups) > 1 else "", _missing(source, experiments)]
    for topic in score_tables.TOPICS:
        tables = score_tables.topic_tables(source, topic, experiments)
        if tables:
            parts.append(f"<h3>{escape(topic.title)}</h3><p>{escape(topic.text)}</p>")
            parts += [table_html(table) for table in tables]
    others = score_tables.other_tables(source, experiments)
    if others:
        parts += ["<h3>More that was measured</h3>", *(table_html(table) for table in others)]
    frameworks = run_tables.framework_table(source)
    if frameworks:
        parts.append("<h3>How far PyTorch and Jittor are apart</h3>" + table_html(frameworks, heading=False))
    if groups:
        parts.append("<h3>Curves of every experiment</h3>")
        parts += [_experiment(*item) for item in tqdm(groups.items(), desc=f"plots of {source.name}", disable=None)]
        parts.append("<h3>Runs</h3>" + table_html(run_tables.run_table(source), heading=False))
    return "\n".join(parts)


def by_experiment(source: ExperimentsFolder, experiments: list[Experiment]) -> dict[str, tuple[list[Run], str | None]]:
    """The runs of each experiment and its curve's name: the known ones in their order, then all others."""
    curves = {experiment.name: experiment.curve for experiment in experiments}
    names = [name for name in curves if any(run.experiment == name for run in source.runs)]
    names += [name for name in dict.fromkeys(run.experiment for run in source.runs) if name not in curves]
    return {name: ([run for run in source.runs if run.experiment == name], curves.get(name)) for name in names}


def _figures_intro(source: ExperimentsFolder) -> str:
    data = ", ".join(escape(name) for name in sorted({run.data for run in source.runs}))
    return CURVES.format(data=data) + (PREDECESSOR if any(run.on_div2k for run in source.runs) else "")


def _summary(groups: dict[str, tuple[list[Run], str | None]]) -> str:
    caption = "Validation PSNR of all experiments on the same axes; the figure is the best epoch's."
    return _figure(plots.svg(plots.summary_figure(groups)), caption)


def _missing(source: ExperimentsFolder, experiments: list[Experiment]) -> str:
    """Of the group `paper`, unless the runs are of another kind, or of one experiment alone."""
    have = {(run.experiment, run.framework) for run in source.runs}
    known = [experiment.name for experiment in experiments if experiment.group == "paper"]
    if len({run.experiment for run in source.runs}) == 1 or not any(run.experiment in known for run in source.runs):
        return ""
    missing = []
    for name in known:
        absent = [FRAMEWORKS[framework] for framework in FRAMEWORKS if (name, framework) not in have]
        if absent:
            missing.append(title(name) + (f" ({absent[0]})" if len(absent) < len(FRAMEWORKS) else ""))
    return f'<p class="note">Not run: {escape(", ".join(missing))}.</p>' if missing else ""


def _experiment(name: str, found: tuple[list[Run], str | None]) -> str:
    those, curve = found
    sentences = []
    for run in those:
        batch, pace = run.config["train_dataset"]["batch_size"], run.config["optimizer"]["args"]["lr"]
        steps = run.config.get("multi_step_lr")
        falls = f"times {steps['gamma']:g} after {', '.join(map(str, steps['milestones']))}" if steps else "constant"
        if cosine := run.config.get("cosine_lr"):
            falls = f"falling as a cosine to {cosine['lr_min']:g}"
        sentences.append(
            f"{run.data}, {run.epochs_done} of {run.config['epoch_max']} epochs, "
            f"{run.steps:,} steps of {batch}, learning rate {float(pace):g}, {falls}{run.origin}."
        )
    if len(sentences) == 2 and len(set(sentences)) == 1:
        sentences = [f"Both: {sentences[0]}"]
    else:
        sentences = [f"{FRAMEWORKS[run.framework]}: {text}" for run, text in zip(those, sentences, strict=True)]
    absent = [FRAMEWORKS[f] for f in FRAMEWORKS if f not in {run.framework for run in those}]
    sentences += [f"Not run in {framework}." for framework in absent]
    figure = _figure(plots.svg(plots.experiment_figure(those, curve)), " ".join(sentences))
    return f"<h4>{escape(title(name))}</h4>{figure}"


def _figure(drawing: str, caption: str) -> str:
    labelled = drawing.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
    return f'<figure><div class="scroll">{labelled}</div><figcaption>{escape(caption)}</figcaption></figure>'


def table_html(table: Table, heading: bool = True) -> str:
    """A table that scrolls by itself where it is wider than the page, with its notes below."""
    kinds = ['class="label"' if i < table.labels else "" for i in range(len(table.header))]
    head = "".join(f"<th {kind}>{escape(name)}</th>" for kind, name in zip(kinds, table.header, strict=True))
    body = ""
    for row in table.rows:
        cells = "".join(f"<td {kind}>{_cell(cell)}</td>" for kind, cell in zip(kinds, row, strict=True))
        first = ' class="first"' if row[0] else ""
        body += f"<tr{first}>{cells}</tr>\n"
    notes = "".join(f'<p class="note">{_coded(note)}</p>' for note in [" ".join(table.notes)] if note)
    title = f"<h4>{escape(table.title)}</h4>" if heading else ""
    return (
        f'{title}<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>{notes}'
    )


def _cell(cell: Cell | str) -> str:
    if isinstance(cell, str):
        return _coded(cell)
    return _coded(cell.main) + "".join(f"<small>{_coded(small)}</small>" for small in cell.small)


def _coded(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _commands(sources: list[ExperimentsFolder]) -> str:
    lines = []
    folders = [shlex.quote(str(_place(source.folder))) for source in sources]
    for source, folder in zip(sources, folders, strict=True):
        if source.runs:
            lines.append(f"bash batch_0.sh --framework both --recipe RECIPE --save-dir {folder}")
            lines.append(f"python scripts/batch_test_simple.py --save-dir {folder} --frameworks both")
        else:
            lines.append(f"python scripts/batch_test_simple.py --models FILE bicubic --output {folder}")
    lines.append("python scripts/report.py " + " ".join(folders))
    *others, last = (f"<code>{escape(recipe)}</code>" for recipe in recipes())
    return f"""<pre><code>{escape(chr(10).join(lines))}</code></pre>
<p><code>RECIPE</code> is {", ".join(others)} or {last}. Each run folder keeps its
whole config in <code>config.yaml</code>, with what was changed by <code>--set</code>.</p>"""


def _place(folder: Path) -> Path:
    """A folder as it is typed in the repository's root; installed, in the working directory."""
    whole, root = (Path(os.path.abspath(path)) for path in (folder, WORK))  # save/ may be a link to another disk
    if whole.is_relative_to(root / "results"):  # what is kept there was made in save/
        return Path("save", whole.relative_to(root / "results"))
    return whole.relative_to(root) if whole.is_relative_to(root) else folder


def _environment(today: datetime.date) -> str:
    rows: list[list[Cell | str]] = [
        ["Python", platform.python_version()],
        ["system", f"{platform.system()} {platform.machine()}"],
    ]
    cpu = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpu.read_text(errors="replace")) if cpu.exists() else None
    rows.append(["processor", model[1] if model else platform.machine()])
    rows.append(["GPUs", str(devices.count_gpus())])
    for package in ("torch", "jittor", "numpy", "pillow", "matplotlib"):
        try:
            rows.append([package, importlib.metadata.version(package)])
        except importlib.metadata.PackageNotFoundError:
            rows.append([package, "not installed"])
    rows.append(["commit", code(short(provenance.commit() or ""))])
    table = table_html(Table("", ["what", "version"], rows, labels=2), heading=False)
    when = f"{today.day} {today:%B %Y}"
    return f"<p>Where this page was made, on {when}. The commit of a run is shown beside the run.</p>{table}"

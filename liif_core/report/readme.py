"""What the repository keeps of its experiments in results/, and the tables made from it in the documents.

A table is between `<!-- table: NAME FOLDER -->` and `<!-- end -->`, each on a line of its own. The names are the
keys of TABLES, the folder is one of results/; without one it is DEFAULT. The table `compared` is of what
compare_methods.py --keep left there, without a folder in COMPARED; `samplers` of what benchmarks/samplers.py wrote.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path

from liif_core.errors import UserError
from liif_core.experiments import listed
from liif_core.report import config_reference, experiments_folder, methods, run_tables, samplers, score_tables, tables
from liif_core.report.experiments_folder import ExperimentsFolder
from liif_core.report.tables import Table
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import CODE

RESULTS = CODE / "results"
DEFAULT = "pretrained"
COMPARED = "compared"  # what compare_methods.py --keep leaves there
DOCUMENTS = {
    "README.md": "en",
    "README.zh-CN.md": "zh",
    "docs/testing.md": "en",
    "docs/zh-CN/testing.md": "zh",
    "docs/compare.md": "en",
    "docs/configs.md": "en",
    "docs/photographs.md": "en",
    "results/README.md": "en",
}

TABLES: dict[str, Callable[[ExperimentsFolder, str], list[Table]]] = {
    "bicubic": lambda kept, language: [tables.bicubic_table(kept.scores, language)],
    "pretrained": lambda kept, language: [tables.pretrained_table(kept.scores, language)],
    "fractional": lambda kept, language: [tables.pretrained_table(kept.scores, language, whole=False)],
    "degraded": lambda kept, language: [tables.degraded_table(kept.scores, language)],
    "scores": lambda kept, _: score_tables.all_tables(kept, listed.read()),
    "runs": lambda kept, _: [run_tables.run_table(kept)],
    "frameworks": lambda kept, _: list(filter(None, [run_tables.framework_table(kept)])),
}


def _from_code(name: str) -> Callable[[ExperimentsFolder, str], list[Table]]:
    """A table of docs/configs.md, which shows the code and no experiments."""
    return lambda kept, language: [config_reference.table(name)]


TABLES |= {name: _from_code(name) for name in config_reference.TABLES}


def rewrite(text: str, name: str, results: Path = RESULTS) -> str:
    """The document `name` with every marked table written anew.

    Raises UserError for a marker that is unknown or left open, and for a folder that is not there.
    """
    begins = re.findall(r"<!-- table: (.*?) -->", text)
    unknown = [begin for begin in begins if begin.split()[0] not in (*TABLES, "compared", "samplers")]
    if unknown or not begins:
        markers = ", ".join(f"<!-- table: {known} -->" for known in TABLES)
        raise UserError(f"{name}: {f'no table {unknown[0]!r}' if unknown else 'no marked table'}; known are {markers}")
    pattern = re.compile(r"(<!-- table: (.*?) -->\n)((?:(?!<!-- table: ).)*?)(<!-- end -->)", re.DOTALL)
    if len(pattern.findall(text)) != len(begins):
        raise UserError(f"{name}: a table's marker needs a line of its own, and <!-- end --> after the table")
    return pattern.sub(lambda found: f"{found[1]}\n{_made(found[2], DOCUMENTS[name], results)}\n\n{found[4]}", text)


def _made(marker: str, language: str, results: Path) -> str:
    kind, _, name = marker.partition(" ")
    if kind == "compared":  # no experiments folder
        return tables.markdown(methods.table(methods.read_csv(results / (name or COMPARED) / "table.csv")))
    if kind == "samplers":
        return tables.markdown(samplers.table(samplers.read(results / name)))
    made = TABLES[kind](experiments_folder.load(results / (name or DEFAULT)), language)
    titles = [f"**{table.title}**\n\n" if len(made) > 1 else "" for table in made]
    return "\n\n".join(title + tables.markdown(table) for title, table in zip(titles, made, strict=True))


def write() -> None:
    """Write the marked tables of all documents anew."""
    for name in DOCUMENTS:
        path = CODE / name
        if not path.exists():
            raise UserError(f"no {path}: its tables cannot be written")
        before = path.read_text(encoding="utf-8")
        after = rewrite(before, name)
        write_atomically(path, after.encode())
        print(f"{name}: {'as before' if after == before else 'tables written anew'}")


def keep(one: ExperimentsFolder, results: Path) -> None:
    """Copy what a report is made of into results/<its name>: scores, configs, the epochs of the logs, and
    its curves as one image. Weights and the losses of single steps stay behind.
    """
    from liif_core.report import page, plots  # matplotlib takes a second

    folder = results / one.name
    check_writable(folder / "scores.csv")
    if one.scores:
        write_atomically(folder / "scores.csv", (one.folder / "scores.csv").read_bytes())
    for run in one.runs:
        name = f"{run.experiment}_{run.framework}"
        (folder / name).mkdir(exist_ok=True)
        write_atomically(folder / name / "config.yaml", (one.folder / name / "config.yaml").read_bytes())
        lines = "".join(json.dumps(record) + "\n" for record in run.epochs)
        write_atomically(folder / name / "metrics.jsonl", lines.encode())
    groups = page.by_experiment(one, listed.read())
    if groups:
        single = plots.experiment_figure(*next(iter(groups.values())))
        plots.save_png(plots.summary_figure(groups) if len(groups) > 1 else single, folder / "curves.png")
    print(f"{folder}: {len(one.runs)} runs, {len(one.scores)} scores")

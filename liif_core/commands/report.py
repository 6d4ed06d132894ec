"""The command of scripts/report.py: experiments in, results out.

An experiments folder is what batch_0.sh and batch_test_simple.py filled. --keep copies what reports are made of into
results/, --readme writes the tables of the documents from there. Without them, or with --html or --plots, the page and
the plots are made of the folders.
"""

from pathlib import Path

from liif_core.errors import UserError
from liif_core.experiments import listed
from liif_core.report import experiments_folder, readme
from liif_core.system import packages
from liif_core.system.arguments import Parser
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import INSTALLED, WORK


def find_folders(folders: list[Path]) -> list[experiments_folder.ExperimentsFolder]:
    """The named folders, or all below save/."""
    found = folders or experiments_folder.below(WORK / "save")
    if not found:
        raise UserError(
            "no experiments folder: name one like save/bsds400, or run batch_0.sh and scripts/batch_test_simple.py"
        )
    loaded = [experiments_folder.load(folder) for folder in found]
    named = {one.name: one.folder for one in loaded}
    for one in loaded:  # results/, plots and sections of the page go by the name
        if named[one.name] != one.folder:
            raise UserError(f"{one.folder} and {named[one.name]} have one name: name one of them, or rename a folder")
    return loaded


def write_plots(sources: list[experiments_folder.ExperimentsFolder], folder: Path) -> None:
    """One PNG for each experiment of each folder, and the summary."""
    from liif_core.report import page, plots

    for one in sources:
        groups = page.by_experiment(one, listed.read())
        figures = {f"{name}.png": plots.experiment_figure(*found) for name, found in groups.items()}
        if groups:
            figures["summary.png"] = plots.summary_figure(groups)
        for name, figure in figures.items():
            path = folder / one.name / name
            check_writable(path)
            plots.save_png(figure, path)
        print(f"{folder / one.name}: {len(figures)} plots")


def main() -> int:
    """Returns the exit status."""
    parser = Parser(description="Tables and plots of experiments, and the tables of the documents.")
    parser.add_argument(
        "folders", nargs="*", type=Path, help="experiments folders like save/bsds400 (default: all below save/)"
    )
    parser.add_argument("--html", type=Path, help="the page to write (default: save/report.html)")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="write the plots there too, as PNG")
    parser.add_argument("--keep", action="store_true", help="copy scores, configs and curves into results/")
    parser.add_argument("--readme", action="store_true", help="write the tables of the documents from results/")
    arguments = parser.parse_args()
    if INSTALLED and (arguments.keep or arguments.readme):
        raise UserError("--keep, --readme: results/ is not part of what pip installs; run this in the repository")
    only_readme = arguments.readme and not (arguments.folders or arguments.keep or arguments.html or arguments.plots)
    sources = [] if only_readme else find_folders(arguments.folders)
    if arguments.keep:
        for one in sources:
            readme.keep(one, readme.RESULTS)
    if arguments.readme:
        readme.write()
    if (arguments.keep or arguments.readme) and not (arguments.html or arguments.plots):
        return 0
    output = arguments.html or WORK / "save" / "report.html"
    check_writable(output)
    packages.load("matplotlib.figure", "matplotlib>=3.8")
    from liif_core.report import page  # matplotlib takes a second, which --readme does not need

    write_atomically(output, page.render(sources, listed.read()).encode())
    print(f"{output}: {', '.join(one.name for one in sources)}, {output.stat().st_size / 1e6:.1f} MB")
    if arguments.plots:
        write_plots(sources, arguments.plots)
    return 0

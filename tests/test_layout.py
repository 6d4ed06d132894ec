"""The layout that docs/code.md describes: imports run down one list, in no circle, and files stay short.

Imports within functions count as well: what is loaded late is still needed.
"""

import ast
import graphlib
import re
from pathlib import Path

import pytest

from helpers import ROOT

# From what people type down to the ground: a module imports from its own entry and from those below it.
CORE = (
    "__main__",
    "commands",
    "report",
    "experiments",
    "training",
    "evaluation",
    "download",
    "inference",
    "data",
    "checkpoints",
    "images",
    "diffusion",
    "config",
    "engine",
    "geometry",
    "system",
    "errors",
    "__init__",
)
TREE = (
    "train",
    "test",
    "demo",
    "sample",
    "__init__",
    "datasets",
    "engine",
    "methods",
    "losses",
    "networks",
    "updates",
    "optim",
    "distributed",
    "models",
)
MODELS = (
    "build",
    "decoders",
    "encoders",
    "discriminators",
    "denoisers",
    "extractors",
    "layers",
    "registry",
    "__init__",
)
ORDERS = {
    "liif_core": CORE,
    "liif_torch": TREE,
    "liif_jittor": TREE,
    "liif_torch.models": MODELS,
    "liif_jittor.models": MODELS,
}

MOST_ENTRIES = 19  # of liif_core/
MOST_LINES = 250
LONGER = {
    "docs/figures/draw_liif.py": "one function for each figure of docs/liif.md",
    "benchmarks/long_run.py": "runs, measures and plots one experiment",
    "liif_core/data/wrappers.py": "every wrapper beside what it shares with the others",
    "liif_core/engine.py": "the contract whole, with what each call promises",
    "liif_core/images/vips.py": "what libvips does to each format, kept side by side",
    "liif_core/inference/plan.py": "arguments to names and sizes, with every sentence that refuses them",
    "liif_core/system/jittor_setup.py": "all that Jittor needs before its import, standard library alone",
    "liif_torch/models/decoders/bands.py": "the kernel, what it is compiled for, and its trial before use",
    "scripts/demo_web.py": "one page of gradio, layout and callbacks",
}


def modules(package: str) -> dict[str, Path]:
    """The modules below a package by their dotted names; that of a folder is its __init__."""
    folder = ROOT / package.replace(".", "/")
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in folder.rglob("*.py")}


def imports(path: Path, known: set[str]) -> set[str]:
    """Those of the `known` modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import, whose order is not looked at"
            names = [f"{node.module}.{alias.name}" for alias in node.names] + [node.module or ""]
            names = names[:-1] if set(names[:-1]) <= known else names
        found |= {form for name in names for form in (name, f"{name}.__init__") if form in known}
    return found


def graph(package: str) -> dict[str, set[str]]:
    """Which modules of a package each of its modules imports."""
    paths = modules(package)
    return {name: imports(path, set(paths)) - {name} for name, path in paths.items()}


def upward(edges: dict[str, set[str]], package: str, order: tuple[str, ...]) -> list[str]:
    """The imports that run from an entry of a package to one above it."""
    place = {entry: number for number, entry in enumerate(order)}
    depth = package.count(".") + 1
    found = []
    for name, targets in edges.items():
        for target in targets:
            here, there = (module.split(".")[depth] for module in (name, target))
            if place[there] < place[here]:
                found.append(f"{name} imports {target}")
    return sorted(found)


@pytest.mark.parametrize("package", ORDERS)
def test_imports_run_down_the_list(package):
    entries = {path.stem for path in (ROOT / package.replace(".", "/")).iterdir() if path.suffix in ("", ".py")}
    assert entries - {"__pycache__"} == set(ORDERS[package]), "what is new needs its place in the list"
    edges = graph(package)
    assert sum(map(len, edges.values())) > len(edges) / 2
    assert upward(edges, package, ORDERS[package]) == []


@pytest.mark.parametrize("package", ("liif_core", "liif_torch", "liif_jittor"))
def test_modules_do_not_import_each_other_in_a_circle(package):
    list(graphlib.TopologicalSorter(graph(package)).static_order())  # CycleError names the circle


def test_an_import_that_runs_up_is_seen(tmp_path):
    path = tmp_path / "late.py"
    path.write_text("def f():\n    from p.high import thing\n    import p.low.one\n    from p.low import two, other\n")
    known = {"p.high", "p.low.one", "p.low.two", "p.low.__init__"}
    assert imports(path, known) == known
    edges = {"p.low.one": {"p.high"}, "p.high": {"p.low.two"}}
    assert upward(edges, "p", ("high", "low")) == ["p.low.one imports p.high"]


def test_the_page_about_the_code_lists_the_core_in_this_order_and_names_every_module():
    listing = (ROOT / "docs" / "code.md").read_text(encoding="utf-8").partition("    liif_torch/ ")[0]
    entries = re.findall(r"^ {6}(\w+)(?:/|\.py) ", listing, flags=re.M)
    assert entries == [entry for entry in CORE if not entry.startswith("__")]
    named = set(re.findall(r"\w+", listing))
    assert {name.split(".")[-1] for name in modules("liif_core")} - {"__init__", "__main__"} <= named


def test_the_core_has_few_entries():
    assert len([path for path in (ROOT / "liif_core").iterdir() if path.name != "__pycache__"]) <= MOST_ENTRIES


def test_files_are_short_or_say_why_not():
    folders = ("liif_core", "liif_torch", "liif_jittor", "scripts", "benchmarks", "docs", "examples")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 100
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in paths}
    long = {name: length for name, length in lengths.items() if length > MOST_LINES}
    assert long.keys() == LONGER.keys(), long

"""What the documents promise: links lead somewhere, commands, functions and tests that they name exist."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import liif_core
from helpers import ROOT
from liif_core.commands import doctor
from liif_core.config import load

PATTERNS = ("*.md", "[a-z]*/*.md", "docs/*/*.md")
DOCUMENTS = sorted(path.relative_to(ROOT) for pattern in PATTERNS for path in ROOT.glob(pattern))
DOCUMENTS = [path for path in DOCUMENTS if path.parts[0] not in ("load", "save", "demo_out", "demo_result")]
READMES = ("README.md", "README.zh-CN.md")
TRANSLATED = [path.name for path in sorted((ROOT / "docs" / "zh-CN").glob("*.md"))]
TWINS = [READMES, *((f"docs/{name}", f"docs/zh-CN/{name}") for name in TRANSLATED)]
CODE = ("liif_core", "liif_torch", "liif_jittor")
# `name` or `Class.name` in [file](../path); a point ends what is said of the file unless it is within a name
SAID_TO_BE_IN = r"((?:[^.:;(|\n]|\.(?=\w))*?) in \[[^\]]*\]\((?:\.\./)+([\w/]+\.py)\)"
LONGEST_README = 1600  # words, tables aside
LARGEST_IMAGE = 150 * 1024  # bytes
LARGEST_DETAILS = 600 * 1024  # of photographs' crops side by side, as PNG


def text(document) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def without_code(document) -> str:
    """The text without indented and fenced code, in which # is a comment."""
    plain = re.sub(r"^```.*?^```", "", text(document), flags=re.M | re.S)
    return re.sub(r"^    .*$", "", plain, flags=re.M)


def headings(document) -> list[str]:
    return re.findall(r"^(#+ .*)$", without_code(document), flags=re.M)


def anchors(document) -> set[str]:
    """The anchors that GitHub makes of headings."""
    titles = (heading.lstrip("# ").lower() for heading in headings(document))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


def commands(document) -> list[str]:
    """The lines of code that begin a command; comments aside."""
    lines = re.findall(r"^ {4}((?:python|bash|make|source|cd|for|cp|pip|liif) [^#\n]*)", text(document), flags=re.M)
    return [line.strip() for line in lines]


def names_in(path: Path) -> set[str]:
    """Functions, classes and variables that a Python file defines, at any depth."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere_and_nothing_is_left_open(document):
    assert not re.search(r"@[A-Z]+@", text(document))
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", text(document)):
        if target.startswith("http"):
            continue
        place = (ROOT / document).parent / target if target else ROOT / document
        assert place.exists(), target
        if anchor:
            assert anchor in anchors(place), f"{target}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_functions_stand_in_the_files_that_are_said_to_hold_them(document):
    assert not re.search(r"\w` in the same \|", text(document)), "a cell names the file itself"
    for before, path in re.findall(SAID_TO_BE_IN, text(document)):
        for owner, name in re.findall(r"`(?:(\w+)\.)?(\w+)`", before):
            assert {owner, name} - {""} <= names_in(ROOT / path), f"{owner}.{name} in {path}"


@pytest.mark.parametrize("document", ["docs/code.md", "CONTRIBUTING.md"])
def test_files_that_the_pages_about_the_code_name_exist(document):
    folders = "|".join((*CODE, "tests", "scripts", "docs", "benchmarks", "configs", "reference"))
    paths = re.findall(rf"`((?:{folders})/[\w./-]+)`", text(document))
    assert len(paths) > 5
    installed = "liif_core/shipped/"  # no folder of the checkout
    assert [path for path in paths if path != installed and not (ROOT / path).exists()] == []


def test_functions_that_the_pages_about_the_code_name_exist():
    """`module.function` and `Class.method` anywhere in the core or a tree."""
    files = {path: names_in(path) for tree in CODE for path in (ROOT / tree).rglob("*.py")}
    pages = ["docs/code.md", *((ROOT / "benchmarks" / "results").glob("*.md"))]
    pairs = [pair for page in pages for pair in re.findall(r"`(\w+)\.(\w+)(?:\([^`]*)?`", text(page))]
    pairs = [(owner, name) for owner, name in pairs if name not in ("py", "md", "txt", "yaml", "csv")]
    assert len(pairs) > 20
    for owner, name in pairs:
        assert any(name in names and (owner == path.stem or owner in names) for path, names in files.items()), owner


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_tests_that_are_named_exist(document):
    for file, name in re.findall(r"(tests/(?:\w+/)?test_\w+\.py)::(\w+)", text(document)):
        assert name in names_in(ROOT / file), f"{file}::{name}"


def test_the_pages_for_readers_name_code_and_tests():
    """So that the patterns above cannot silently match nothing."""
    assert len(re.findall(r"`\w+` in \[", text("docs/liif.md"))) >= 6
    dotted = [name for before, _ in re.findall(SAID_TO_BE_IN, text("docs/migration.md")) for name in before.split("`")]
    assert {"Updater.step", "Network.queries", "Engine.begin_step"} <= set(dotted)
    assert len(re.findall(r"tests/(?:\w+/)?test_\w+\.py::\w+", text("docs/migration.md"))) >= 25


@pytest.mark.parametrize("document", READMES)
def test_scripts_and_configs_that_the_readme_names_exist(document):
    readme = text(document)
    scripts = set(re.findall(r"(?:python|bash) ((?:\w+/)?[\w-]+\.(?:py|sh))", readme))
    assert len(scripts) > 12
    for script in scripts:
        assert (ROOT / script).exists() or (ROOT / "liif_torch" / script).exists(), script
    for name in re.findall(r"--config (\S+\.yaml)", readme):
        if "$" not in name:
            load.find(name)


def test_targets_of_make_that_documents_and_workflows_name_exist():
    known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.M))
    workflow = re.findall(r"run: make (\w+)", text(".github/workflows/tests.yml"))
    assert {"lint", "quick", "demo", "test"} <= set(workflow) <= known
    for document in DOCUMENTS:
        assert set(re.findall(r"(?:`|^ {4})make (\w+)", text(document), flags=re.M)) <= known, document


def test_the_workflow_tests_every_python_that_is_supported():
    workflow = yaml.safe_load(text(".github/workflows/tests.yml"))
    versions = workflow["jobs"]["tests"]["strategy"]["matrix"]["python-version"]
    oldest, newest = doctor.OLDEST_PYTHON, doctor.NEWEST_PYTHON
    assert versions == [f"{oldest[0]}.{minor}" for minor in range(oldest[1], newest[1] + 1)]


def test_the_citation_names_this_version():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == liif_core.__version__
    assert citation["preferred-citation"]["title"] in text("README.md")


@pytest.mark.parametrize(("english", "chinese"), TWINS)
def test_a_page_and_its_translation_have_the_same_shape(english, chinese):
    assert [heading.count("#") for heading in headings(english)] == [h.count("#") for h in headings(chinese)]
    assert commands(english) == commands(chinese)
    blocks = [re.split(r"\n{2,}", text(page).strip()) for page in (english, chinese)]
    assert len(blocks[0]) == len(blocks[1])
    marks = r"<!-- (?:table: [\w-]+|end|formats) -->"
    assert re.findall(marks, text(english)) == re.findall(marks, text(chinese))
    images = r"!\[[^\]]*\]\((?:\.\./)*([^)]+)\)"
    assert re.findall(images, text(english)) == re.findall(images, text(chinese))
    for page, other in ((english, chinese), (chinese, english)):
        links = re.findall(r"\]\(([^)#\s]+)\)", text(page).split("\n\n")[1])
        assert [((ROOT / page).parent / link).resolve() for link in links] == [ROOT / other]


def test_the_readme_shows_commands_and_is_one_page():
    assert len(commands("README.md")) > 20 and len(TWINS) > 8
    lines = [line for line in text("README.md").splitlines() if not line.startswith("|")]
    assert sum(len(line.split()) for line in lines) <= LONGEST_README


def test_images_are_small_and_all_are_shown():
    shown = {path.name for path in (ROOT / "docs" / "images").iterdir()}
    for image in (ROOT / "docs" / "images").iterdir():
        assert image.stat().st_size <= (LARGEST_DETAILS if image.name == "compared.png" else LARGEST_IMAGE), image.name
    pages = "".join(text(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
    assert shown == set(re.findall(r"\(images/([\w.-]+)\)", pages))


# What the project once called things. The field's names are image, upscale, video, fix, expected, downsample and
# LIIF's.
FORMER = re.compile(r"picture|enlarg|(?<![a-z])(film|mend)|wanted|shr[aiu]nk|upstream", re.IGNORECASE)
# Arguments that stay as people type them, files named after them, former names that are still read, foreign names.
ALLOWED = re.compile(
    r"--upstream|arguments\.upstream|\"upstream\"|compare_upstream|(from|import) upstream|benchmarks/upstream\.py"
    r"|\"--pictures\"|val_pictures|['\"`,]pictures?['\"`,]|was called a picture|shrink=0\.75"
)


def test_former_words_do_not_come_back():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no checkout of git")
    found = []
    for name in listed.stdout.split():
        if not name.endswith((".py", ".md", ".yaml", ".sh")) or (ROOT / name).samefile(__file__):
            continue
        if name.startswith("results/") and name.endswith(".yaml"):  # configs of runs, as they were written
            continue
        for number, line in enumerate([name, *text(name).splitlines()]):
            if FORMER.search(ALLOWED.sub("", line)):
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n".join(found)

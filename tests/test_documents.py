"""What the documents promise: links lead somewhere, commands name files that exist, nothing waits to be filled in."""

import re

import pytest
from conftest import ROOT

from liif_core import config

DOCUMENTS = sorted(path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/*.md")])
DOCUMENTS = [path for path in DOCUMENTS if path.parts[0] not in ("load", "save", "demo_out")]


def text(document) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_links_lead_somewhere_and_nothing_is_left_open(document):
    assert "@FILL@" not in text(document)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text(document)):
        if not target.startswith("http"):
            assert (ROOT / document).parent.joinpath(target).exists(), target


def test_scripts_and_configs_that_the_readme_names_exist():
    readme = text("README.md")
    scripts = set(re.findall(r"python ((?:liif_torch|liif_jittor|scripts|benchmarks)/\w+\.py)", readme))
    assert len(scripts) > 6
    for script in scripts:
        assert (ROOT / script).exists(), script
    for name in re.findall(r"--config (\S+\.yaml)", readme):
        if "$" not in name:
            config.find(name)

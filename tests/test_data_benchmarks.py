"""The benchmarks of loading run, with few images, and print what they promise. LIIF's code is not needed."""

import sys

import pytest

from helpers.small_run import run

pytestmark = pytest.mark.slow


def table(name: str, *arguments: str) -> list[list[str]]:
    """The cells of the one Markdown table, without its head."""
    result = run([sys.executable, f"benchmarks/{name}.py", *arguments])
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_loading():
    rows = table("loading", "--images", "1", "--runs", "1")
    assert [row[0] for row in rows] == ["ours, `in_memory`", "ours, `bin`", "ours, `bin`, degraded"]
    assert rows[0][2] == rows[0][4] == "1.00"
    assert all(float(cell) > 0 for row in rows for cell in row[1:])


@pytest.mark.nightly
def test_memory_of_loading():
    """Seven images of 8.3 MB more than in the run without: all the page cache's, nothing the processes' own."""
    anonymous, page_cache, _, _ = (float(row[3]) for row in table("loading_memory", "--images", "8", "--workers", "1"))
    assert anonymous < 20 and page_cache > 35

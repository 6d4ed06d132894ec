"""What the tests of the batch scripts and of the sweep share: stub_command.py and what it leaves."""

import json
from pathlib import Path

from helpers import ROOT

PLAN = "LIIF_TEST_PLAN"  # the folder in which a test says what its stubs do, and in which they write what they did
STUB = ROOT / "tests" / "helpers" / "stub_command.py"


def calls(plan: Path, what: str = "begin") -> list[list]:
    """What the stubs did, as [title, gpu, configs, time]."""
    lines = (plan / "calls").read_text().splitlines() if (plan / "calls").exists() else []
    return [record[1:] for record in map(json.loads, lines) if record[0] == what]


def summary(output: str) -> dict[str, str]:
    """First cell -> state, from the table at the end."""
    table = output.rpartition("\nsummary\n")[2].split("\n\n")[0].splitlines()[1:]
    return {line.split()[0]: line.split()[-1] for line in table}


THREE = "edsr-baseline-liif,edsr-baseline-liif-c,edsr-baseline-liif-u"

"""What a command prints, to streams that do not take it; and a Python that lacks what a command needs."""

import os
import subprocess
import sys

import pytest

from helpers import ROOT

# Prints more than a buffer holds, and then says into a file which descriptor a new file gets.
PRINTS = """
import os, sys
sys.path.insert(0, {root!r})
from liif_core.system import process
process.begin()
from tqdm import tqdm
from liif_core.system.streams import lasting_streams
with lasting_streams():
    for number in tqdm(range(300), mininterval=0, disable=False):
        print("Großer 名前", number, "\\udcff")
        tqdm.write("x" * 100)
        print("error: é", file=sys.stderr, flush=True)
    with open("done", "w") as file:
        file.write(str(file.fileno()))
"""


@pytest.mark.parametrize(
    ("ending", "variables"),
    [
        (">/dev/full", {}),
        ("2>/dev/full", {}),
        (">&- 2>&- <&-", {}),
        (">&-", {}),
        ("2>&-", {}),
        ("| head -1", {}),
        (">out", {"PYTHONIOENCODING": "ascii"}),
        (">out", {"PYTHONIOENCODING": "latin-1:strict"}),
        (">out", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        (">out", {}),
    ],
)
def test_work_goes_on_whatever_becomes_of_what_is_printed(tmp_path, ending, variables):
    if "/dev/full" in ending and not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    (tmp_path / "prints.py").write_text(PRINTS.format(root=str(ROOT)), encoding="utf-8")
    command = f"'{sys.executable}' prints.py {ending}"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, env=os.environ | variables, capture_output=True
    )
    assert result.returncode == 0 and b"Traceback" not in result.stderr, result.stderr.decode(errors="replace")
    assert int((tmp_path / "done").read_text()) > 2  # no file took the place of a stream
    if ending == ">out":
        first, *_, last = (line for line in (tmp_path / "out").read_bytes().split(b"\n") if b"er " in line)
        expected = {"": "Großer 名前", "lat": "Gro\xdfer \\u540d\\u524d"}
        encoding = variables.get("PYTHONIOENCODING", "" if not variables else "ascii")[:3]
        text = expected.get(encoding, "Gro\\xdfer \\u540d\\u524d").encode("latin-1" if encoding == "lat" else "utf-8")
        assert first.startswith(text + b" 0 \\udcff") and last.startswith(text + b" 299 ")


ENTRIES = [f"liif_{tree}/{name}.py" for tree in ("torch", "jittor") for name in ("train", "test", "demo", "sample")]
ENTRIES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "scripts").glob("*.py"))
ENTRIES += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "benchmarks").glob("*.py"))
NO_COMMANDS = ("scripts/export_graphs.py", "benchmarks/originals.py", "benchmarks/quiet.py", "benchmarks/upstream.py")

BARE = """
import runpy, sys
plain = list(sys.path)
for name in sys.argv[1:]:
    sys.path[:] = [name.rpartition("/")[0], *plain]
    print("$", name, file=sys.stderr, flush=True)
    try:
        runpy.run_path(name, run_name="__main__")
    except SystemExit as leaving:
        print("status", leaving.code, file=sys.stderr)
    for module in [module for module in sys.modules if module.startswith(("liif", "common"))]:
        del sys.modules[module]
"""


def test_without_the_packages_every_command_says_where_they_are(tmp_path):
    """-S: a Python that has no site-packages."""
    names = [name for name in ENTRIES if name not in NO_COMMANDS]
    command = [sys.executable, "-S", "-E", "-B", "-c", BARE, *names]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stderr
    assert found.count("\nstatus 2") == len(names) > 25, found
    lines = found.splitlines()
    assert len(lines) == 3 * len(names), found
    assert all(line.startswith(f"error: this Python, {sys.executable}, lacks the packages (") for line in lines[1::3])
    assert all("tqdm" in line and "source .venv/bin/activate" in line for line in lines[1::3])


def test_so_do_the_shell_scripts(tmp_path):
    (tmp_path / "python").write_text(f"#!/bin/sh\nexec '{sys.executable}' -S -E -B \"$@\"\n")
    (tmp_path / "python").chmod(0o755)
    scripts = ["batch_0.sh", "liif_jittor/batch_0.sh", "scripts/test-benchmark.sh", "scripts/test-div2k.sh"]
    for script in scripts:
        for python, words in ((tmp_path / "python", "lacks the packages"), (tmp_path / "none", "no such Python")):
            result = subprocess.run(
                ["bash", script, "a", "cpu"],
                cwd=ROOT,
                env=os.environ | {"PYTHON": str(python)},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 2 and words in result.stderr and result.stderr.count("\n") == 1, result.stderr


def test_doctor_and_the_overview_need_no_packages():
    for words in (["--version"], ["--help"], ["doctor", "--quick"]):
        result = subprocess.run(
            [sys.executable, "-S", "-E", "-B", "-m", "liif_core", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert result.stderr == "" and result.stdout, (words, result.stderr)

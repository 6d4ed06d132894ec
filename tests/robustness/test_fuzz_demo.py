"""Two hundred damaged files and odd command lines (fuzz_demo.py runs thousands), and whether its rule bites."""

import random

import pytest

from helpers import made_images
from robustness import fuzz_demo, fuzz_images

CASES = {"images": 120, "arguments": 60, "checkpoints": 30}


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz_demo.KINDS)
def test_nothing_odd_breaks_the_demo(tmp_path, kind):
    counts, culprits = fuzz_demo.run(kind, range(CASES[kind]), seed=7, keep=tmp_path)
    assert sum(counts.values()) == CASES[kind]
    assert not culprits
    assert counts["0"] > CASES[kind] // 20  # some come through


def test_a_case_is_the_same_each_time(tmp_path):
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        words = fuzz_demo.make("arguments", random.Random(3), tmp_path / name / "work")
        files = {path.name: path.read_bytes() for path in tmp_path.glob(f"{name}/work/images/*.png") if path.is_file()}
        made.append(([word.replace(f"/{name}/", "/") for word in words], files))
    assert made[0] == made[1]
    assert len({fuzz_images.damaged(random.Random(seed)) for seed in (1, 1, 2)}) == 2


DONE = "in.png 3x5 -> 6x10 out.png\n"


@pytest.mark.parametrize(
    ("status", "out", "err", "complaint"),
    [
        (0, DONE, "", None),
        (0, DONE + DONE, "", "2 images announced"),
        (0, DONE.replace("6x10", "6x11"), "", "announced"),
        (0, DONE, "a warning\n", "something on stderr"),
        (1, DONE, "Traceback (most recent call last)\nValueError\n", "traceback"),
        (1, DONE, "", "status 1"),
        (0, "", "", "nothing was done"),
        (2, DONE + "1 upscaled, 0 skipped, 1 failed\n", "error: no such image: a\n", None),
        (2, DONE + "1 upscaled, 0 skipped, 2 failed\n", "error: no such image: a\n", "not as many"),
        (2, DONE + "1 upscaled, 0 skipped, 1 failed\n", "error: no such\nimage\n", "without sentences alone"),
        (2, "", "error: no such image: a\n", "0 images announced"),
    ],
)
def test_the_rule_finds_what_it_forbids(tmp_path, status, out, err, complaint):
    before = fuzz_demo.snapshot(tmp_path)
    made_images.write(tmp_path / "out.png", 6, 10)
    found = fuzz_demo.judge([], status, out, err, before, fuzz_demo.snapshot(tmp_path), tmp_path)
    assert complaint in "; ".join(found) if complaint else not found


def test_the_rule_finds_what_is_lost_or_left(tmp_path):
    made_images.write(tmp_path / "mine.png", 3, 5)
    made_images.write(tmp_path / "out.png", 3, 5)
    before = fuzz_demo.snapshot(tmp_path)
    (tmp_path / "mine.png").unlink()
    made_images.write(tmp_path / "out.png", 6, 10)
    (tmp_path / ".writing-abc.png").write_bytes(b"")
    found = "; ".join(fuzz_demo.judge([], 0, DONE, "", before, fuzz_demo.snapshot(tmp_path), tmp_path))
    assert "files are gone: ['mine.png']" in found and "replaced without --overwrite: ['out.png']" in found
    assert "new files: " in found and ".writing-abc.png does not open" in found
    assert "replaced" not in str(fuzz_demo.judge(["--overwrite"], 0, DONE, "", before, before, tmp_path))


DIES = """
import os, time
for line in open(0):
    if int(line) == 1:
        os.kill(os.getpid(), 11)
    elif int(line) == 2:
        time.sleep(60)
    print('{"complaints": [], "ended": "0"}', flush=True)
"""


def test_a_case_that_kills_or_stops_its_child_is_found(tmp_path, monkeypatch):
    (tmp_path / "child.py").write_text(DIES)
    monkeypatch.setattr(fuzz_demo, "__file__", str(tmp_path / "child.py"))
    monkeypatch.setattr(fuzz_demo, "_keep", lambda *_: None)
    counts, culprits = fuzz_demo.run("images", range(4), 0, tmp_path, limit=3)
    assert culprits == {1: ["ended by signal 11"], 2: ["not ended after 3 s"]} and counts["0"] == 2

"""What is typed: numbers, and paths with the home folder and the environment's values in them."""

import sys
from pathlib import Path

import pytest

from liif_core.checkpoints import formats
from liif_core.commands import demo
from liif_core.config import load
from liif_core.data import bin_cache
from liif_core.errors import UserError
from liif_core.experiments import batch_demo, slurm
from liif_core.system.arguments import Parser


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The home folder, in which is `sets/a.png`; and LIIF_TEST_SETS, which names it."""
    (tmp_path / "home" / "sets").mkdir(parents=True)
    (tmp_path / "home" / "sets" / "a.png").write_bytes(b"")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIIF_TEST_SETS", "sets")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def typed(monkeypatch, read, *words):
    monkeypatch.setattr(sys, "argv", ["command", *words])
    return read()


NUMBER, WHOLE = "expected a number like 4 or 1.5, got", "expected a whole number like 4, got"


@pytest.mark.parametrize(
    ("read", "words", "sentence"),
    [
        (demo.parse_arguments, ["-s", "4x"], f"argument --scale/-s/--outscale: {NUMBER} '4x'"),
        (demo.parse_arguments, ["-s", "1,5"], f"--outscale: {NUMBER} '1,5'"),
        (demo.parse_arguments, ["-s", "nan"], f"--outscale: {NUMBER} 'nan'"),
        (demo.parse_arguments, ["--width", "12px"], f"argument --width: {WHOLE} '12px'"),
        (demo.parse_arguments, ["--height", "1.5"], f"argument --height: {WHOLE} '1.5'"),
        (demo.parse_arguments, ["--width", "9" * 9999], f"argument --width: {WHOLE} '{'9' * 40}'"),
        (demo.parse_arguments, ["--zoom", "x8"], f"argument --zoom: {NUMBER} 'x8'"),
        (demo.parse_arguments, ["--fps", "inf"], f"argument --fps: {NUMBER} 'inf'"),
        (demo.parse_arguments, ["--seconds", ""], f"argument --seconds: {NUMBER} ''"),
        (demo.parse_arguments, ["--colour"], "unrecognized arguments: --colour"),
        (batch_demo.main, ["-i", "a.png", "-s", "2,5"], f"{NUMBER} '2,5'"),
        (slurm.read_arguments, ["--cluster", "slurm", "--hours", "2h"], f"argument --hours: {NUMBER} '2h'"),
        (slurm.read_arguments, ["--cluster", "slurm", "--gpus", "a100"], f"argument --gpus: {WHOLE} 'a100'"),
    ],
)
def test_what_is_no_number_is_one_sentence(monkeypatch, read, words, sentence):
    with pytest.raises(UserError) as caught:
        typed(monkeypatch, read, *words)
    assert sentence in str(caught.value)


def test_two_hyphens_end_the_options(monkeypatch):
    found = typed(monkeypatch, demo.parse_arguments, "a.png", "-s", "2", "-o", "x.png", "--", "-dash.png", "--", "-s")
    assert found.images == [Path("a.png"), Path("-dash.png"), Path("--"), Path("-s")]
    assert (found.scale, found.output) == (2, Path("x.png"))


def test_paths_hold_the_home_folder_and_variables(home, tmp_path):
    parser = Parser()
    parser.add_argument("paths", nargs="+", type=Path)
    given = ["~/sets", "$HOME/${LIIF_TEST_SETS}", "$LIIF_TEST_UNKNOWN/a", "~nobody-of-that-name/a", "a$b.png"]
    found = parser.parse_args(given).paths
    assert found == [home / "sets", home / "sets", *map(Path, given[2:])]
    (tmp_path / "$LIIF_TEST_SETS").touch()  # what has the very name is meant
    assert parser.parse_args(["$LIIF_TEST_SETS"]).paths == [Path("$LIIF_TEST_SETS")]


def test_configs_and_checkpoints_are_found_by_them(home):
    assert load.locate_data("~/$LIIF_TEST_SETS") == home / "sets"
    (home / "base.yaml").write_text("epoch_max: 3\n")
    (home / "config.yaml").write_text("base: $HOME/base.yaml\n")
    assert load.read_merged(load.find("~/config.yaml")) == {"epoch_max": 3}
    (home / "m.safetensors").touch()
    assert formats.locate("~/m.safetensors") == home / "m.safetensors"
    for find in (load.find, load.locate_data, formats.locate):
        with pytest.raises(UserError, match=r"^no .*\$LIIF_TEST_UNKNOWN/x"):
            find("$LIIF_TEST_UNKNOWN/x")


@pytest.mark.parametrize(("value", "place"), [("rel", "rel"), ("~/cache", "home/cache"), ("$HOME/c", "home/c")])
def test_the_cache_is_where_the_variable_says(home, tmp_path, monkeypatch, value, place):
    monkeypatch.setenv("LIIF_CACHE", value)
    (found,) = bin_cache.places(home / "sets")
    assert found.parent == tmp_path / place
    (home / "sets" / "a.png").unlink()
    assert bin_cache.open_folder(home / "sets").cache.parent == tmp_path / place  # made, and left where it is

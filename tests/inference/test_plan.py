"""What demo.py decides before anything is upscaled: images, names, sizes."""

import argparse
import os
from pathlib import Path

import pytest

from helpers import made_images
from liif_core.errors import UserError
from liif_core.inference import plan as plans
from liif_core.inference.task import task_of
from liif_core.system import files
from liif_core.system.arguments import Parser


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Call plan.files in an empty folder with a command line."""
    monkeypatch.chdir(tmp_path)
    parser = Parser()
    plans.add_file_arguments(parser)
    plans.add_size_arguments(parser)
    parser.add_argument("--compare", action="store_true")

    def parse(*words):
        return parser.parse_args([*words, "--scale=2"])

    def call(*words):
        return plans.files(parse(*words))

    call.parse = parse
    return call


@pytest.fixture
def several(tmp_path):
    """in/a.png, in/a_compare.png, in/sub/b.jpg"""
    return made_images.folder(
        tmp_path / "in", {"a.png": (3, 5), "a_compare.png": (3, 5), "sub/b.jpg": (3, 5), "sub/up.png": (3, 5)}
    )


def test_an_image_named_twice_is_upscaled_once(plan, several):
    (several / "sub" / "up.png").unlink()
    found = plan("in/a.png", "in", "./in/a.png", str(several / "a.png"), "--output=out")
    assert [output.name for _, output in found] == ["a.png", "a_compare.png"]


def test_a_comparison_replaces_no_result_and_no_image(plan, several):
    with pytest.raises(UserError, match="in/a.png and in/a_compare.png would both become out/a_compare.png"):
        plan("in/a.png", "in/a_compare.png", "--output=out", "--compare")
    with pytest.raises(UserError, match="the result of in/a.png would replace in/a_compare.png"):
        plan("in/a.png", "in/a_compare.png", "--output=in", "--suffix=", "--ext=webp", "--compare")
    assert len(plan("in/a.png", "in/a_compare.png", "--output=out")) == 2


def test_a_comparison_that_is_there_is_kept(plan, several, tmp_path):
    (tmp_path / "a_liif_compare.png").write_text("mine")
    with pytest.raises(UserError, match="a_liif_compare.png exists already"):
        plan("in/a.png", "--compare")
    assert plan("in/a.png", "--compare", "--overwrite")


def test_a_folder_is_looked_through_by_endings_and_where_there_is_none_by_content(plan, several, tmp_path):
    png = (several / "a.png").read_bytes()
    taken = {"b.jfif": "b.jfif", "c.JPE": "c.JPE", "none": "none.png", "at 10.15.33": "at 10.15.33.png"}
    taken |= {"clip.3gp": "clip.mp4", "a.png": "a.png", "a_compare.png": "a_compare.png"}
    left = {"d.jp2": b"\0\0\0\x0cjP  \r\n", "e.heic": b"\0\0\0\x18ftypheic", "f.bak": png, "notes.txt": b"words"}
    left |= {"empty": b"", "g": b"\xff\x0a", ".hidden": b"words"}
    for name in {*taken, *left} - {"a.png", "a_compare.png"}:
        (several / name).write_bytes(left.get(name, png))
    arguments = plan.parse("in", "--output=out")
    assert {source.name: output.name for source, output in plan("in", "--output=out")} == taken
    kinds = "(d.jp2 is JPEG 2000; e.heic is HEIC; f.bak is PNG with another ending; 1 more)"
    rest = "2 files that are no images (empty; notes.txt)"
    assert plans.left_out(arguments) == f"left out: 4 images of other kinds {kinds}, {rest}"
    named = plan.parse("in", "in/d.jp2", "in/g", "in/f.bak")
    assert plans.left_out(named) == f"left out: 1 image of another kind (e.heic is HEIC), {rest}"
    assert plans.left_out(plan.parse("in/sub")) == ""
    (several / "none").write_bytes((several / "sub" / "b.jpg").read_bytes())
    assert plan("in/none")[0][1].name == "none_liif.jpg"
    with pytest.raises(UserError, match="no images in only: .*; left out: 1 image of another kind .x.jp2 is"):
        (tmp_path / "only").mkdir()
        (tmp_path / "only" / "x.jp2").write_bytes(left["d.jp2"])
        plan("only")


@pytest.mark.parametrize("suffix", ["/x", "../x", "a/b", "\0"])
def test_a_suffix_leads_into_no_other_folder(plan, several, suffix):
    with pytest.raises(UserError, match="--suffix .*: it is part of a name"):
        plan("in/a.png", f"--suffix={suffix}")


def test_links_that_lead_in_circles_end(plan, several):
    (several / "self.png").symlink_to("self.png")
    (several / "sub" / "up").symlink_to(several)
    assert len(plan("in", "--recursive")) == 4
    (several / "sub" / "loop.png").symlink_to("loop.png")
    assert plan("in/sub/loop.png", "--output=in/self.png", "--overwrite")  # fails later, when it is read
    with pytest.raises(UserError, match="in/self.png exists already"):
        plan("in/a.png", "--output=in/self.png")


def test_names_that_are_too_long_are_refused_before_the_work(plan, several, tmp_path):
    name = "x" * 300
    for words in ((name,), ("in/a.png", f"--output={name}"), ("in/a.png", f"--output={name}.png")):
        assert len(plan(*words)) == 1
    with pytest.raises(UserError, match="cannot write .*: File name too long"):
        files.check_writable(tmp_path / f"{name}.png")
    with pytest.raises(UserError, match="cannot read .*: File name too long"):
        files.check_readable(tmp_path / name)


@pytest.mark.parametrize("name", ["图" * 80 + ".png", "long" * 62 + ".png"])
def test_the_longest_names_can_be_written(tmp_path, name):
    files.check_writable(tmp_path / name)
    files.write_atomically(tmp_path / name, b"content")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold root back")
def test_a_folder_that_cannot_be_looked_into_is_said(plan, several):
    (several / "sub").chmod(0)
    try:
        assert len(plan("in")) == 2
        with pytest.raises(UserError, match="cannot read in/sub: Permission denied"):
            plan("in", "--recursive")
        for words in (("in/a.png", "--output=in/sub/x.png"), ("in/sub/b.jpg",)):
            assert len(plan(*words)) == 1
    finally:
        (several / "sub").chmod(0o700)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/null")):
        with pytest.raises(UserError, match="is a pipe or a device"):
            files.check_readable(path)


def test_a_size_that_is_none_is_no_size_of_any_image():
    parser = Parser()
    plans.add_size_arguments(parser)
    for words in ([], ["--scale=nan"], ["--height=0"], ["--width=-3"], ["--resolution=3"]):
        with pytest.raises(UserError):
            plans.check_size_arguments(parser.parse_args(words))
    with pytest.raises(UserError, match="--width: expected a whole number like 4, got '9{40}'"):
        plans.check_size_arguments(parser.parse_args([f"--width={'9' * 400}"]))


def test_a_size_that_is_too_large_for_one_image_names_it(several):
    arguments = argparse.Namespace(frames="auto", resolution=None, scale=1e5, width=None, height=None, compare=False)
    with pytest.raises(UserError, match="in/a.png: output size 300000x500000: at most"):
        task_of(several / "a.png", several / "out.png", arguments)
    arguments.scale = 4000
    with pytest.raises(UserError, match="in/a.png: output size 12000x20000: .webp holds at most"):
        task_of(several / "a.png", several / "out.webp", arguments)


def test_a_name_that_is_too_long_for_its_comparison_is_refused_before_the_work(several):
    arguments = argparse.Namespace(frames="auto", resolution=None, scale=2, width=None, height=None, compare=True)
    with pytest.raises(UserError, match="in/a.png: cannot write .*n_compare.png: File name too long"):
        task_of(several / "a.png", several / f"{'n' * 250}.png", arguments)

"""Files and folders that may not be looked at, and who may read what is written."""

import contextlib
import errno
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from liif_core.checkpoints import formats
from liif_core.config import load
from liif_core.data import bin_cache, names
from liif_core.errors import UserError, sentence
from liif_core.images import rgb8
from liif_core.system import files, locks
from liif_core.training import run_folder

LONG = "x" * 300
LOOKS = [load.find, load.locate_data, formats.locate, files.look, files.is_file, files.is_folder]
LOOKS += [lambda path: names.found(Path(path)), lambda path: run_folder.check(Path(path), None, True)]


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder that the system lets nobody enter, root neither; paths are relative to the one around it."""
    monkeypatch.chdir(tmp_path)
    real = {name: getattr(os, name) for name in ("stat", "scandir", "listdir")}

    def closed(name):
        def call(path=".", *arguments, **options):
            if os.fspath(path).startswith("locked"):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
            return real[name](path, *arguments, **options)

        return call

    for name in real:
        monkeypatch.setattr(os, name, closed(name))


@pytest.mark.parametrize("look", LOOKS)
def test_a_place_that_cannot_be_looked_at_is_one_true_sentence(locked, tmp_path, look):
    (tmp_path / "loop").symlink_to("loop")
    for path, reason in (("locked/a", "Permission denied"), (LONG, "File name too long"), ("loop", "Too many levels")):
        with pytest.raises(UserError, match=f"^cannot read {path}: {reason}"):
            look(path)


def test_a_link_that_leads_there_is_said_as_well(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.png").symlink_to("a.png")
    with pytest.raises(UserError, match="cannot read .*a.png: Too many levels of symbolic links"):
        names.image_files(tmp_path / "set")


def test_what_nobody_has_put_into_words_is_said_at_the_end():
    refused, absent = (OSError(number, os.strerror(number), "a/b\n") for number in (errno.EACCES, errno.ENOENT))
    assert sentence(refused) == r"cannot use a/b\n: Permission denied"
    assert sentence(UserError("no")) == "no" and sentence(MemoryError("for 9 GB")) == "not enough memory: for 9 GB"
    assert sentence(absent) is sentence(OSError(errno.EACCES, "no file")) is sentence(KeyError("x")) is None


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "expected"), [(0o077, 0o600), (0o002, 0o664), (0o027, 0o640), (0, 0o666)])
def test_who_may_read_a_new_file_is_what_the_umask_says(tmp_path, mask, expected):
    (tmp_path / "set").mkdir()
    rgb8.write_image(tmp_path / "set" / "a.png", rgb8.read_image(Path(__file__).parents[2] / "examples/chelsea.png"))
    with umask(mask):
        files.write_atomically(tmp_path / "new.txt", b"new")
        cache = bin_cache.open_folder(tmp_path / "set").cache
    assert {mode(path) for path in (tmp_path / "new.txt", *cache.iterdir())} == {expected}


@pytest.mark.parametrize("kept", [0o600, 0o664, 0o400, 0o755])
def test_a_file_that_is_replaced_keeps_who_may_read_it(tmp_path, kept):
    path, previous = tmp_path / "a.txt", tmp_path / "before.txt"
    path.write_bytes(b"old")
    path.chmod(kept)
    with umask(0o022), files.replacing(path, previous) as temporary:
        assert not mode(Path(temporary)) & 0o077 & ~kept  # nor may others read it in between
        Path(temporary).write_bytes(b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", kept)
    assert (previous.read_bytes(), mode(previous)) == (b"old", kept)


def test_a_folder_that_cannot_be_flushed_does_not_undo_a_write(tmp_path, monkeypatch):
    flush = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_one_at_a_time_and_nothing_is_left(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(20):
            with locks.alone(tmp_path / "lock", "does something"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 80 and max(most) == 1 and not list(tmp_path.iterdir())


def test_after_a_kill_between_its_renames_the_next_save_leaves_nothing_behind(tmp_path, monkeypatch):
    path, previous = tmp_path / "last", tmp_path / "previous"
    files.write_atomically(path, b"1", previous)
    files.write_atomically(path, b"2", previous)
    replace = os.replace

    def killed(source, target):
        if Path(target) == path:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        files.write_atomically(path, b"3", previous)
    assert path.samefile(previous) and path.read_bytes() == b"2"
    files.write_atomically(path, b"4", previous)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"last": b"4", "previous": b"2"}

"""The processes that load data: they end with their loader, and when one ends by itself it is a sentence."""

import errno
import gc
import multiprocessing
import os
import signal
import threading
import time

import numpy as np
import pytest

from helpers.small_run import load_tree
from liif_core.data.batching import Batches, checked
from liif_core.data.workers import Lost
from liif_core.errors import UserError
from liif_core.system import devices

LIMIT = 60  # seconds for what takes less than one, on a busy machine


class Slow:
    """Samples that a worker is at for some milliseconds, and that do not fit into a pipe."""

    training = True

    def __len__(self):
        return 4000

    def sample(self, index, epoch):
        time.sleep(0.002)
        return {"inp": np.full((160, 200, 3), index % 251, np.uint8), "process": np.array(os.getpid())}


@pytest.fixture
def make_loader(framework):
    devices.prepare(framework, "cpu")
    return load_tree(framework)()[1]


def begun(make_loader, workers=2):
    """The batches after the first ones, and the workers, each of which has sent one: before that it may still have
    its parent's handlers of signals. Jittor: a worker that starts late leaves its work to the other."""
    before = multiprocessing.active_children()
    loader = checked(make_loader(Batches(Slow(), 2), workers))
    next(loader)
    children = [child for child in multiprocessing.active_children() if child not in before]
    missing = {child.pid for child in children}
    while missing:
        missing.difference_update(np.asarray(next(loader)["process"]).tolist())
    return loader, children


def assert_ended(children):
    for child in children:
        child.join(LIMIT)
        assert child.exitcode is not None


def test_workers_end_when_a_loader_is_left(make_loader):
    """Wherever they are at that moment, in C++ too, and whatever the whole group was told before."""
    for more in (0, 3):
        loader, children = begun(make_loader)
        assert len(children) == 2
        for _ in range(more):
            next(loader)
        for child in children:
            os.kill(child.pid, signal.SIGTERM)  # as a batch system does, while the training saves
        next(loader)
        del loader
        gc.collect()
        assert_ended(children)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_is_a_sentence(make_loader, number, capfd):
    for pause in (0, 0.02):
        loader, children = begun(make_loader)
        threading.Timer(pause, os.kill, (children[0].pid, number)).start()
        with pytest.raises(Lost, match=f"was ended by {number.name}: memory may have run out .lower num_workers"):
            for _ in loader:
                pass
        assert_ended(children)
    assert "rror" not in "".join(capfd.readouterr())  # a framework would tell of a crash at length


def test_a_worker_that_dies_does_not_break_into_what_is_done_meanwhile(make_loader):
    loader, children = begun(make_loader)
    os.kill(children[1].pid, signal.SIGKILL)
    end = time.monotonic() + LIMIT
    while children[1].is_alive() and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(Lost, match="SIGKILL"):
        next(loader)


STARTS = {
    errno.EMFILE: r"\(Too many open files\): lower num_workers, or raise the number of open files \(ulimit -n\)",
    errno.EAGAIN: r"\(Resource temporarily unavailable\): lower num_workers, or raise the number of processes",
    errno.EROFS: r"\(Read-only file system\): they need /dev/shm.*num_workers: 0 does without",
}


@pytest.mark.parametrize("number", STARTS)
def test_workers_that_cannot_be_started_are_a_sentence_and_leave_none(make_loader, monkeypatch, number, capfd):
    before, started = set(multiprocessing.active_children()), []
    start = multiprocessing.process.BaseProcess.start

    def fail(process):
        if len(started) == 2:
            raise OSError(number, os.strerror(number))
        start(process)
        started.append(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", fail)
    with pytest.raises(UserError, match=f"^cannot start 3 processes that load data {STARTS[number]}"):
        next(iter(make_loader(Batches(Slow(), 2), 3)))
    gc.collect()
    assert len(started) == 2 and set(multiprocessing.active_children()) == before
    assert "Exception" not in capfd.readouterr().err

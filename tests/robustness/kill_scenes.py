"""What else may happen to a training: damaged checkpoints, full disks, signals, a second process, ends at every change.

Every scene takes up a run that was killed in its midst and ends, whatever comes between, with the same bytes as
one that nothing disturbed.
"""

import contextlib
import ctypes
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from helpers import numpy_engine
from helpers.run_process import LAST, PREVIOUS, Life, Run, differences
from liif_core.checkpoints import formats
from liif_core.errors import UserError

CLONE_NEWNS = 0x00020000  # from linux/sched.h


def sentence(life: Life, status: int, *parts: str) -> list[str]:
    """Complaints unless a life ended with this status and one sentence with all these parts in it."""
    life.wait()
    said = life.err.strip()
    if life.status != status:
        return [f"status {life.status} instead of {status}: {said[-600:] or life.out[-300:]}"]
    if len(said.splitlines()) != 1:
        return [f"not one sentence: {said[-600:]}"]
    return [f"'{part}' is not in: {said}" for part in parts if part not in said]


def ends_well(trial, run: Run, life: Life | None = None) -> list[str]:
    """Let a run go on to its end, or take the life that does; complaints unless it ends as if nothing had happened."""
    life = life or Life(run)
    if life.wait() != 0:
        return [f"status {life.status}: {life.err.strip()[-600:]}"]
    return differences(run, trial.undisturbed) + life.lives_on()


def lost_too_much(trial, run: Run) -> list[str]:
    """Complaints unless the newest checkpoint is whole and holds all but step_save steps."""
    try:
        lost = run.step() - run.newest()["step"]
    except UserError as error:
        return [f"no whole checkpoint: {error}"]
    return [f"{lost} steps are in no checkpoint"] if not 0 <= lost <= trial.step_save else []


# Damaged checkpoints


def _flip(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGE: dict[str, Callable] = {
    "cut short": lambda data, rng: data[: len(data) * 2 // 3],
    "without its last byte": lambda data, rng: data[:-1],
    "empty": lambda data, rng: b"",
    "zeros": lambda data, rng: bytes(len(data)),  # as after a power cut
    "garbage": lambda data, rng: rng.randbytes(len(data)),
    "a bit of a tensor": lambda data, rng: _flip(data, len(data) - 1 - rng.randrange(1000)),
    "a bit of its step": lambda data, rng: _flip(data, re.search(rb'step\\": \d+', data).end() - 1),
}


def damaged(trial) -> None:
    """The newest checkpoint is damaged or gone: the one before is taken, and a warning names the file."""
    for kind, damage in {**DAMAGE, "deleted": None}.items():
        began, run = time.monotonic(), trial.late(f"damaged {kind}".replace(" ", "-"))
        path, previous = run.folder / LAST, formats.load(run.folder / PREVIOUS).progress["step"]
        content = damage(path.read_bytes(), trial.rng) if damage else None
        if damage:
            path.write_bytes(content)
        else:
            path.unlink()
        life = Life(run)
        faults = ends_well(trial, run, life)
        start = life.start()
        if start != previous:
            faults.append(f"went on from step {start}, the checkpoint before is of {previous}")
        said = [line for line in (life.out + life.err).splitlines() if "warning" in line and LAST in line]
        if damage and len(said) != 1:
            faults.append(f"no warning that names {LAST}: {life.out}{life.err}")
        aside = run.folder / f"damaged-{LAST}"
        if damage and not (aside.exists() and aside.read_bytes() == content):
            faults.append("what was damaged is not set aside")
        trial.add(f"damaged: {kind}", time.monotonic() - began, faults, resumed=start, said="; ".join(said))
    _all_damaged(trial)


def _all_damaged(trial) -> None:
    """The two newest are damaged: one of an epoch is taken. All are: one sentence, and nothing is touched."""
    for which in ("last and previous", "all"):
        began, run = time.monotonic(), trial.late(f"damaged-{which}".replace(" ", "-"))
        paths = [run.folder / LAST, run.folder / PREVIOUS] if which != "all" else run.folder.glob("*.safetensors")
        for path in paths:
            path.write_bytes(bytes(path.stat().st_size))
        before = sorted(path.name for path in run.folder.glob("*.safetensors"))
        life = Life(run)
        if which == "all":
            faults = sentence(life, 2, str(run.folder))
            if before != sorted(path.name for path in run.folder.glob("*.safetensors")):
                faults.append("files were renamed or deleted")
        else:
            faults = ends_well(trial, run, life)
        trial.add(f"damaged: {which}", time.monotonic() - began, faults, resumed=life.start(), said=life.err.strip())


def finished(trial) -> None:
    """What has ended and is asked to go on has nothing to do, and touches nothing that counts."""
    began, run = time.monotonic(), trial.undisturbed.copy(trial.place, "finished")
    kept = {path: path.stat().st_mtime_ns for path in run.folder.glob("epoch-*")}
    faults = ends_well(trial, run)
    faults += [f"{path.name} was written" for path in kept if path.stat().st_mtime_ns != kept[path]]
    trial.add("finished, asked to go on", time.monotonic() - began, faults)


# Full disks


def own_mounts() -> None:
    """What this process mounts from now on vanishes with it, however it ends; does nothing unless it may mount."""
    if os.geteuid() == 0 and ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@contextlib.contextmanager
def small_disk(place: Path, size: int) -> Iterator[bool]:
    """A file system of so many bytes at `place`; False where none can be mounted."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> None:
    """Take what is free on a disk."""
    state = os.statvfs(place)
    for number, size in enumerate((state.f_bavail * state.f_bsize, *[state.f_bsize] * 8)):
        # The process writes meanwhile: what it leaves is taken block by block.
        with contextlib.suppress(OSError), open(place / f"ballast-{number}-{size}", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def make_room(place: Path) -> None:
    """Give back what `fill` took."""
    for path in place.glob("ballast-*"):
        path.unlink()


def full_disk(trial) -> None:
    """The disk is full while something is written: one sentence, the checkpoint is whole, with room it goes on."""
    own_mounts()
    _disk_full_at_checkpoint(trial)
    for name in ("metrics.jsonl", "log.txt"):
        began, run = time.monotonic(), trial.late(f"full-{name}")
        life, path, aside = Life(run), run.folder / name, run.place / f"full-{name}.aside"
        life.has_stepped()
        path.rename(aside)
        path.symlink_to("/dev/full")
        faults = sentence(life, 2, "error: cannot write", name)
        path.unlink()
        aside.rename(path)
        faults += lost_too_much(trial, run) + ends_well(trial, run)
        trial.add(f"disk: full for {name}", time.monotonic() - began, faults, said=life.err.strip())
    began, run = time.monotonic(), trial.late("full-limit")
    life = Life(run)
    life.has_stepped()
    life.limit_files((run.folder / LAST).stat().st_size // 2)
    faults = sentence(life, 2, "error: cannot write") + lost_too_much(trial, run) + ends_well(trial, run)
    trial.add("disk: no file may grow", time.monotonic() - began, faults, said=life.err.strip())
    _disk_full_for_tensorboard(trial)


def _disk_full_at_checkpoint(trial) -> None:
    size = sum(path.stat().st_size for path in trial.late("measured").folder.rglob("*") if path.is_file())
    with small_disk(trial.place / "disk", 2 * size + (1 << 20)) as mounted:
        if not mounted:
            trial.add("disk: full (not tried: no root)", 0, [])
            return
        began, run = time.monotonic(), trial.late("full", trial.place / "disk")
        life = Life(run)
        life.has_stepped()
        fill(run.place)
        faults = sentence(life, 2, "error: cannot write")
        faults += lost_too_much(trial, run)
        faults += [f"left behind: {name}" for name in run.half_files()]
        trial.add("disk: full in training", time.monotonic() - began, faults, said=life.err.strip())
        fill(run.place)
        began, life = time.monotonic(), Life(run)
        faults = sentence(life, 2, "error: ") + lost_too_much(trial, run)
        trial.add("disk: full at the start", time.monotonic() - began, faults, said=life.err.strip())
        make_room(run.place)
        began = time.monotonic()
        faults = ends_well(trial, run)
        trial.add("disk: with room again", time.monotonic() - began, faults)


def _disk_full_for_tensorboard(trial) -> None:
    """Curves are not worth a training: it may warn and go on."""
    began, run = time.monotonic(), trial.late("full-tensorboard")
    with small_disk(run.folder / "tensorboard", 4096) as mounted:
        if not mounted:
            trial.add("disk: full for tensorboard (not tried: no root)", 0, [])
            return
        fill(run.folder / "tensorboard")
        life = Life(run)
        faults = [] if life.wait() == 0 else sentence(life, 2, "error: cannot write", "tensorboard")
    said = [line for line in (life.out + life.err).splitlines() if "tensorboard" in line]
    faults += [] if said else ["no word of tensorboard"]
    faults += ["traceback"] if "Traceback" in life.err else []
    faults += ends_well(trial, run)
    trial.add("disk: full for tensorboard", time.monotonic() - began, faults, said="; ".join(said))


# Signals


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def signals(trial) -> None:
    """Asked to stop, it saves first and says so; what ignores SIGHUP, as under nohup, does not notice it."""
    # A terminal and a job scheduler send it to all processes: the workers, and those in which Jittor compiles.
    ways = {"it": (0, False), "all": (0, True), "all with 2 workers": (2, True)}
    for number, (way, (count, group)) in itertools.product(SIGNALS, ways.items()):
        if trial.framework != "numpy" or not group:
            began, run = time.monotonic(), trial.late(f"{number.name}-{way}".replace(" ", "-"))
            life = Life(run, "--set", f"num_workers={count}")
            life.has_stepped()
            life.stays(trial.rng.uniform(0, trial.undisturbed.seconds() / 10))
            life.kill(number, group)
            life.wait()
            faults = sentence(life, 130, f"stopped at step {run.step()}, saved in {run.folder}", "--resume")
            faults += [] if run.newest()["step"] == run.step() else ["not all steps were saved"]
            faults += life.lives_on() + ends_well(trial, run)
            trial.add(f"{number.name} to {way}", time.monotonic() - began, faults, said=life.err.strip())
    began, run = time.monotonic(), trial.late("twice")
    life = Life(run)
    life.has_stepped()
    life.kill(signal.SIGINT)
    time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        life.kill(signal.SIGINT)
    faults = sentence(life, 130) + lost_too_much(trial, run) + ends_well(trial, run)
    trial.add("SIGINT twice", time.monotonic() - began, faults, said=life.err.strip())
    began, run = time.monotonic(), trial.late("nohup")
    life = Life(run, without_hangup=True)
    life.has_stepped()
    life.kill(signal.SIGHUP)
    trial.add("SIGHUP under nohup", time.monotonic() - began, ends_well(trial, run, life))


# Workers


def workers(trial) -> None:
    """A process that loads data is killed or crashes: a sentence, no step is lost, and it goes on from there."""
    for number in (signal.SIGKILL, signal.SIGSEGV) if trial.framework != "numpy" else ():
        began, run = time.monotonic(), trial.late(f"worker-{number.name}")
        life = Life(run, "--set", "num_workers=2")
        life.has_stepped()
        while life.status is None:  # an epoch's workers may just be at their end
            for pid in sorted(life.family())[-2:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            life.stays(0.2)
        faults = sentence(
            life, 2, f"was ended by {number.name}", f"stopped at step {run.step()}, saved in {run.folder}"
        )
        faults += [] if run.newest()["step"] == run.step() else ["not all steps were saved"]
        faults += life.lives_on() + ends_well(trial, run)
        trial.add(f"{number.name} to a worker", time.monotonic() - began, faults, said=life.err.strip())


# Two processes


def lock(trial) -> None:
    """A second process in a folder refuses and names the first, also while that starts; a killed one leaves it free."""
    began, run = time.monotonic(), trial.late("locked")
    first = Life(run)
    first.has_stepped()
    second = Life(run)
    faults = sentence(second, 2, "error: ", str(run.folder), str(first.pid)) + ends_well(trial, run, first)
    trial.add("second process", time.monotonic() - began, faults, said=second.err.strip())

    for name, begun in (("both-start", True), ("both-begin", False)):
        for pause in (0, 0.05, 0.2) if trial.framework == "numpy" else (0, 0.5, 2):
            began, run = time.monotonic(), trial.late(f"{name}-{pause}") if begun else trial.fresh(f"{name}-{pause}")
            lives = [Life(run)]
            lives[0].stays(pause)
            lives.append(Life(run))
            faults, refused = _one_refuses(lives, run)
            faults += differences(run, trial.undisturbed)
            where = "in a run" if begun else "in a new folder"
            scene = f"second process {pause} s later, {where}"
            trial.add(scene, time.monotonic() - began, faults, said=refused.err.strip())
    if trial.framework != "numpy":
        _killed_with_workers(trial)


def _one_refuses(lives: list[Life], run: Run) -> tuple[list[str], Life]:
    for life in lives:
        life.wait()
    winner, refused = sorted(lives, key=lambda life: life.status)
    faults = [f"the other one: status {winner.status}: {winner.err.strip()[-600:]}"] if winner.status else []
    return faults + sentence(refused, 2, "error: ", str(run.folder)), refused


def _killed_with_workers(trial) -> None:
    """Its workers may outlive a killed process, here as long as they are halted; the folder is free all the same."""
    began, run = time.monotonic(), trial.late("killed-with-workers")
    life = Life(run, "--set", "num_workers=2")
    life.has_stepped()
    workers = life.family()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    life.kill()
    still = life.family()
    faults = [] if workers else ["no worker was there"]
    faults += ends_well(trial, run)
    for pid in still:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    faults += life.lives_on()
    trial.add("killed, workers still there", time.monotonic() - began, faults, workers=len(still))


# An end at every change of a file


def operations(trial) -> None:
    """In numpy alone: end before the first change of a file in the run folder, before the second, and so on."""
    if trial.framework == "numpy":
        numpy_engine.Engine.pause = 0
        _end_everywhere(trial, "run", trial.fresh)
        _end_everywhere(trial, "resumed run", lambda name: _late_and_damaged(trial, name), most=12)


def _late_and_damaged(trial, name: str) -> Run:
    run = trial.late(name)
    (run.folder / LAST).write_bytes(b"")
    return run


def _end_everywhere(trial, what: str, make: Callable[[str], Run], most: int | None = None) -> None:
    began, operation, changes, faults = time.monotonic(), trial.rng.randrange(trial.every), [], []
    while most is None or operation < most:
        operation += 1
        run = make(f"{what.replace(' ', '-')}-{operation}")
        life = Life(run, operation=operation)
        if life.wait() == 0:
            break
        change = f"{operation} {life.err.strip()}"
        found = [] if life.status == -signal.SIGKILL else [f"status {life.status}"]
        found += ends_well(trial, run)
        changes.append(change)
        faults += [f"ended before change {change}: {fault}" for fault in found]
        if not found:
            shutil.rmtree(run.folder)
        operation += trial.every - 1
    more = {"changes": changes} if faults else {"ends": len(changes)}
    trial.add(f"{what} ends before a change", time.monotonic() - began, faults, **more)


SCENES = {
    "damaged": damaged,
    "finished": finished,
    "disk": full_disk,
    "signals": signals,
    "workers": workers,
    "lock": lock,
    "operations": operations,
}


def play(trial, names: list[str]) -> None:
    """These scenes, one after the other."""
    for name in names:
        SCENES[name](trial)

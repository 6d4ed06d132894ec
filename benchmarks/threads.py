"""How shall threads wait, alone and beside another program?  python benchmarks/threads.py [--only torch]

Decoding and a training step, with OpenMP's threads asleep while they wait for each other, as
`devices.let_threads_sleep` has it, spinning for a while or, OpenMP's default, for long, and with one thread; first
alone, then beside programs that each want a core for themselves.
"""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from statistics import median

import candidates
import common
import quiet
import train_step

from liif_core.config import load
from liif_core.errors import UserError
from liif_core.system.devices import WAITING

WAYS: dict[str, dict[str, str]] = {
    "asleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spinning 1,000 times": {"GOMP_SPINCOUNT": "1000"},
    "spinning 300,000 times": {"GOMP_SPINCOUNT": "300000"},  # GNU's default
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def works(arguments: Namespace) -> Iterator[tuple[str, tuple]]:
    """Names, and a class with its arguments."""
    settings = load.load(arguments.config, "train", arguments.set)
    spec = settings.model.model_dump()
    for framework in ("torch", "jittor"):
        yield f"decode, {framework}", (candidates.Ours, framework, "fp32", "cpu", spec, arguments.size, 4)
        yield f"step, {framework}", (train_step.Ours, framework, "fp32", "cpu", settings, 1)


def child(work: tuple, way: dict[str, str]) -> common.Child:
    """A child that waits in this way: what it inherits when it starts."""
    before = dict(os.environ)
    for name in (*WAITING, "OMP_NUM_THREADS"):
        os.environ.pop(name, None)
    os.environ.update(way)
    try:
        started = common.Child(*work)
        started("warm_up")
        return started
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Alone, then beside others."""
    parser = common.options(__doc__)
    parser.add_argument("--size", type=int, nargs=2, default=(48, 48), metavar=("H", "W"))
    parser.add_argument("--config", default="train-div2k/train_edsr-baseline-liif.yaml")
    parser.add_argument("--set", nargs="+", default=["train_dataset.batch_size=4"], metavar="KEY=VALUE")
    parser.add_argument("--beside", type=int, default=1, help="programs that each want a core (default: 1)")
    arguments = common.parse(parser)
    if arguments.kind != "cpu":
        raise UserError(f"--gpu {arguments.gpu}: the processor's threads are measured; expected cpu")
    chosen = {name: work for name, work in works(arguments) if common.selected(name, arguments.only)}
    children = {(name, way): child(work, WAYS[way]) for name, work in chosen.items() for way in WAYS}
    runs = {key: partial(child, "run") for key, child in children.items()}
    others = quiet.busy_cores()
    alone = common.in_turn(runs, arguments.runs)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(arguments.beside)]
    try:
        beside = common.in_turn(runs, arguments.runs)
    finally:
        for program in busy:
            program.kill()
    common.print_head("cpu")
    print(f"{quiet.sentence(others)} Medians of {arguments.runs} runs, seconds.\n")
    rows = []
    for name, way in children:
        first, second = median(alone[name, way]), median(beside[name, way])
        base = median(alone[name, "asleep"]), median(beside[name, "asleep"])
        rows.append(
            [f"{name}, {way}", f"{first:.3f}", f"{second:.3f}", f"{first / base[0]:.2f}", f"{second / base[1]:.2f}"]
        )
    header = ["threads", "alone", f"beside {arguments.beside}", "alone, against asleep", "beside, against asleep"]
    common.print_table(header, rows)


if __name__ == "__main__":
    common.exit_with(main)

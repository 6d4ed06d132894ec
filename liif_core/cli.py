"""The commands train and test, once for both trees; demo is in liif_core.demo.

Each tree's entry script passes its framework's name and a function that imports its engine and
loader, which is called only after the device is chosen: frameworks read CUDA_VISIBLE_DEVICES when
they are imported.
"""

import argparse
import contextlib
import functools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from liif_core.checkpoints import formats
from liif_core.config import load as configs
from liif_core.config.schema import DataNorm, TestConfig
from liif_core.data import sets
from liif_core.engine import PRECISIONS, Update
from liif_core.errors import Stopped, UserError
from liif_core.evaluation import evaluate
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network
from liif_core.inference.network import choose_device, load_engine
from liif_core.system import provenance
from liif_core.system.distributed import read as read_ranks
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import PRETRAINED, WORK
from liif_core.system.streams import steady_streams
from liif_core.training import loop, run_folder, runlog

GPU_HELP = "GPU number; cpu for none (default: GPU 0 where there is one)"
PRECISION_HELP = "arithmetic of convolutions and products: 16 bits are faster where the device has them"
RESUME_HELP = "go on where the run folder stopped, or begin if it does not exist (the value auto may be left out)"
SET_HELP = "change the config, like --set epoch_max=2 train_dataset.batch_size=4; values are YAML"


def run(command: Callable, framework: str, load_tree: Callable) -> None:
    """Run a command; a user's error becomes one sentence and exit status 2, a stop 130."""
    with steady_streams():
        try:
            command(framework, load_tree)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            leave(2, framework)
        except (Stopped, KeyboardInterrupt) as stop:
            print(str(stop) or "interrupted", file=sys.stderr)
            leave(130, framework)
        except Exception:
            if not is_one_of_several(framework):
                raise
            traceback.print_exc()
            leave(1, framework)


def is_one_of_several(framework: str) -> bool:
    """Whether this process trains together with others."""
    with contextlib.suppress(UserError):
        return read_ranks(framework).count > 1
    return False


def leave(status: int, framework: str) -> None:
    """Exit; one of several processes at once, since MPI would wait for the others, and they for it."""
    if is_one_of_several(framework):
        leave_at_once(status)
    sys.exit(status)


def leave_at_once(status: int) -> NoReturn:
    """Exit without the frameworks' clean-up, which may wait for ever for processes that have ended."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def train(framework: str, load_tree: Callable) -> None:
    """train.py"""
    parser = argparse.ArgumentParser(description=f"Train a model in {framework} from a YAML config.")
    parser.add_argument("--config", required=True, help="looked for here, in the repository and in configs/")
    parser.add_argument("--name", help="run folder in --save-dir (default: config name and framework)")
    parser.add_argument("--tag", help="appended to the name")
    parser.add_argument("--gpu", help=GPU_HELP)
    parser.add_argument("--resume", nargs="?", const="auto", choices=["auto"], help=RESUME_HELP)
    parser.add_argument("--wandb", metavar="PROJECT", help="log to this project of Weights & Biases as well")
    parser.add_argument("--save-dir", default=WORK / "save", type=Path, help="where run folders go (default: save/)")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=SET_HELP)
    arguments = parser.parse_args()
    config = configs.load(arguments.config, "train", arguments.set)
    name = arguments.name or f"{Path(arguments.config).stem}_{framework}"
    folder = arguments.save_dir / (f"{name}_{arguments.tag}" if arguments.tag else name)
    ranks = read_ranks(framework)
    if ranks.rank:  # one of several processes speaks for all
        sys.stdout = open(os.devnull, "w")
    # What the user may have to mend comes before frameworks that compile for minutes.
    resume = arguments.resume is not None
    if arguments.wandb is not None:
        runlog.find_wandb()
    run_folder.check(folder, config, resume)
    if ranks.rank == 0:
        run_folder.lock(folder)
    data_sets = loop.make_data_sets(config)
    device = choose_device(framework, arguments.gpu, ranks)
    engine_class, make_loader = load_tree()
    specs = (spec.model_dump() for spec in (config.method, config.optimizer))
    update = Update(config.accumulate, config.clip_grad, config.ema)
    engine = engine_class(config.model.model_dump(), device.kind, *specs, config.precision, update)
    parameters = sum(array.size for array in engine.state().parameters.values())
    note = f"{framework} on {device.kind}, {config.model.name}: {parameters:,} parameters"
    workers = config.num_workers
    if workers is None:  # on the CPU a step takes a hundred times longer than its batch
        workers = min(8, os.cpu_count() or 1) if device.kind == "cuda" else 0
    make_loader = functools.partial(make_loader, num_workers=workers)
    try:
        loop.train(engine, make_loader, config, data_sets, folder, note, ranks, arguments.wandb, resume)
    except Stopped as stop:
        if ranks.rank == 0:
            print(stop, file=sys.stderr)
        leave_at_once(130)  # the same signal may have ended the frameworks' helpers


def measure(predict: Callable, test_set, config: TestConfig) -> list[evaluate.Row]:
    """Score every picture and print its row, the mean and the result."""
    rows = []
    started = time.monotonic()
    print(f"{'picture':24} {'size':>11} {'psnr':>8} {'ssim':>8}")
    for row in tqdm(evaluate.test(predict, test_set, config), total=len(test_set), leave=False, disable=None):
        rows.append(row)
        tqdm.write(f"{row.name:24} {f'{row.height}x{row.width}':>11} {row.psnr:8.4f} {row.ssim:8.4f}")
    psnr, ssim = evaluate.mean(rows)
    print(f"{'mean':24} {len(rows):>11} {psnr:8.4f} {ssim:8.4f}   {time.monotonic() - started:.1f} s")
    print(f"result: {psnr:.4f}", flush=True)
    return rows


def test(framework: str, load_tree: Callable) -> None:
    """test.py"""
    parser = argparse.ArgumentParser(description=f"PSNR and SSIM of a model in {framework} on test sets.")
    parser.add_argument("--config", required=True, nargs="+", help="looked for here, in the repository and in configs/")
    parser.add_argument("--model", default=PRETRAINED, help="checkpoint (.safetensors, .pth, .pth.tar), or bicubic")
    parser.add_argument("--gpu", help=GPU_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"{PRECISION_HELP} (default: fp32)")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="write <config's name>.json with all rows there")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=SET_HELP)
    arguments = parser.parse_args()
    tests = [(name, configs.load(name, "test", arguments.set)) for name in arguments.config]
    outputs = {name: arguments.json / f"{Path(name).stem}.json" for name in arguments.config} if arguments.json else {}
    if len(set(outputs.values())) < len(outputs):
        raise UserError("--json: two configs of one name would write the same file; test them one after the other")
    for path in outputs.values():
        check_writable(path)
    test_sets = [sets.make(config.test_dataset.model_dump(), seed=0, training=False) for _, config in tests]
    origin = {"model": str(arguments.model), "framework": framework, "weights": None, "commit": provenance.commit()}
    if str(arguments.model) == "bicubic":
        engine, own_norm, place = None, DataNorm(), "Pillow"
        origin["framework"] = "pillow"
    else:
        origin["weights"] = provenance.sha256(formats.locate(arguments.model))
        loaded = load_engine(arguments.model, framework, load_tree, arguments.gpu, arguments.precision)
        engine, own_norm, place = loaded
        origin["precision"] = engine.precision
    for (name, config), test_set in zip(tests, test_sets, strict=True):
        norm = config.data_norm if "data_norm" in config.model_fields_set else own_norm
        predict = network.Network(engine, Normalisation(norm)) if engine else network.bicubic
        print(f"{arguments.model} on {name}, protocol {config.eval_type or 'RGB, no border'}, {place}")
        rows = measure(predict, test_set, config)
        if outputs:
            changed = {"set": arguments.set} if arguments.set else {}
            report = {"config": name} | changed | origin | evaluate.summary(name, test_set, config, rows)
            write_atomically(outputs[name], (json.dumps(report, indent=1) + "\n").encode())

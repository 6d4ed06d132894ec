"""The command train.py, once for both trees."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

from liif_core.commands.entry import GPU_HELP, SET_HELP, leave_at_once
from liif_core.config import load as configs
from liif_core.engine import MODEL, Update
from liif_core.errors import Stopped
from liif_core.evaluation import metrics
from liif_core.evaluation.evaluate import sees_images
from liif_core.inference.network import choose_device
from liif_core.system.arguments import Parser
from liif_core.system.devices import available_cores
from liif_core.system.distributed import read as read_ranks
from liif_core.system.places import WORK
from liif_core.training import loop, run_folder, runlog

RESUME_HELP = "go on where the run folder stopped, or begin if it does not exist (the value auto may be left out)"


def train(framework: str, load_tree: Callable) -> None:
    """train.py"""
    parser = Parser(description=f"Train a model in {framework} from a YAML config.")
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
    # What the user may have to fix comes before frameworks that compile for minutes.
    resume = arguments.resume is not None
    if arguments.wandb is not None:
        runlog.find_wandb()
    run_folder.check(folder, config, resume)
    if ranks.rank == 0:
        run_folder.lock(folder)
    data_sets = loop.make_data_sets(config)
    metrics.of_validation(config.metrics, config.best, sees_images(data_sets[1], config))
    device = choose_device(framework, arguments.gpu, ranks)
    engine_class, make_loader = load_tree()
    specs = (spec.model_dump() for spec in (config.method, config.optimizer))
    update = Update(config.accumulate, config.clip_grad, config.ema)
    engine = engine_class(config.model.model_dump(), device.kind, *specs, config.precision, update)
    loop.require_fit(engine, data_sets, config)
    sizes = {name: sum(a.size for a in network.parameters.values()) for name, network in engine.state().items()}
    others = "".join(f", {name}: {size:,}" for name, size in sizes.items() if name != MODEL)
    note = f"{framework} on {device.kind}, {config.model.name}: {sizes[MODEL]:,} parameters{others}"
    workers = config.num_workers
    if workers is None:  # on the CPU a step takes a hundred times longer than its batch
        share = available_cores() // ranks.local_world_size
        workers = min(8, max(1, share)) if device.kind == "cuda" else 0
    make_loader = functools.partial(make_loader, num_workers=workers)
    try:
        loop.train(engine, make_loader, config, data_sets, folder, note, ranks, arguments.wandb, resume)
    except Stopped as stop:
        if ranks.rank == 0:
            print(stop, file=sys.stderr)
        leave_at_once(130)  # the same signal may have ended the frameworks' helpers

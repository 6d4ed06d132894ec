"""The command test.py, once for both trees."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from liif_core.checkpoints import formats
from liif_core.commands import sampler_options
from liif_core.commands.entry import (
    BORDER_HELP,
    CONFIG_HELP,
    ENSEMBLE_HELP,
    GPU_HELP,
    MODEL_HELP,
    PRECISION_HELP,
    SET_HELP,
)
from liif_core.config import load as configs
from liif_core.config.schema import TestConfig
from liif_core.data import sets
from liif_core.engine import PRECISIONS
from liif_core.errors import UserError
from liif_core.evaluation import evaluate, metrics
from liif_core.geometry.tiling import BORDERS
from liif_core.images import rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network
from liif_core.system import provenance
from liif_core.system.arguments import Parser
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import PRETRAINED


def measure(
    predict: Callable, test_set, config: TestConfig, images: Path | None = None, as_sr3: bool = False, seed: int = 0
) -> tuple[list[evaluate.Row], dict[str, float]]:
    """Score every image and print its row, the mean and the result; rows and means. images: the folder to write the
    predictions into; as_sr3: all that SR3-PyTorch keeps of an image, by its names. seed: of what is drawn."""

    def keep(index: int, prediction: np.ndarray) -> None:
        if images is None:
            return
        if not as_sr3:
            return rgb8.write_image(images / f"{test_set.name(index)}.png", rgb8.to_uint8(prediction))
        low, high = test_set.pair(index)
        condition = rgb8.resize(low, *high.shape[:2])
        kept = {"hr": high, "sr": rgb8.to_uint8(prediction), "lr": low, "inf": condition}
        for kind, image in kept.items():
            rgb8.write_image(images / f"0_{index + 1}_{kind}.png", image)

    rows, of_set = [], evaluate.collectors(config.metrics)
    started = time.monotonic()
    names = config.metrics
    print(f"{'image':24} {'size':>11} " + " ".join(f"{name:>8}" for name in names))
    scores = evaluate.test(predict, test_set, config, of_set, keep, seed)
    for row in tqdm(scores, total=len(test_set), leave=False, disable=None):
        rows.append(row)
        tqdm.write(f"{row.name:24} {f'{row.height}x{row.width}':>11} {_columns(row.values, names)}")
    means = evaluate.mean(rows, of_set)
    print(f"{'mean':24} {len(rows):>11} {_columns(means, names)}   {time.monotonic() - started:.1f} s")
    print(f"result: {means[names[0]]:.4f}", flush=True)
    return rows, means


def _columns(values: dict[str, float], names: list[str]) -> str:
    """A column for each metric; those of sets are blank in the rows of images."""
    return " ".join(f"{values[name]:8.4f}" if name in values else " " * 8 for name in names)


def test(framework: str, load_tree: Callable) -> None:
    """test.py"""
    parser = Parser(description=f"PSNR and SSIM of a model in {framework} on test sets.")
    parser.add_argument("--config", required=True, nargs="+", help="looked for here, in the repository and in configs/")
    parser.add_argument("--model", default=PRETRAINED, help=f"{MODEL_HELP}; or bicubic")
    parser.add_argument("--model-config", metavar="CONFIG", help=CONFIG_HELP)
    parser.add_argument("--gpu", help=GPU_HELP)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help=f"{PRECISION_HELP} (default: fp32)")
    parser.add_argument("--border", choices=BORDERS, default="zeros", help=f"{BORDER_HELP} (default: zeros)")
    parser.add_argument("--self-ensemble", action="store_true", help=ENSEMBLE_HELP)
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="write <config's name>.json with all rows there")
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="write predictions to <config's name>/*.png there"
    )
    parser.add_argument(
        "--sr3-names", action="store_true", help="--images as SR3-PyTorch keeps them: 0_1_hr, _sr, _lr, _inf ..."
    )
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="instead of the config's: `liif metrics` lists them"
    )
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help=SET_HELP)
    sampler_options.add(parser)
    arguments = parser.parse_args()
    sampler = sampler_options.chosen(arguments)
    if arguments.sr3_names and not arguments.images:
        raise UserError("--sr3-names says how images are kept: give --images FOLDER too")
    if str(arguments.model) == "bicubic" and (arguments.self_ensemble or arguments.border != "zeros"):
        raise UserError("--border and --self-ensemble: expected a network, got bicubic")
    if str(arguments.model) == "bicubic" and sampler:
        raise UserError("--sampler, --steps, --eta and --start: expected a network, got bicubic")
    if arguments.metrics:
        arguments.set.append(f"metrics=[{', '.join(arguments.metrics)}]")
    tests = [(name, configs.load(name, "test", arguments.set)) for name in arguments.config]
    outputs = {name: arguments.json / f"{Path(name).stem}.json" for name in arguments.config} if arguments.json else {}
    folders = {name: arguments.images / Path(name).stem for name in arguments.config} if arguments.images else {}
    for option, paths in (("--json", outputs.values()), ("--images", folders.values())):
        if len(set(paths)) < len(paths):
            raise UserError(f"{option}: two configs of one name would write the same files; test them one by one")
    for path in (*outputs.values(), *(folder / "image.png" for folder in folders.values())):
        check_writable(path)
    for _, config in tests:
        metrics.find(config.metrics)
    test_sets = [sets.make(config.test_dataset.model_dump(), 0, False, config.eval_type) for _, config in tests]
    origin: dict = {
        "model": str(arguments.model),
        "framework": framework,
        "weights": None,
        "commit": provenance.commit(),
    }
    if str(arguments.model) == "bicubic":
        loaded, device = None, "Pillow"
        origin["framework"] = "pillow"
    else:
        origin["weights"] = provenance.sha256(formats.locate(arguments.model))
        kind = network.choose_device(framework, arguments.gpu).kind
        rest = arguments.precision, None, load_tree, arguments.border, arguments.self_ensemble
        loaded = network.load(arguments.model, framework, kind, *rest, config=arguments.model_config, sampler=sampler)
        origin |= {"model_config": arguments.model_config} if arguments.model_config else {}
        origin["precision"], device = loaded.engine.precision, loaded.device
        origin |= {"border": loaded.border} if loaded.border != "zeros" else {}
        origin |= {"self_ensemble": True} if loaded.self_ensemble else {}
        origin |= {"sampler": sampler} if sampler else {}
        origin |= {"seed": arguments.seed} if arguments.seed else {}
    for (name, config), test_set in zip(tests, test_sets, strict=True):
        predict = loaded or network.bicubic
        if loaded and "data_norm" in config.model_fields_set:
            predict = dataclasses.replace(loaded, normalisation=Normalisation(config.data_norm))
        print(f"{arguments.model} on {name}, protocol {config.eval_type or 'RGB, no border'}, {device}")
        rows, means = measure(predict, test_set, config, folders.get(name), arguments.sr3_names, arguments.seed)
        if outputs:
            changed = {"set": arguments.set} if arguments.set else {}
            data = {"data": config.test_dataset.model_dump(mode="json")}
            found = evaluate.summary(name, test_set, config, rows, means)
            report = {"config": name} | data | changed | origin | found
            write_atomically(outputs[name], (json.dumps(report, indent=1) + "\n").encode())

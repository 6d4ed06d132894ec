"""The command test.py, once for both trees."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from liif_core.checkpoints import formats
from liif_core.commands.entry import GPU_HELP, PRECISION_HELP, SET_HELP
from liif_core.config import load as configs
from liif_core.config.schema import DataNorm, TestConfig
from liif_core.data import sets
from liif_core.engine import PRECISIONS
from liif_core.errors import UserError
from liif_core.evaluation import evaluate
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network
from liif_core.inference.network import load_engine
from liif_core.system import provenance
from liif_core.system.files import check_writable, write_atomically
from liif_core.system.places import PRETRAINED


def measure(predict: Callable, test_set, config: TestConfig) -> list[evaluate.Row]:
    """Score every image and print its row, the mean and the result."""
    rows = []
    started = time.monotonic()
    print(f"{'image':24} {'size':>11} {'psnr':>8} {'ssim':>8}")
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
        engine, own_norm, device = None, DataNorm(), "Pillow"
        origin["framework"] = "pillow"
    else:
        origin["weights"] = provenance.sha256(formats.locate(arguments.model))
        loaded = load_engine(arguments.model, framework, load_tree, arguments.gpu, arguments.precision)
        engine, own_norm, device = loaded
        origin["precision"] = engine.precision
    for (name, config), test_set in zip(tests, test_sets, strict=True):
        norm = config.data_norm if "data_norm" in config.model_fields_set else own_norm
        predict = network.Network(engine, Normalisation(norm)) if engine else network.bicubic
        print(f"{arguments.model} on {name}, protocol {config.eval_type or 'RGB, no border'}, {device}")
        rows = measure(predict, test_set, config)
        if outputs:
            changed = {"set": arguments.set} if arguments.set else {}
            report = {"config": name} | changed | origin | evaluate.summary(name, test_set, config, rows)
            write_atomically(outputs[name], (json.dumps(report, indent=1) + "\n").encode())

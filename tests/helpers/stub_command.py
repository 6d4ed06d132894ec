"""What stands in the place of train.py, test.py and demo.py when batch scripts are tested.

It keeps a record of its call, then fails, waits or works, as files in the folder $LIIF_TEST_PLAN say.
"""

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

parser = argparse.ArgumentParser()
for option in ("name", "save-dir", "gpu", "model", "json", "input", "resolution", "output"):
    parser.add_argument("--" + option)
parser.add_argument("--resume", nargs="?")
parser.add_argument("--overwrite", action="store_true")
parser.add_argument("--config", nargs="+")
parser.add_argument("--set", nargs="+", default=[])
a = parser.parse_args()
plan = Path(os.environ["LIIF_TEST_PLAN"])
title = a.name or Path(a.model).parent.name


def note(what: str) -> None:
    configs = a.config and [Path(config).stem for config in a.config]
    with open(plan / "calls", "a") as file:
        file.write(json.dumps([what, title, a.gpu, configs, time.time()]) + "\n")


def train() -> None:
    from liif_core.checkpoints import native
    from liif_core.config import load
    from liif_core.engine import NetworkState
    from liif_core.training import run_folder

    folder, settings = Path(a.save_dir) / a.name, load.load(a.config[0], "train", a.set)
    run_folder.open_folder(folder, settings)
    done = 1 if (plan / f"{title}.stops").exists() else settings.epoch_max
    state = {"model": NetworkState({"w": np.zeros(1, np.float32)})}
    progress = {"epoch": done + 1, "step": 9}
    native.save(folder / "epoch-last.safetensors", native.Checkpoint({"name": "x"}, state, progress=progress))
    with open(folder / "metrics.jsonl", "a") as file:
        record = {"step": 9, "epoch": done, "train_loss": 0.1, "val_psnr": 20 + done, "seconds": 90}
        file.write(json.dumps(record) + "\n")


def test(config: str) -> None:
    from liif_core.system import provenance

    path = Path(a.json) / f"{Path(config).stem}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = None if a.model == "bicubic" else provenance.sha256(Path(a.model))
    stem, _, scale = path.stem.rpartition("-")
    print(f"{a.model} on {config}, protocol benchmark-{scale}, torch on cpu" + "\nimage" * 9)
    sys.stdout.flush()
    if (plan / f"{Path(config).stem}.breaks").exists():
        sys.exit(f"error: {config} is broken")
    print("result: 30.0000")
    report = {"config": config, "framework": Path(a.json).name, "dataset": stem[5:], "scale": int(scale)}
    report |= {"protocol": "p", "psnr": 30.0, "ssim": 0.9, "images": 5, "weights": weights, "commit": "c"}
    path.write_text(json.dumps(report))


def demo() -> None:
    from PIL import Image

    height, width = map(int, a.resolution.split(","))
    Image.new("RGB", (width, height), (200, 10, 10)).save(a.output)
    print("torch on cpu, 0.01 s")


note("begin")
if (plan / f"{title}.fails").exists():
    print("reading data", flush=True)
    print("error: it broke", file=sys.stderr)
    sys.exit(3)
if (plan / f"{title}.waits").exists():
    signal.signal(signal.SIGTERM, lambda *_: (note("saved"), sys.exit(130)))
    print("waiting", flush=True)
    time.sleep(60)
time.sleep(0.3 if (plan / "slow").exists() else 0)
if a.name:
    train()
elif a.json:
    for config in a.config:
        test(config)
else:
    demo()
if (plan / f"{title}.trains").exists():
    Path(a.model).write_text(f"weights after {time.time()}")
note("end")

"""Does every training config run? A few steps of each in both frameworks, then its checkpoint is tested and shown.

    python scripts/try_configs.py
    python scripts/try_configs.py --only "*metasr*" --frameworks jittor --steps 3

The images are small and made for it, so no data is needed; model, optimiser, wrappers and normalisation are
the config's own. --tiny makes the encoders and the decoding network narrow as well. Each framework has one process.
"""

import argparse
import fnmatch
import json
import math
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path[0:1] = [str(Path(__file__).resolve().parents[1] / folder) for folder in ("", "tests")]

from liif_core.system import process

process.begin()

import numpy as np

from helpers.models import NARROW, NARROW_BEHIND, NARROW_ONE_FACTOR
from liif_core.commands import demo, sample, test, train
from liif_core.config import load as configs
from liif_core.config import schema
from liif_core.errors import Stopped, UserError
from liif_core.experiments import jobs, trained
from liif_core.images import rgb8
from liif_core.system import packages
from liif_core.system.arguments import Parser
from liif_core.system.places import SHIPPED

LOW = 12  # pixels: the side of the low resolution
SIDE = 64  # pixels: of images for diffusion, whose models halve them up to five times
TEST = {
    "test_dataset": {
        "dataset": {"name": "paired-image-folders", "args": {}},
        "wrapper": {"name": "sr-implicit-paired"},
        "batch_size": 1,
    },
    "eval_type": "benchmark-2",
}


def make_images(where: Path) -> None:
    """where/1, /2, /4 and /8: the same two images at as many times LOW + 1 by LOW + 4 pixels."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        low = rng.integers(0, 256, (LOW + 1, LOW + 4, 3), dtype=np.uint8)
        for scale in (1, 2, 3, 4, 8):
            (where / str(scale)).mkdir(parents=True, exist_ok=True)
            high = rgb8.resize(low, low.shape[0] * scale, low.shape[1] * scale)
            rgb8.write_image(where / str(scale) / f"{name}.png", high)
    content = json.loads(json.dumps(TEST))
    content["test_dataset"]["dataset"]["args"] = {"root_path_1": str(where / "1"), "root_path_2": str(where / "2")}
    (where / "test.yaml").write_text(json.dumps(content))  # JSON is YAML


def overrides(config: schema.TrainConfig, where: Path, steps: int, tiny: bool) -> list[str]:
    """--set values that make a run of `steps` steps on the small images out of a config."""
    changes = [
        "epoch_max=1",
        "warmup=null",
        "epoch_val=1",
        "step_save=null",
        "step_log=1",
        "resume=null",
        "start_from=null",
        "precision=fp32",
    ]
    if config.method.name == "diffusion":
        return changes + of_diffusion(config, where, steps, tiny)
    for part, spec, repeat in (
        ("train_dataset", config.train_dataset, steps),
        ("val_dataset", config.val_dataset, 1),
    ):
        if spec is None:
            continue
        data, wrapper = f"{part}.dataset.args", f"{part}.wrapper.args"
        changes += [f"{part}.batch_size=2", f"{data}.repeat={repeat}"]
        changes += [f"{data}.{key}=null" for key in ("first_k", "split_file", "split_key")]
        given = spec.wrapper.args
        if spec.dataset.name == "paired-image-folders":
            factor = fixed_scale(config)
            changes += [f"{data}.root_path_1={where / '1'}", f"{data}.root_path_2={where / str(factor)}"]
        else:
            factor = math.ceil(given.get("scale", given.get("scale_max", given.get("scale_min", 1))))
            folder = next(scale for scale in (1, 2, 4, 8) if scale >= factor)
            changes += [f"{data}.root_path={where / str(folder)}"]
        if "inp_size" in given:
            changes += [f"{wrapper}.inp_size={LOW}"]
        if "size_min" in given:
            changes += [f"{wrapper}.size_min={LOW}", f"{wrapper}.size_max={LOW * factor}"]
        if "gt_resize" in given:
            changes += [f"{wrapper}.gt_resize={LOW * factor}"]
        if "gt_downsample_max" in given:
            changes += [f"{wrapper}.gt_downsample_max=1"]
        if "sample_q" in given:
            changes += [f"{wrapper}.sample_q={LOW * LOW // 2}"]
    if "discriminator" in config.method.args:
        side = LOW * config.train_dataset.wrapper.args["scale"]
        changes += [f"method.args.discriminator.args.size={side}", "method.args.content=pixel"]
    if tiny:
        below, encoder = "model.args", config.model.model_dump()
        if "encoder_spec" in encoder["args"]:
            below, encoder = f"{below}.encoder_spec.args", encoder["args"]["encoder_spec"]
        while "encoder_spec" in encoder["args"]:
            changes += [f"{below}.{key}={value}" for key, value in NARROW_BEHIND[encoder["name"]].items()]
            below, encoder = f"{below}.encoder_spec.args", encoder["args"]["encoder_spec"]
        changes += [f"{below}.{key}={value}" for key, value in (NARROW | NARROW_ONE_FACTOR)[encoder["name"]].items()]
        imnet = config.model.args.get("imnet_spec") or {"args": {}}
        changes += ["model.args.imnet_spec.args.hidden_list=[16]"] if "hidden_list" in imnet["args"] else []
    return changes


def of_diffusion(config: schema.TrainConfig, where: Path, steps: int, tiny: bool) -> list[str]:
    """The same for a method whose images have a side that its model can halve; what was prepared is made of them."""
    scale, changes = config.model.args.get("scale"), ["method.args.sampler.steps=2"]
    args = {"scale": scale, "inp_size": SIDE // scale} if scale else {"size": SIDE}
    name = "sr-diffusion-downsampled" if scale else "diffusion-images"
    for part, spec, repeat in (("train_dataset", config.train_dataset, steps), ("val_dataset", config.val_dataset, 1)):
        if spec is not None:
            data, wrapper = f"{part}.dataset", f"{part}.wrapper"
            changes += [f"{part}.batch_size=2", f"{data}.name=image-folder", f"{wrapper}.name={name}"]
            changes += [f"{data}.args.root_path={where / '8'}", f"{data}.args.repeat={repeat}"]
            changes += [f"{data}.args.{key}=null" for key in ("first_k", "split_file", "split_key")]
            changes += [f"{wrapper}.args.{key}={value}" for key, value in args.items()]
    narrow = {"inner_channel": 8, "norm_groups": 4, "res_blocks": 1} if tiny else {}
    return changes + [f"model.args.{key}={value}" for key, value in narrow.items()]


def fixed_scale(config: schema.TrainConfig) -> int:
    """How much larger the high resolution of paired folders is: read off their names, X2 or 32 and 256."""
    low, high = (config.train_dataset.dataset.args[key].rpartition("/")[2] for key in ("root_path_1", "root_path_2"))
    return int(low[1:]) if low.startswith("X") else int(high) // int(low)


def call(command, framework: str, *arguments) -> None:
    """One of the commands of liif_core.commands.entry in this process, as if it had been typed."""
    sys.argv = [f"{command.__name__}.py", *map(str, arguments)]
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        command(framework, lambda: load_tree(framework))
    finally:
        for number, handler in before.items():  # train's only note the request to stop
            signal.signal(number, handler)


def load_tree(framework: str):
    """The tree's engine and loader."""
    if framework == "torch":
        from liif_torch import load_tree
    else:
        from liif_jittor import load_tree
    return load_tree()


def try_one(path: Path, framework: str, where: Path, arguments: argparse.Namespace) -> None:
    """Train, test, demo."""
    gpu = ["--gpu", arguments.gpu] if arguments.gpu else []
    name = str(path.relative_to(SHIPPED / "configs").with_suffix("")).replace("/", "-")
    changes = overrides(configs.load(path, "train"), where, arguments.steps, arguments.tiny)
    saving = ["--save-dir", where, "--name", f"{name}_{framework}"]
    call(train.train, framework, "--config", path, *saving, "--set", *changes, *gpu)
    model = where / f"{name}_{framework}" / "epoch-last.safetensors"
    found = trained.single(str(model), where)
    if not found.at_its_scale([str(where / "test.yaml")]) and found.scale is None:  # nothing to upscale
        sheet = where / f"{name}_{framework}.png"
        call(sample.sample, framework, "--model", model, "--count", 2, "--size", SIDE, "-o", sheet, *gpu)
        return model.unlink()
    scale = found.scale or 2
    own = [f"test_dataset.dataset.args.root_path_2={where / str(scale)}", f"eval_type=benchmark-{scale}"]
    call(test.test, framework, "--config", where / "test.yaml", "--model", model, "--set", *own, *gpu)
    output = where / f"{name}_{framework}.png"
    upscale = ["-i", where / "1" / "a.png", "-s", scale - 0.5, "-o", output, "--overwrite"]
    call(demo.demo, framework, *upscale, "--model", model, *gpu)
    model.unlink()  # the big ones take 300 MB each


def try_framework(framework: str, paths: list[Path], where: Path, arguments: argparse.Namespace) -> list[jobs.Result]:
    """All configs in this process; what a config does wrong is printed and kept, and the next one has its turn."""
    results = []
    for path in paths:
        started, lines = time.time(), []
        print(f"\n{framework}: {path.relative_to(SHIPPED / 'configs')}", flush=True)
        try:
            try_one(path, framework, where, arguments)
        except Stopped:
            sys.exit(130)
        except Exception as error:  # whatever it is, it is shown and the exit status says so
            lines = [f"{type(error).__name__}: {error}"]
            traceback.print_exc()
        cells = [str(path.relative_to(SHIPPED / "configs")), framework, f"{time.time() - started:.1f}s"]
        results.append(jobs.Result(cells, "failed" if lines else "done", lines))
    return results


def main() -> int:
    """Returns the exit status."""
    parser = Parser(description="A few steps of every training config in both frameworks.")
    parser.add_argument("--only", nargs="+", default=["train-*"], metavar="PATTERN", help='like "train-div2k/*rdn*"')
    parser.add_argument("--frameworks", nargs="+", choices=packages.FRAMEWORKS, default=list(packages.FRAMEWORKS))
    parser.add_argument("--steps", type=int, default=2, help="training steps (default: 2)")
    parser.add_argument("--tiny", action="store_true", help="narrow models, for a quick check")
    parser.add_argument("--gpu", help="GPU number, or cpu")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        raise UserError(f"--steps: expected 1 or more, got {arguments.steps}")
    folder = SHIPPED / "configs"
    paths = [
        path
        for path in sorted(folder.glob("train-*/**/*.yaml"))
        if any(fnmatch.fnmatch(str(path.relative_to(folder)), pattern) for pattern in arguments.only)
    ]
    if not paths:
        raise UserError(f"--only {' '.join(arguments.only)}: no training config below {folder} is called so")
    pool = jobs.Pool([None])
    started = time.time()
    if len(arguments.frameworks) > 1:
        # A process for each, as in use: the environment is prepared for one framework before its import.
        common = ["--steps", str(arguments.steps), "--only", *arguments.only]
        common += (["--tiny"] if arguments.tiny else []) + (["--gpu", arguments.gpu] if arguments.gpu else [])

        def work(framework: str, device) -> jobs.Result:
            command = [sys.executable, __file__, "--frameworks", framework, *common]
            status, lines = pool.run(command, None, framework)
            return jobs.Result(["all configs", framework, ""], jobs.state_of(status, pool.stopping), lines)

        results = pool.map(work, arguments.frameworks)
    else:
        with tempfile.TemporaryDirectory(prefix="liif-try-") as temporary:
            make_images(Path(temporary))
            results = try_framework(arguments.frameworks[0], paths, Path(temporary), arguments)
    return jobs.finish(pool, ["config", "framework", "time"], results, started)


if __name__ == "__main__":
    jobs.exit_with(main)

"""A run of a second: configs, processes and the two frameworks, for the tests of the commands."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

from helpers import ROOT, forked
from liif_core.checkpoints import formats

# Jittor that cannot run is a failure, not a reason to skip, unless this is asked for.
WITHOUT_JITTOR = bool(os.environ.get("LIIF_WITHOUT_JITTOR"))
FRAMEWORKS = ["torch"] if WITHOUT_JITTOR else ["torch", "jittor"]

STEPS = 6  # an epoch: 3 images, 4 times each, 2 a batch
EPOCHS = 3
UNREPEATABLE = ("seconds", "commit", "samples_per_second", "memory_gib")
SAVE_EVERY = 4  # steps: an epoch's end and a save never coincide except at step 12


def train_config(image_folders: Path, **changes) -> dict:
    """A run of a second; `changes` replace top-level keys."""
    wrapper = {"name": "sr-implicit-downsampled", "args": {"inp_size": 12, "scale_max": 2, "sample_q": 64}}
    training = {"name": wrapper["name"], "args": wrapper["args"] | {"augment": True}}
    folder = {"name": "image-folder", "args": {"root_path": str(image_folders / "train")}}
    repeated = {"name": "image-folder", "args": folder["args"] | {"repeat": 4, "cache": "in_memory"}}
    half = {"sub": [0.5], "div": [0.5]}
    return {
        "train_dataset": {"dataset": repeated, "wrapper": training, "batch_size": 2},
        "val_dataset": {"dataset": folder, "wrapper": wrapper, "batch_size": 3},
        "data_norm": {"inp": half, "gt": half},
        "model": model_spec(8),
        "optimizer": {"name": "adam", "args": {"lr": 1e-3}},
        "epoch_max": EPOCHS,
        "multi_step_lr": {"milestones": [2], "gamma": 0.5},
        "epoch_val": 1,
        "epoch_save": 2,
        "step_save": SAVE_EVERY,
        "step_log": 5,
        "seed": 3,
        "val_images": 0,
    } | changes


def model_spec(n_feats: int) -> dict:
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": n_feats, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}}
    return {"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet}}


JUDGE = {"name": "srgan-discriminator", "args": {"size": 32, "n_feats": 4}}
SRGAN = {"name": "adversarial", "args": {"discriminator": JUDGE, "adversarial_weight": 0.01, "content_weight": 1}}
GENERATOR = {"name": "srresnet", "args": {"scale": 4, "n_resblocks": 1, "n_feats": 8}}


def gan_config(image_folders: Path, **changes) -> dict:
    """An SRGAN's run of a second, with all that has a state. Images: 32 pixels and more along each side."""
    config = train_config(image_folders, model=GENERATOR, method=SRGAN, ema=0.9, accumulate=2) | changes
    for part in ("train_dataset", "val_dataset"):
        args = {"scale": 4, "inp_size": 8, "augment": True}
        config[part]["wrapper"] = {"name": "sr-patches-downsampled", "args": args}
    return config


def test_config(image_folders: Path, **changes) -> dict:
    roots = {"root_path_1": str(image_folders / "LR"), "root_path_2": str(image_folders / "HR")}
    dataset = {"name": "paired-image-folders", "args": roots}
    wrapper = {"name": "sr-implicit-paired", "args": {}}
    return {
        "test_dataset": {"dataset": dataset, "wrapper": wrapper, "batch_size": 1},
        "eval_type": "benchmark-2",
    } | changes


test_config.__test__ = False  # not a test, whatever its name


def write_yaml(path: Path, content: dict | str) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def load_tree(framework: str):
    def load():
        tree = f"liif_{framework}"
        return (
            importlib.import_module(f"{tree}.engine").Engine,
            importlib.import_module(f"{tree}.datasets").make_loader,
        )

    return load


def process(framework, script, *arguments, inside=False) -> subprocess.CompletedProcess:
    """Run liif_<framework>/<script>.py from the repository root, or from inside the tree."""
    tree = f"liif_{framework}"
    start = [f"{script}.py"] if inside else [f"{tree}/{script}.py"]
    command = [sys.executable, *start, *map(str, arguments), "--gpu", "cpu"]
    return run(command, ROOT / tree if inside else ROOT)


def losses_of(engine) -> list[float]:
    """The losses of its last steps, without their name."""
    return [losses["loss"] for losses in engine.read_losses()]


def load_script(name: str):
    """scripts/<name>.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    start = sys.path[0]
    spec.loader.exec_module(module)
    sys.path[0] = start
    return module


def run(command: list[str], folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    """Run a command to its end, whatever that is."""
    # Jittor: where it has been imported, its handler ends this process when a child is killed.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    environ = os.environ | variables
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=300)


def start(framework: str, words: list[str], folder: Path = ROOT) -> subprocess.CompletedProcess:
    """Run Python with these words to its end, where it does not matter that it imports its framework itself.

    Jittor: threads and processes of its own make it unfit to be forked.
    """
    if framework == "jittor":
        return run([sys.executable, *words], folder)
    [ended] = forked.run(forked.Line(words, folder))
    return ended


def outcome(action: Callable[[], object], capsys) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command that is called in this process."""
    capsys.readouterr()
    try:
        action()
        status = 0
    except SystemExit as leaving:
        status = leaving.code
    output = capsys.readouterr()
    return status, output.out, output.err


# After `steps` steps of its own the process sends itself a signal, so that it is always the same step that it hits.
STOPPED_RUN = """
import os, signal, sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
from liif_core.commands import entry, train

def load_tree():
    {imports}
    from liif_{framework}.datasets import make_loader
    from liif_{framework}.engine import Engine

    class Stopped(Engine):
        steps = 0

        def train_step(self, batch, weight):
            super().train_step(batch, weight)
            self.steps += 1
            if self.steps == {steps}:
                os.kill(os.getpid(), signal.{signal})

    return Stopped, make_loader

entry.run(train.train, {framework!r}, load_tree)
"""


def stopped_process(framework, steps, signal_name, *arguments, imports="pass") -> subprocess.CompletedProcess:
    """imports: a statement that registers what the config names, after the device has been chosen."""
    names = {"root": str(ROOT), "framework": framework, "steps": steps, "signal": signal_name, "imports": imports}
    program = STOPPED_RUN.format(**names)
    return start(framework, ["-c", program, *map(str, arguments), "--gpu", "cpu"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def records(folder: Path) -> list[dict]:
    """metrics.jsonl without what no second run can repeat: time, memory, the commit, which may be made meanwhile."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in UNREPEATABLE} for record in found]


def progress_of(path: Path) -> dict:
    return formats.load(path).progress

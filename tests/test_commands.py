"""train, test and demo as people type them, and what they say to bad input: one sentence, nothing lost.

Real processes run where the process is the point (resume, signals, a full disk); a sentence about bad input is asked
for in this process, with the command line patched in. Shapes are few and small: Jittor compiles each new one.
"""

import importlib
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pictures
import pytest
import safetensors.numpy
import torch
import yaml
from conftest import ROOT
from PIL import Image

from liif_core import checkpoint, cli, environment, evaluation, imaging
from liif_core.config import DataNorm
from liif_core.normalisation import Normalisation

FRAMEWORKS = ["torch", "jittor"]

STEPS = 6  # an epoch: 3 pictures, 4 times each, 2 a batch
EPOCHS = 3
SAVE_EVERY = 4  # steps: an epoch's end and a save never coincide except at step 12


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request):
    return request.param


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Pictures to train on, pairs to test on, none of them square."""
    root = tmp_path_factory.mktemp("world")
    pictures.folder(root / "train", {"a.png": (30, 44), "b.png": (41, 29), "c.png": (28, 37)})
    pictures.folder(root / "HR", {"a.png": (26, 38), "b.png": (30, 42)})
    for path in (root / "HR").iterdir():
        high = imaging.read_image(path)
        low = imaging.resize(high, high.shape[0] // 2, high.shape[1] // 2)
        imaging.write_image(root / "LR" / f"{path.stem}x2.png", low)
    imaging.write_image(root / "input.png", pictures.picture(13, 19))
    return root


def train_config(world: Path, **changes) -> dict:
    """A run of a second; `changes` replace top-level keys."""
    wrapper = {"name": "sr-implicit-downsampled", "args": {"inp_size": 12, "scale_max": 2, "sample_q": 64}}
    training = {"name": wrapper["name"], "args": wrapper["args"] | {"augment": True}}
    folder = {"name": "image-folder", "args": {"root_path": str(world / "train")}}
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
    } | changes


def model_spec(n_feats: int) -> dict:
    encoder = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": n_feats, "no_upsampling": True}}
    imnet = {"name": "mlp", "args": {"out_dim": 3, "hidden_list": [16]}}
    return {"name": "liif", "args": {"encoder_spec": encoder, "imnet_spec": imnet}}


def test_config(world: Path, **changes) -> dict:
    roots = {"root_path_1": str(world / "LR"), "root_path_2": str(world / "HR")}
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


def process(framework, script, *arguments, inside=False, **options) -> subprocess.CompletedProcess:
    """Run liif_<framework>/<script>.py from the repository root, or from inside the tree."""
    tree = f"liif_{framework}"
    start = [f"{script}.py"] if inside else [f"{tree}/{script}.py"]
    command = [sys.executable, *start, *map(str, arguments), "--gpu", "cpu"]
    folder = ROOT / tree if inside else ROOT
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, **options)


# After `steps` steps of its own the process sends itself a signal, so that it is always the same step that it hits.
STOPPED_RUN = """
import os, signal, sys
sys.path.insert(0, {root!r})
from liif_core import cli

def load_tree():
    from liif_{framework}.datasets import make_loader
    from liif_{framework}.engine import Engine

    class Stopped(Engine):
        steps = 0

        def train_step(self, batch):
            super().train_step(batch)
            self.steps += 1
            if self.steps == {steps}:
                os.kill(os.getpid(), signal.{signal})

    return Stopped, make_loader

cli.run(cli.train, {framework!r}, load_tree)
"""


def stopped_process(framework, steps, signal_name, *arguments) -> subprocess.CompletedProcess:
    program = STOPPED_RUN.format(root=str(ROOT), framework=framework, steps=steps, signal=signal_name)
    command = [sys.executable, "-c", program, *map(str, arguments), "--gpu", "cpu"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def progress_of(path: Path) -> dict:
    return checkpoint.load(path).progress


@pytest.fixture(scope="module")
def trained(framework, world, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run."""
    place = tmp_path_factory.mktemp(f"run_{framework}")
    config = write_yaml(place / "config.yaml", train_config(world))
    result = process(framework, "train", "--config", config, "--name", "run", "--tag", "a", "--save-dir", place)
    assert result.returncode == 0, result.stderr
    assert "1/3, train: loss=" in result.stdout and "val: psnr=" in result.stdout
    return place / "run_a"


# Training


def test_a_run_leaves_what_it_promises(trained):
    names = {path.name for path in trained.iterdir()}
    checkpoints = {"epoch-last.safetensors", "epoch-best.safetensors", "epoch-2.safetensors"}
    assert names == checkpoints | {"config.yaml", "log.txt", "metrics.jsonl", "tensorboard"}
    assert progress_of(trained / "epoch-2.safetensors")["step"] == 2 * STEPS
    final = progress_of(trained / "epoch-last.safetensors")
    assert (final["epoch"], final["step"], final["batch"]) == (EPOCHS + 1, EPOCHS * STEPS, 0)
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "loss" in record]
    epochs = [record for record in records if "loss" not in record]
    assert [record["step"] for record in steps] == list(range(1, EPOCHS * STEPS + 1))
    assert [record["lr"] for record in epochs] == [1e-3, 1e-3, 5e-4]
    for epoch in epochs:
        losses = [record["loss"] for record in steps if record["epoch"] == epoch["epoch"]]
        assert epoch["train_loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert final["best_psnr"] == max(epoch["val_psnr"] for epoch in epochs)
    assert (trained / "log.txt").read_text().count("epoch ") == EPOCHS


def test_a_killed_run_goes_on_to_the_same_bits(framework, world, trained, tmp_path):
    """Killed before its first checkpoint, killed in the middle of an epoch, asked to stop, and finished.

    Its samples come from two workers, those of the uninterrupted run from the process itself.
    """
    config = write_yaml(tmp_path / "config.yaml", train_config(world, num_workers=2))
    arguments = ["--config", config, "--name", "run", "--save-dir", tmp_path]
    folder = tmp_path / "run"

    killed = stopped_process(framework, 3, "SIGKILL", *arguments)
    assert killed.returncode == -signal.SIGKILL
    assert not (folder / "epoch-last.safetensors").exists()

    killed = stopped_process(framework, 11, "SIGKILL", *arguments, "--resume")
    assert killed.returncode == -signal.SIGKILL
    place = progress_of(folder / "epoch-last.safetensors")
    assert (place["epoch"], place["batch"], place["step"]) == (2, 2, 8)  # of 11 steps done

    stopped = stopped_process(framework, 7, "SIGTERM", *arguments, "--resume")
    assert stopped.returncode == 2
    assert stopped.stderr == f"error: stopped at step 15, saved in {folder}; go on with --resume\n"
    assert progress_of(folder / "epoch-last.safetensors")["step"] == 15

    finished = process(framework, "train", *arguments, "--resume", inside=True)
    assert finished.returncode == 0, finished.stderr
    assert "resumed at epoch 3, step 15" in finished.stdout

    for name in ("epoch-last", "epoch-best", "epoch-2"):
        found, wanted = (safetensors.numpy.load_file(f / f"{name}.safetensors") for f in (folder, trained))
        assert found.keys() == wanted.keys()
        for key, array in wanted.items():
            assert found[key].tobytes() == array.tobytes(), (name, key)
        assert progress_of(folder / f"{name}.safetensors") == progress_of(trained / f"{name}.safetensors")
    # Losses of all steps and records of all epochs, each once and in order, to the last digit.
    assert (folder / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


# A full disk as a process sees it: no file grows beyond `size` bytes. From the first checkpoint on, because Jittor
# writes files of its own while it starts.
FULL_DISK_RUN = """
import resource, sys
sys.path.insert(0, {root!r})
from liif_core import checkpoint, cli
from liif_{framework} import train

save = checkpoint.save

def save_on_a_full_disk(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
    save(*arguments)

checkpoint.save = save_on_a_full_disk
cli.run(cli.train, {framework!r}, train.load_tree)
"""


def test_a_full_disk_leaves_the_previous_checkpoint(framework, world, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    before = contents(tmp_path / "run")
    config = write_yaml(tmp_path / "config.yaml", train_config(world, epoch_max=EPOCHS + 2))
    size = len(before["epoch-last.safetensors"])
    code = FULL_DISK_RUN.format(root=str(ROOT), framework=framework, size=size // 2)
    arguments = ["--config", config, "--name", "run", "--save-dir", tmp_path, "--resume", "--gpu", "cpu"]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot write") and "untouched" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    after = contents(tmp_path / "run")
    for name in before:
        if name.endswith((".safetensors", ".yaml")):
            assert after[name] == before[name], name
    assert not [name for name in after if name.startswith(".")]  # no temporary file is left


# test.py and demo.py


def test_test_prints_a_row_per_picture_and_writes_json(framework, world, trained, tmp_path):
    config = write_yaml(tmp_path / "test.yaml", test_config(world))
    model = trained / "epoch-best.safetensors"
    result = process(
        framework, "test", "--config", config, "--model", model, "--json", tmp_path / "out.json", inside=True
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert [(row["name"], row["height"], row["width"]) for row in report["rows"]] == [("a", 26, 38), ("b", 30, 42)]
    assert report["psnr"] == pytest.approx(np.mean([row["psnr"] for row in report["rows"]]))
    assert report["framework"] == framework and report["protocol"] == "benchmark-2"
    lines = result.stdout.splitlines()
    for row in report["rows"]:
        size = f"{row['height']}x{row['width']}"
        wanted = [row["name"], size, f"{row['psnr']:.4f}", f"{row['ssim']:.4f}"]
        assert wanted in [line.split() for line in lines]
    assert any(line.split()[:3] == ["mean", "2", f"{report['psnr']:.4f}"] for line in lines)
    assert f"result: {report['psnr']:.4f}" in lines


def test_demo_enlarges_by_a_factor(framework, world, trained, tmp_path):
    output = tmp_path / "new" / "out.png"
    model = trained / "epoch-last.safetensors"
    result = process(framework, "demo", "--input", world / "input.png", "--model", model, "-s", 1.7, "-o", output)
    assert result.returncode == 0, result.stderr
    assert f"13x19 -> 22x32 {output}" in result.stdout  # 22.1 and 32.3
    assert imaging.read_image(output).shape == (22, 32, 3)


# In this process


@pytest.fixture
def say(framework, monkeypatch, capsys):
    """Call a command as typed; returns (exit status, stdout, stderr). The process is left as it was."""
    environ, handlers = dict(os.environ), {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def call(command, *arguments, gpu="cpu"):
        monkeypatch.setattr(sys, "argv", [f"{command}.py", *map(str, arguments), "--gpu", gpu])
        capsys.readouterr()
        try:
            cli.run(getattr(cli, command), framework, load_tree(framework))
            status = 0
        except SystemExit as leaving:
            status = leaving.code
        output = capsys.readouterr()
        return status, output.out, output.err

    yield call
    os.environ.clear()
    os.environ.update(environ)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def refused(say):
    """Call a command that must fail with one sentence that matches `message`; returns it."""

    def call(message, command, *arguments, **options):
        status, out, err = say(command, *arguments, **options)
        assert status in (1, 2), out + err
        assert err.startswith("error: ") and len(err.splitlines()) == 1, err
        assert "Traceback" not in out
        assert re.search(message, err), err
        return err

    return call


def test_demo_rounds_instead_of_truncating(framework, say, world, trained, tmp_path):
    output, model = tmp_path / "out.png", trained / "epoch-last.safetensors"
    arguments = ["--input", world / "input.png", "--model", model, "--output", output]
    status, out, _ = say("demo", *arguments, "--resolution", "22,32")
    assert status == 0 and f"13x19 -> 22x32 {output}" in out
    found = checkpoint.load(model)
    engine = load_tree(framework)()[0](found.model, "cpu")
    engine.load_state(checkpoint.State(found.state.parameters))
    norm = Normalisation(DataNorm.model_validate(found.data_norm))
    bands = list(engine.predict_image(norm.inp(pictures.picture(13, 19)), 22, 32))
    levels = norm.rgb(np.concatenate(bands)) * 255
    written = imaging.read_image(output)
    # Half a level, and room for a float32 rounding of levels up to 255.
    assert np.abs(written - levels).max() <= 0.5 + 255 * 2.0**-22
    assert (written != np.floor(levels)).mean() > 0.3  # what truncating would have written


def test_an_enlarged_picture_is_not_left_half_filled(say, world, trained, tmp_path):
    """A picture of several bands: each of them lands in its rows."""
    output, model = tmp_path / "out.png", trained / "epoch-last.safetensors"
    arguments = ["--input", world / "input.png", "--model", model, "--output", output]
    assert say("demo", *arguments, "--resolution", "160,40")[0] == 0
    image = imaging.read_image(output).astype(float)
    assert np.abs(np.diff(image.mean(axis=(1, 2)))).max() < 20  # no row breaks off to another band, or to black


def test_an_existing_run_is_refused_and_untouched(refused, world, trained, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(world))
    before = contents(trained)
    arguments = ["--config", config, "--name", trained.name, "--save-dir", trained.parent]
    refused("exists: continue it with --resume, or choose another --name", "train", *arguments)
    changed = write_yaml(tmp_path / "changed.yaml", train_config(world, seed=4, model=model_spec(9)))
    arguments[1] = changed
    refused("differ in model, seed: use another --name", "train", *arguments, "--resume")
    assert contents(trained) == before


def test_a_finished_run_has_nothing_left_to_do(say, world, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    config = write_yaml(tmp_path / "config.yaml", train_config(world))
    status, out, _ = say("train", "--config", config, "--name", "run", "--save-dir", tmp_path, "--resume")
    assert status == 0 and f"resumed at epoch {EPOCHS + 1}" in out
    for name in ("epoch-last.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes()


def test_the_best_is_kept_and_remembered_by_a_resumed_run(say, world, tmp_path, monkeypatch):
    scores = iter([20.0, 30.0, 25.0, 29.0, 31.0])
    monkeypatch.setattr(evaluation, "validate", lambda *_: next(scores))
    best = []
    for epoch_max in (1, 2, 3, 4, 5):
        config = write_yaml(tmp_path / "config.yaml", train_config(world, epoch_max=epoch_max))
        status, _, err = say("train", "--config", config, "--name", "run", "--save-dir", tmp_path, "--resume")
        assert status == 0, err
        progress = progress_of(tmp_path / "run" / "epoch-best.safetensors")
        best.append((progress["epoch"] - 1, progress["best_psnr"]))
    assert best == [(1, 20.0), (2, 30.0), (2, 30.0), (2, 30.0), (5, 31.0)]


def test_bicubic_needs_no_model(say, world, tmp_path):
    config = write_yaml(tmp_path / "test.yaml", test_config(world))
    status, out, err = say("test", "--config", config, "--model", "bicubic")
    assert status == 0, err
    assert re.search(r"^result: \d+\.\d{4}$", out, re.MULTILINE)


# Bad configs and data


def with_train_folder(world, folder, **wrapper) -> dict:
    content = train_config(world)
    content["train_dataset"]["dataset"]["args"] = {"root_path": str(folder)}
    content["train_dataset"]["wrapper"]["args"] |= wrapper
    return content


def broken(kind: str, world: Path, place: Path) -> dict | str:
    """A training config with one thing wrong; what it needs is made in `place`."""
    good = train_config(world)
    if kind == "unknown key":
        good["epoch_maxx"] = 3
    elif kind == "unknown model":
        good["model"]["name"] = "lif"
    elif kind == "unknown encoder":
        good["model"]["args"]["encoder_spec"]["name"] = "edsr-baselin"
    elif kind == "unknown argument":
        good["optimizer"]["args"]["beta"] = 0.9
    elif kind == "no learning rate":
        good["optimizer"]["args"] = {}
    elif kind == "wrong type":
        good["epoch_max"] = "many"
    elif kind == "wrong type inside":
        good["model"]["args"]["imnet_spec"]["args"]["hidden_list"] = "wide"
    elif kind == "syntax":
        return "model: [1, 2\nepoch_max: 3\n"
    elif kind == "empty":
        return ""
    elif kind == "a test config":
        return test_config(world)
    elif kind == "missing folder":
        return with_train_folder(world, place / "nowhere")
    elif kind == "no images":
        (place / "none").mkdir()
        return with_train_folder(world, place / "none")
    elif kind == "a file for a folder":
        return with_train_folder(world, world / "input.png")
    elif kind == "too small":
        return with_train_folder(world, pictures.folder(place / "p", {"tiny.png": (20, 60)}), scale_min=2)
    elif kind in ("truncated image", "no image"):
        folder = pictures.folder(place / "p", {"a.png": (30, 30), "z.png": (30, 30)})
        whole = (folder / "z.png").read_bytes()
        (folder / "z.png").write_bytes(whole[: len(whole) // 2] if kind == "truncated image" else b"text")
        return with_train_folder(world, folder)
    return good


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("unknown key", "unknown key 'epoch_maxx': did you mean 'epoch_max'"),
        ("unknown model", "unknown model 'lif': did you mean 'liif'"),
        ("unknown encoder", "unknown model 'edsr-baselin': did you mean 'edsr-baseline'"),
        ("unknown argument", "optimizer 'adam': unknown key 'beta': did you mean 'betas'"),
        ("no learning rate", "optimizer 'adam': key 'lr' is missing"),
        ("wrong type", "'epoch_max' is 'many'"),
        ("wrong type inside", "model 'mlp': 'hidden_list' is 'wide'"),
        ("syntax", "line 2: not valid YAML"),
        ("empty", "a config is a mapping of keys to values"),
        ("a test config", "'test_dataset': it is not a config for train.py"),
        ("missing folder", "no folder or file '.*nowhere'"),
        ("no images", "no images in .*none: put image files"),
        ("a file for a folder", "input.png is not a folder"),
        ("too small", "'tiny' is 20x60, smaller than the 24x24 crop"),
        ("truncated image", "z.png as an image .truncated"),
        ("no image", "z.png is not a readable image.*skip_broken: true"),
    ],
)
def test_a_broken_config_or_folder_is_one_sentence(refused, world, tmp_path, kind, message):
    config = write_yaml(tmp_path / "config.yaml", broken(kind, world, tmp_path))
    refused(message, "train", "--config", config, "--name", "run", "--save-dir", tmp_path / "save")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_broken_images_can_be_left_out(say, world, tmp_path):
    content = broken("truncated image", world, tmp_path)
    content["train_dataset"]["dataset"]["args"] |= {"skip_broken": True, "repeat": 2}
    config = write_yaml(tmp_path / "config.yaml", content | {"epoch_max": 1})
    status, out, err = say("train", "--config", config, "--name", "run", "--save-dir", tmp_path)
    assert status == 0, err
    assert "z.png" in out + err and "train: 2 samples" in out


def test_a_missing_config_is_one_sentence(refused):
    refused("no config 'nowhere.yaml': looked for it in", "train", "--config", "nowhere.yaml")
    refused("no config 'nowhere.yaml': looked for it in", "test", "--config", "nowhere.yaml", "--model", "bicubic")


def test_a_train_config_for_test_is_recognised(refused, world, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(world))
    refused("'train_dataset': it is not a config for test.py", "test", "--config", config, "--model", "bicubic")


def test_folders_that_do_not_pair_up_are_one_sentence(refused, world, tmp_path):
    shutil.copytree(world / "LR", tmp_path / "LR")
    (tmp_path / "LR" / "bx2.png").unlink()
    content = test_config(world)
    content["test_dataset"]["dataset"]["args"]["root_path_1"] = str(tmp_path / "LR")
    config = write_yaml(tmp_path / "config.yaml", content)
    refused("do not pair up: no partner for b.png", "test", "--config", config, "--model", "bicubic")


# Bad checkpoints


class Evil:
    """Pickles to a call that makes a file."""

    def __init__(self, sentinel):
        self.sentinel = str(sentinel)

    def __reduce__(self):
        return open, (self.sentinel, "w")


@pytest.mark.parametrize("command", ["test", "demo", "train"])
@pytest.mark.parametrize("kind", ["truncated", "code", "code in an archive", "missing", "no checkpoint"])
def test_a_bad_checkpoint_is_one_sentence(refused, world, trained, tmp_path, command, kind):
    sentinel = tmp_path / "sentinel"
    path = tmp_path / ("model.pth" if kind.startswith("code") else "model.safetensors")
    if kind == "truncated":
        whole = (trained / "epoch-last.safetensors").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        message = "not a whole safetensors file .cut short or damaged"
    elif kind == "code":
        path.write_bytes(pickle.dumps(Evil(sentinel)))
        message = "not a .pth archive"
    elif kind == "code in an archive":
        torch.save({"model": {"name": "liif", "args": {}, "sd": {"w": Evil(sentinel)}}}, path)
        message = "refused: it contains the name"
    elif kind == "no checkpoint":
        safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, path)
        message = "not a checkpoint of this project"
    else:
        message = "no checkpoint '.*model.safetensors'"
    if command == "train":
        config = write_yaml(tmp_path / "config.yaml", train_config(world, resume=str(path)))
        arguments = ["--config", config, "--name", "run", "--save-dir", tmp_path]
    elif command == "test":
        arguments = ["--config", write_yaml(tmp_path / "config.yaml", test_config(world)), "--model", path]
    else:
        arguments = ["--input", world / "input.png", "--scale", 2, "--output", tmp_path / "out.png", "--model", path]
    refused(message, command, *arguments)
    assert not sentinel.exists()
    assert not (tmp_path / "out.png").exists()


def test_a_checkpoint_of_another_architecture_names_what_differs(refused, world, trained, tmp_path):
    source = trained / "epoch-last.safetensors"
    before = contents(trained)
    config = write_yaml(tmp_path / "config.yaml", train_config(world, model=model_spec(9), resume=str(source)))
    message = refused("holds another model", "train", "--config", config, "--name", "run", "--save-dir", tmp_path)
    assert "encoder.body.0.body.0.weight (8x8x3x3 in the file, 9x9x3x3 in the model)" in message
    assert contents(trained) == before


def test_a_damaged_last_checkpoint_is_neither_used_nor_replaced(refused, world, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    last = tmp_path / "run" / "epoch-last.safetensors"
    last.write_bytes(last.read_bytes()[:-9])
    before = contents(tmp_path / "run")
    config = write_yaml(tmp_path / "config.yaml", train_config(world))
    arguments = ["--config", config, "--name", "run", "--save-dir", tmp_path, "--resume"]
    refused("epoch-last.safetensors is not a whole safetensors file", "train", *arguments)
    assert contents(tmp_path / "run") == before


# Bad places and devices


def test_a_gpu_that_is_not_there(refused, world, monkeypatch):
    monkeypatch.setattr(environment, "count_gpus", lambda: 0)
    config = "train-div2k/train_edsr-baseline-liif.yaml"
    refused("--gpu 7: this machine has no GPU at all; --gpu cpu", "train", "--config", config, gpu="7")
    refused("--gpu 'one' is not understood", "train", "--config", config, gpu="one")


def places_that_cannot_be_written(tmp_path) -> list[Path]:
    (tmp_path / "file").write_text("")
    closed = tmp_path / "closed"
    closed.mkdir(exist_ok=True)
    closed.chmod(0o500)
    # Permissions do not hold root back; a path below a file holds back everybody.
    return [tmp_path / "file"] + ([] if os.geteuid() == 0 else [closed])


def test_a_run_folder_that_cannot_be_made(refused, world, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(world))
    for place in places_that_cannot_be_written(tmp_path):
        refused("cannot write the run folder", "train", "--config", config, "--name", "run", "--save-dir", place)
    arguments = ["--config", config, "--name", "file", "--save-dir", tmp_path]
    refused("run folder .*file", "train", *arguments)
    refused("run folder .*file", "train", *arguments, "--resume")


def test_an_output_that_cannot_be_written(refused, world, tmp_path):
    arguments = ["--input", world / "input.png", "--scale", 2, "--output"]
    for place in places_that_cannot_be_written(tmp_path):
        refused("cannot write", "demo", *arguments, place / "out.png")
    (tmp_path / "folder.png").mkdir()
    refused("it is a folder; name a file", "demo", *arguments, tmp_path / "folder.png")
    refused("cannot tell an image format from 'out.xyz'", "demo", *arguments, tmp_path / "out.xyz")


# Bad sizes and pictures for demo.py


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (["--resolution", "0,5"], "output size 0x5: height and width must be at least 1 pixel"),
        (["--resolution", "abc"], "--resolution 'abc': two whole numbers are wanted, height,width"),
        (["--resolution", "3"], "two whole numbers are wanted"),
        (["--resolution=-3,5"], "two whole numbers are wanted"),
        (["--resolution", "3.5,4"], "two whole numbers are wanted"),
        (["--resolution", "100000,100000"], "output size 100000x100000: at most 700,000,000 pixels"),
        (["--scale", "nan"], "--scale nan: a factor above 0"),
        (["--scale", "-1"], "--scale -1.0: a factor above 0"),
        (["--scale", "0"], "--scale 0.0: a factor above 0"),
        (["--scale", "inf"], "--scale inf: a factor above 0"),
        (["--scale", "1e308"], r"--scale 1e\+308: a factor above 0"),
        (["--scale", "1e5"], "output size 1300000x1900000: at most"),
        ([], "how large. give --resolution H,W or --scale FACTOR"),
    ],
)
def test_a_size_that_is_none_is_one_sentence(refused, world, tmp_path, size, message):
    refused(message, "demo", "--input", world / "input.png", "--output", tmp_path / "out.png", *size)
    assert not (tmp_path / "out.png").exists()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def write_bomb(path: Path) -> None:
    """A PNG of a few bytes that claims 100000 x 100000 pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"")) + png_chunk(b"IEND", b""))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no such image: .*input.png"),
        ("text", "cannot read .*input.png as an image"),
        ("no bytes", "cannot read .*input.png as an image"),
        ("truncated", "cannot read .*input.png as an image .truncated"),
        ("bomb", "input.png claims more than 700,000,000 pixels"),
        ("folder", "input.png is a folder"),
    ],
)
def test_an_input_that_is_no_picture_is_one_sentence(refused, world, tmp_path, kind, message):
    path = tmp_path / "input.png"
    if kind == "text":
        path.write_text("a text")
    elif kind == "no bytes":
        path.write_bytes(b"")
    elif kind == "truncated":
        whole = (world / "input.png").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "bomb":
        write_bomb(path)
    elif kind == "folder":
        path.mkdir()
    refused(message, "demo", "--input", path, "--scale", 2, "--output", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_the_bomb_is_one(tmp_path):
    write_bomb(tmp_path / "bomb.png")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "bomb.png")

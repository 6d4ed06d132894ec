"""train, test and demo as people type them.

Real processes run where the process is the point (resume, signals, a full disk); the rest runs in this process, with
the command line patched in. Shapes are few and small: Jittor compiles each new one.
"""

import hashlib
import importlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import yaml

from helpers import ROOT, made_images
from helpers.small_run import (
    EPOCHS,
    STEPS,
    contents,
    load_tree,
    model_spec,
    process,
    progress_of,
    records,
    start,
    stopped_process,
    test_config,
    train_config,
    write_yaml,
)
from liif_core.checkpoints import formats
from liif_core.config.schema import DataNorm
from liif_core.engine import NetworkState
from liif_core.evaluation import evaluate
from liif_core.images import rgb8
from liif_core.images.normalisation import Normalisation

pytestmark = pytest.mark.slow


def head() -> str:
    """The commit that is checked out; empty without git."""
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


# Training


def test_a_run_leaves_what_it_promises(trained):
    names = {path.name for path in trained.iterdir()}
    checkpoints = {f"epoch-{name}.safetensors" for name in ("last", "previous", "best", "2")}
    assert names == checkpoints | {"config.yaml", "log.txt", "metrics.jsonl", "tensorboard", "run.lock"}
    assert progress_of(trained / "epoch-2.safetensors")["step"] == 2 * STEPS
    final = progress_of(trained / "epoch-last.safetensors")
    assert (final["epoch"], final["step"], final["batch"]) == (EPOCHS + 1, EPOCHS * STEPS, 0)
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in lines if "loss" in record]
    epochs = [record for record in lines if "loss" not in record]
    assert all(epoch["seconds"] > 0 for epoch in epochs)
    assert {re.sub("-dirty$", "", epoch["commit"] or "") for epoch in epochs} == {head()}
    assert [record["step"] for record in steps] == list(range(1, EPOCHS * STEPS + 1))
    assert [record["lr"] for record in epochs] == [1e-3, 1e-3, 5e-4]
    for epoch in epochs:
        losses = [record["loss"] for record in steps if record["epoch"] == epoch["epoch"]]
        assert epoch["train_loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert final["best_psnr"] == max(epoch["val_psnr"] for epoch in epochs)
    assert (trained / "log.txt").read_text().count("epoch ") == EPOCHS


def test_a_killed_run_goes_on_to_the_same_bits(framework, image_folders, trained, tmp_path):
    """Killed before its first checkpoint, killed in the middle of an epoch, asked to stop, and finished.

    Its samples come from two workers, those of the uninterrupted run from the process itself.
    """
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, num_workers=2))
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
    assert stopped.returncode == 130
    assert stopped.stderr == f"stopped at step 15, saved in {folder}; go on with --resume\n"
    assert progress_of(folder / "epoch-last.safetensors")["step"] == 15

    words = ["train.py", *map(str, arguments), "--resume", "--gpu", "cpu"]
    finished = start(framework, words, ROOT / f"liif_{framework}")
    assert finished.returncode == 0, finished.stderr
    assert "resumed at epoch 3, step 15" in finished.stdout

    for name in ("epoch-last", "epoch-best", "epoch-2"):
        found, expected = (safetensors.numpy.load_file(f / f"{name}.safetensors") for f in (folder, trained))
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            assert found[key].tobytes() == array.tobytes(), (name, key)
        assert progress_of(folder / f"{name}.safetensors") == progress_of(trained / f"{name}.safetensors")
    # Losses of all steps and records of all epochs, each once and in order, to the last digit.
    assert records(folder) == records(trained)


def test_training_goes_on_when_nobody_reads_what_it_says(image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    command = [sys.executable, "liif_torch/train.py", "--config", config, "--save-dir", tmp_path, "--gpu", "cpu"]
    command = [*map(str, command), "--name", "run"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.stdout.close()
    assert process.wait(timeout=120) == 0
    assert progress_of(tmp_path / "run" / "epoch-last.safetensors")["epoch"] == EPOCHS + 1
    assert (tmp_path / "run" / "log.txt").read_text().count("epoch ") == EPOCHS


def test_a_closed_terminal_stops_a_training_that_is_saved(image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, epoch_max=400))
    command = [sys.executable, "liif_torch/train.py", "--config", config, "--save-dir", tmp_path, "--gpu", "cpu"]
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # Jittor's handler would end this process
    process, terminal = pty.fork()
    if not process:
        for number in (signal.SIGINT, signal.SIGHUP):  # environment.shield_children has forked children ignore them
            signal.signal(number, signal.SIG_DFL)
        os.chdir(ROOT)
        os.execv(sys.executable, [*map(str, command), "--name", "run"])
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 8:
        os.read(terminal, 10_000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 130
    step = progress_of(tmp_path / "run" / "epoch-last.safetensors")["step"]
    assert step == [record["step"] for record in records(tmp_path / "run")][-1] > 0


# A full disk as a process sees it: no file grows beyond `size` bytes. From the first checkpoint on, because Jittor
# writes files of its own while it starts.
FULL_DISK_RUN = """
import resource, sys
sys.path.insert(0, {root!r})
from liif_core.checkpoints import native
from liif_core.commands import entry, train
from liif_{framework} import load_tree

save = native.save

def save_on_a_full_disk(*arguments):
    resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))
    save(*arguments)

native.save = save_on_a_full_disk
entry.run(train.train, {framework!r}, load_tree)
"""


def test_a_full_disk_leaves_the_previous_checkpoint(framework, image_folders, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    before = contents(tmp_path / "run")
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, epoch_max=EPOCHS + 2))
    size = len(before["epoch-last.safetensors"])
    code = FULL_DISK_RUN.format(root=str(ROOT), framework=framework, size=size // 2)
    arguments = ["--config", config, "--name", "run", "--save-dir", tmp_path, "--resume", "--gpu", "cpu"]
    result = start(framework, ["-c", code, *map(str, arguments)])
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot write") and "untouched" in result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    after = contents(tmp_path / "run")
    for name in before:
        if name.endswith(".safetensors"):
            assert after[name] == before[name], name
    assert not [name for name in after if name.startswith(".")]  # no temporary file is left


# test.py and demo.py


def test_test_prints_a_row_per_image_and_writes_json(framework, image_folders, trained, tmp_path):
    config = write_yaml(tmp_path / "test.yaml", test_config(image_folders))
    model = trained / "epoch-best.safetensors"
    result = process(framework, "test", "--config", config, "--model", model, "--json", tmp_path / "out", inside=True)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    report = json.loads((tmp_path / "out" / "test.json").read_text())
    assert [(row["name"], row["height"], row["width"]) for row in report["rows"]] == [("a", 26, 38), ("b", 30, 42)]
    assert report["psnr"] == pytest.approx(np.mean([row["psnr"] for row in report["rows"]]))
    assert report["framework"] == framework and report["protocol"] == "benchmark-2" and report["images"] == 2
    assert report["weights"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert re.sub("-dirty$", "", report["commit"] or "") == head()
    lines = result.stdout.splitlines()
    for row in report["rows"]:
        size = f"{row['height']}x{row['width']}"
        expected = [row["name"], size, f"{row['psnr']:.4f}", f"{row['ssim']:.4f}"]
        assert expected in [line.split() for line in lines]
    assert any(line.split()[:3] == ["mean", "2", f"{report['psnr']:.4f}"] for line in lines)
    assert f"result: {report['psnr']:.4f}" in lines


def test_demo_upscales_by_a_factor(framework, image_folders, trained, tmp_path):
    output = tmp_path / "new" / "out.png"
    model = trained / "epoch-last.safetensors"
    result = process(
        framework, "demo", "--input", image_folders / "input.png", "--model", model, "-s", 1.7, "-o", output
    )
    assert result.returncode == 0, result.stderr
    assert f"13x19 -> 22x32 {output}" in result.stdout  # 22.1 and 32.3
    assert rgb8.read_image(output).shape == (22, 32, 3)


# In this process


def test_demo_rounds_instead_of_truncating(framework, run_command, image_folders, trained, tmp_path):
    output, model = tmp_path / "out.png", trained / "epoch-last.safetensors"
    arguments = ["--input", image_folders / "input.png", "--model", model, "--output", output]
    status, out, _ = run_command("demo", *arguments, "--resolution", "22,32", "--border", "zeros")
    assert status == 0 and f"13x19 -> 22x32 {output}" in out
    found = formats.load(model)
    engine = load_tree(framework)()[0](found.model, "cpu")
    engine.load_state({"model": NetworkState(found.state["model"].parameters)})
    norm = Normalisation(DataNorm.model_validate(found.data_norm))
    bands = list(engine.predict_image(norm.inp(made_images.make_image(13, 19)), 22, 32))
    levels = norm.rgb(np.concatenate(bands)) * 255
    written = rgb8.read_image(output)
    # Half a level, and room for a float32 rounding of levels up to 255.
    assert np.abs(written - levels).max() <= 0.5 + 255 * 2.0**-22
    assert (written != np.floor(levels)).mean() > 0.3  # what truncating would have written


def test_bare_weights_are_a_model_with_the_config_of_their_run(
    framework, run_command, image_folders, trained, tmp_path
):
    model, config = trained / "epoch-last.safetensors", trained / "config.yaml"
    weights = formats.load(model).state["model"].weights
    safetensors.numpy.save_file({f"module.{name}": array for name, array in weights.items()}, tmp_path / "bare.bin")
    scores = write_yaml(tmp_path / "test.yaml", test_config(image_folders))
    for path, told in ((model, []), (tmp_path / "bare.bin", ["--model-config", config])):
        image = tmp_path / path.with_suffix(".png").name
        status, out, err = run_command(
            "demo", image_folders / "input.png", "-s", 2, "-o", image, "--model", path, *told
        )
        assert status == 0 and ("names are taken without 'module.'" in out) == bool(told), err
        status, out, err = run_command("test", "--config", scores, "--model", path, "--json", tmp_path, *told)
        assert status == 0 and ("names are taken without 'module.'" in out) == bool(told), err
        report = json.loads((tmp_path / "test.json").read_text())
        assert report.get("model_config") == (str(config) if told else None)
        (tmp_path / "test.json").rename(image.with_suffix(".rows"))
    first, second = (json.loads((tmp_path / f"{name}.rows").read_text()) for name in ("epoch-last", "bare"))
    assert first["rows"] == second["rows"]
    with pytest.warns(UserWarning, match="names are taken without 'module.'"):
        tree = importlib.import_module(f"liif_{framework}").load(tmp_path / "bare.bin", device="cpu", config=config)
    pixels = rgb8.read_image(tmp_path / "bare.png")
    np.testing.assert_array_equal(pixels, rgb8.read_image(tmp_path / "epoch-last.png"))
    np.testing.assert_array_equal(pixels, tree.upscale(rgb8.read_image(image_folders / "input.png"), 2))


def test_an_upscaled_image_is_not_left_half_filled(run_command, image_folders, trained, tmp_path):
    """An image of several bands: each of them lands in its rows."""
    output, model = tmp_path / "out.png", trained / "epoch-last.safetensors"
    arguments = ["--input", image_folders / "input.png", "--model", model, "--output", output]
    assert run_command("demo", *arguments, "--resolution", "160,40")[0] == 0
    image = rgb8.read_image(output).astype(float)
    assert np.abs(np.diff(image.mean(axis=(1, 2)))).max() < 20  # no row breaks off to another band, or to black


def test_an_existing_run_is_refused_and_untouched(expect_error, image_folders, trained, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    before = contents(trained)
    arguments = ["--config", config, "--name", trained.name, "--save-dir", trained.parent]
    expect_error("exists: continue it with --resume, or choose another --name", "train", *arguments)
    changed = write_yaml(tmp_path / "changed.yaml", train_config(image_folders, seed=4, model=model_spec(9)))
    arguments[1] = changed
    expect_error("differ in model, seed: use another --name", "train", *arguments, "--resume")
    assert contents(trained) == before


def test_a_finished_run_has_nothing_left_to_do(run_command, image_folders, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    status, out, _ = run_command("train", "--config", config, "--name", "run", "--save-dir", tmp_path, "--resume")
    assert status == 0 and f"run is finished: it has {EPOCHS} epochs and epoch_max is {EPOCHS}; a larger one" in out
    for name in ("epoch-last.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (trained / name).read_bytes()


def test_the_best_is_kept_and_remembered_by_a_resumed_run(run_command, image_folders, tmp_path, monkeypatch):
    scores = iter([20.0, 30.0, 25.0, 29.0, 31.0])
    monkeypatch.setattr(evaluate, "validate", lambda *_: {"psnr": next(scores)})
    best = []
    for epoch_max in (1, 2, 3, 4, 5):
        config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, epoch_max=epoch_max))
        status, _, err = run_command("train", "--config", config, "--name", "run", "--save-dir", tmp_path, "--resume")
        assert status == 0, err
        progress = progress_of(tmp_path / "run" / "epoch-best.safetensors")
        best.append((progress["epoch"] - 1, progress["best_psnr"]))
    assert best == [(1, 20.0), (2, 30.0), (2, 30.0), (2, 30.0), (5, 31.0)]


def test_bicubic_needs_no_model(run_command, image_folders, tmp_path):
    config = write_yaml(tmp_path / "test.yaml", test_config(image_folders))
    status, out, err = run_command("test", "--config", config, "--model", "bicubic")
    assert status == 0, err
    assert re.search(r"^result: \d+\.\d{4}$", out, re.MULTILINE)


def test_several_configs_in_one_process_are_one_after_the_other(run_command, image_folders, trained, tmp_path):
    """Each with its own protocol and normalisation; --set reaches them all."""
    plain = test_config(image_folders) | {
        "data_norm": {"inp": {"sub": [0], "div": [1]}, "gt": {"sub": [0], "div": [1]}}
    }
    configs = [write_yaml(tmp_path / "test-set9-2.yaml", test_config(image_folders))]
    configs += [write_yaml(tmp_path / "test-faces-19-38.yaml", plain | {"eval_type": None})]
    arguments = ["--model", trained / "epoch-last.safetensors", "--set", "test_dataset.dataset.args.first_k=1"]
    together, alone = tmp_path / "together", tmp_path / "alone"
    status, out, err = run_command("test", "--config", *configs, *arguments, "--json", together)
    assert status == 0 and out.count("result: ") == 2, err
    reports = [json.loads((together / f"{config.stem}.json").read_text()) for config in configs]
    assert [(r["dataset"], r["scale"], r["protocol"], r["images"]) for r in reports] == [
        ("set9", 2, "benchmark-2", 1),
        ("faces-19-38", 2, None, 1),
    ]
    assert reports[0]["psnr"] != reports[1]["psnr"]
    assert reports[0]["set"] == arguments[-1:]  # a test that was changed says so
    for config in reversed(configs):
        assert run_command("test", "--config", config, *arguments, "--json", alone)[0] == 0
        name = f"{config.stem}.json"
        assert (alone / name).read_text() == (together / name).read_text()


def test_set_changes_the_config_and_stands_in_the_run_folder(run_command, image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    arguments = ["--config", config, "--name", "run", "--save-dir", tmp_path]
    changes = ["--set", "epoch_max=1", "train_dataset.dataset.args.repeat=2", "--set", "val_dataset=null"]
    status, out, err = run_command("train", *arguments, *changes)
    assert status == 0 and "1/1" in out and "train: 6 samples, val: 0" in out, err
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert kept["epoch_max"] == 1 and kept["val_dataset"] is None
    assert kept["train_dataset"]["dataset"]["args"]["repeat"] == 2

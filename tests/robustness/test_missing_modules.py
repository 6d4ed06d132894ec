"""Systems that lack what Linux has: Windows' Python has no fcntl, resource or SIGHUP, and nobody has to have Jittor."""

import importlib.util
import json
import platform
import re
import sys

import pytest
from packaging.requirements import Requirement

from helpers import ROOT
from helpers.small_run import run, test_config, train_config, write_yaml
from liif_core.commands import doctor
from liif_core.images import rgb8
from liif_core.system import packages

pytestmark = pytest.mark.slow

# In a process of its own. PyTorch comes first: Linux' own asks for some of it when it is imported.
HIDDEN = """
import importlib.machinery, json, os, signal, sys

sys.path.insert(0, {root!r})
import torch.multiprocessing

hidden = {{"fcntl", "resource", "termios", "pty", "jittor", "jittor_utils"}}

def hiding(plain):
    return lambda name, *rest: None if name.partition(".")[0] in hidden else plain(name, *rest)

for finder in (importlib.machinery.PathFinder, importlib.machinery.BuiltinImporter):  # Debian's fcntl is built in
    finder.find_spec = hiding(finder.find_spec)
for name in hidden:
    sys.modules.pop(name, None)
for module, names in (
    (os, ("register_at_fork", "killpg", "posix_fallocate", "fork", "waitid", "setsid", "confstr", "sysconf")),
    (signal, ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGKILL", "pthread_sigmask")),
):
    for name in names:
        delattr(module, name)
from liif_core.commands import main
for words in json.loads(sys.argv[1]):
    sys.argv = ["liif", *words]
    print("$", *words, flush=True)
    try:
        main.main()
    except SystemExit as leaving:
        print("status", leaving.code, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def said(image_folders, tmp_path_factory):
    """A folder, and stdout and stderr of liif's commands in it, one after the other."""
    folder = tmp_path_factory.mktemp("hidden")
    config = train_config(image_folders, epoch_max=1, step_save=None)
    config["train_dataset"]["dataset"]["args"] |= {"first_k": 1, "repeat": 2, "cache": "bin"}  # one step
    training = ["--config", write_yaml(folder / "train.yaml", config), "--save-dir", folder, "--name"]
    testing = ["test", "--config", write_yaml(folder / "test.yaml", test_config(image_folders)), "--model"]
    model = folder / "torch" / "epoch-last.safetensors"
    commands = [
        ["train", *training, "torch"],
        [*testing, model],
        ["demo", image_folders / "input.png", "-s", 2, "-o", folder / "torch.png", "--model", model],
        ["train", "--framework", "jittor", *training, "jittor"],
        ["demo", "--framework", "jittor", image_folders / "input.png", "-s", 2, "-o", folder / "jittor.png"],
    ]
    words = json.dumps([[str(word) for word in command] for command in commands])
    result = run([sys.executable, "-c", HIDDEN.format(root=str(ROOT)), words])
    assert result.returncode == 0, result.stderr
    return folder, result.stdout, result.stderr


def test_pytorch_needs_neither_jittor_nor_what_windows_lacks(said):
    folder, out, err = said
    assert "1/1, train: loss=" in out and "cannot be locked" in out and "result: " in out, err
    assert rgb8.read_image(folder / "torch.png").shape == (26, 38, 3)


def test_without_jittor_one_sentence_says_how_to_get_it(said):
    folder, _, err = said
    lines = err.splitlines()
    assert len(lines) == 4 and lines[1::2] == ["status 2"] * 2, err
    sentence = "error: the Python package 'jittor' is not installed: run `.* -m pip install jittor==1.3.11.0 'numpy<2'"
    assert all(re.match(sentence, line) for line in lines[::2])
    assert not (folder / "jittor").exists() and not (folder / "jittor.png").exists()


@pytest.mark.parametrize(("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("win32", "AMD64")])
def test_jittor_is_required_where_its_onednn_exists(monkeypatch, system, machine):
    """By requirements.txt as by the code: see what pip makes of the markers."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    here = {"sys_platform": system, "platform_machine": machine}
    lines = [Requirement(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    listed = {line.name for line in lines if line.marker is None or line.marker.evaluate(here)}
    expected = system == "linux" and machine == "x86_64"
    assert {"jittor", "onednn-cpu-gomp", "onednn-devel-cpu-gomp"} & listed == (
        {"jittor", "onednn-cpu-gomp", "onednn-devel-cpu-gomp"} if expected else set()
    )
    assert {"torch", "imageio", "imageio-ffmpeg", "pyvips-binary"} <= listed
    assert packages.jittor_is_required() == expected
    assert ("onednn" in packages.missing("jittor")) == expected
    assert ("tested on Linux" in packages.missing("jittor")) != expected


def test_doctor_asks_for_jittor_where_it_is_required(monkeypatch, capsys):
    monkeypatch.setattr(packages, "jittor_is_required", lambda: False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    findings = {finding.name: finding for finding in doctor.examine()}
    assert findings["Jittor"].good and "not required" in findings["Jittor"].found
    assert "C++ compiler" not in findings and "GPUs" in findings

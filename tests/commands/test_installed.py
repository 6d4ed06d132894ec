"""`pip install .` and the command `liif`, from a folder that has nothing to do with the checkout.

The installation goes into a folder of its own, without network, from a copy: setuptools leaves build/ behind.
"""

import json
import shutil
import sys
from pathlib import Path

import pytest

import liif_core
from helpers import ROOT, made_images
from helpers.small_run import load_script, outcome, run, train_config, write_yaml
from liif_core.commands import entry, main, train
from liif_core.images import rgb8
from liif_core.system import places
from liif_core.system.places import PRETRAINED

pytestmark = pytest.mark.slow

TREES = ("liif_core", "liif_torch", "liif_jittor")
FOLDERS = ("configs", "pretrained", "reference")
FILES = ("pyproject.toml", "requirements.txt", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Where pip has put it; save/ and load/ were there to be left out."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in (*TREES, *FOLDERS):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    for path in (source / "save" / "epoch-last.safetensors", source / "load" / "1.png"):
        path.parent.mkdir()
        path.touch()
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    result = run([sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)])
    assert result.returncode == 0, result.stdout + result.stderr
    return target


@pytest.fixture
def liif(installed, tmp_path):
    """Type `liif ...` in an empty folder; returns what came of it."""

    def call(*arguments, python=()):
        line = [sys.executable, *python, str(installed / "bin" / "liif"), *map(str, arguments)]
        return run(line, tmp_path, PYTHONPATH=str(installed))

    return call


@pytest.fixture
def typed(monkeypatch, capsys):
    """Type `liif ...` in this process; returns exit status, stdout and stderr."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["liif", *arguments])
        return outcome(main.main, capsys)

    return call


def files(folder: Path, pattern: str = "**/*") -> set[str]:
    found = (path for path in folder.glob(pattern) if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in found}


# What is installed


def test_all_code_is_installed_and_of_the_rest_what_is_shipped(installed):
    shipped = {"requirements.txt", *(f"{name}/{file}" for name in FOLDERS for file in files(ROOT / name))}
    assert files(installed / "liif_core" / "shipped") == shipped
    code = {f"{tree}/{file}" for tree in TREES for file in files(ROOT / tree, "**/*.py")}
    assert len(code) > 60 and files(installed, "liif_*/**/*.py") == code
    top = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert top - {"__pycache__"} == {*TREES, "bin"}


def test_the_installed_package_is_what_runs_and_finds_what_is_shipped(installed, tmp_path):
    code = "import liif_core; from liif_core.system import places; "
    code += "print(liif_core.__file__, places.WORK, places.PRETRAINED, sep='\\n')"
    result = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(installed))
    core = installed / "liif_core"
    assert result.stdout.split() == [f"{core}/__init__.py", ".", f"{core}/shipped/pretrained/{PRETRAINED.name}"]


def test_in_a_checkout_everything_lies_in_its_root():
    assert (places.CODE, places.SHIPPED, places.WORK, places.INSTALLED) == (ROOT, ROOT, ROOT, False)


# The commands, installed


def test_demo(framework, liif, tmp_path):
    made_images.write(tmp_path / "image.png", 13, 19)
    line = ["demo", "image.png", "-s", 1.5, "-o", "out.png", "--gpu", "cpu"]
    result = liif(*line, *(["--framework", framework] if framework != "torch" else []))
    assert result.returncode == 0, result.stderr
    assert f"{framework} on cpu" in result.stdout
    assert rgb8.read_image(tmp_path / "out.png").shape == (20, 28, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"image.png", "out.png"}


def test_test_finds_its_configs_in_the_package_and_the_images_here(liif, tmp_path):
    refused = liif("test", "--config", "test/test-set5-4.yaml", "--model", "bicubic")
    assert refused.returncode == 2 and refused.stderr.startswith("error: no folder or file './load/benchmark/Set5/")
    assert "liif download --list" in refused.stderr and len(refused.stderr.splitlines()) == 1
    made_images.folder(tmp_path / "load/benchmark/Set5/HR", {"a.png": (52, 76)})
    made_images.folder(tmp_path / "load/benchmark/Set5/LR_bicubic/X4", {"ax4.png": (13, 19)})
    result = liif("test", "--config", "test/test-set5-4.yaml", "--model", "bicubic", "--json", "scores")
    assert result.returncode == 0, result.stderr
    assert "protocol benchmark-4, Pillow" in result.stdout and "result: " in result.stdout
    assert json.loads((tmp_path / "scores/test-set5-4.json").read_text())["commit"] is None
    checked = liif("check-data", "test/test-set5-4.yaml", "--quick")
    assert checked.returncode == 0 and "test_dataset: ok" in checked.stdout, checked.stderr


def test_train_saves_here_and_report_shows_it_beside_what_was_published(liif, image_folders, tmp_path):
    missing = liif("train", "--config", "train-bsds400/train_edsr-baseline-liif.yaml")
    assert missing.returncode == 2 and "load/bsds400" in missing.stderr
    nothing = liif("report")
    assert nothing.returncode == 2 and "no experiments folder" in nothing.stderr and not list(tmp_path.iterdir())
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, epoch_max=1, step_save=None))
    name = "edsr-baseline-liif_torch"  # as in configs/experiments.txt, with a curve in reference/
    result = liif("train", "--config", config, "--name", name, "--gpu", "cpu")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "save" / name / "epoch-last.safetensors").exists()
    result = liif("report")
    assert result.returncode == 0 and result.stdout.startswith("save/report.html: save"), result.stdout + result.stderr
    page = (tmp_path / "save" / "report.html").read_text()
    assert "EDSR-baseline-LIIF" in page and "predecessor" in page
    refused = liif("report", "--readme")
    assert refused.returncode == 2 and "run this in the repository" in refused.stderr


def test_convert(liif, tmp_path):
    result = liif("convert", f"pretrained/{PRETRAINED.name}", "bare.safetensors")
    assert result.returncode == 0 and (tmp_path / "bare.safetensors").exists(), result.stderr


def test_download_fills_load_here(liif):
    result = liif("download", "bsds400", "--dry-run")
    assert result.returncode == 0 and "into bsds400" in result.stdout, result.stderr
    assert "liif download celebAHQ --from PATH" in liif("download", "--list").stdout


def test_doctor_reads_what_is_required(liif):
    result = liif("doctor", "--quick")
    assert result.returncode in (0, 1) and "requirements.txt" not in result.stdout
    assert "ok      numpy" in result.stdout and not result.stderr
    bare = liif("doctor", "--quick", python=["-S"])  # no package can be imported
    assert bare.returncode == 1 and "MISSING numpy" in bare.stdout and not bare.stderr


# The first word


def test_all_commands_are_listed(typed, liif):
    status, out, err = typed()
    assert (status, err) == (0, "") and typed("--help") == (0, out, "")
    assert [line.split()[0] for line in out.splitlines() if line.startswith("  ")] == list(main.COMMANDS)
    assert liif().stdout == out
    assert liif("--version").stdout == f"liif {liif_core.__version__}\n"


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_help_under_its_name(typed, name):
    status, out, err = typed(name, "--help")
    assert (status, err) == (0, "") and out.startswith(f"usage: liif {name} ")
    chooses = "--framework torch (the default) or jittor" in out
    assert chooses == (name in main.WITH_FRAMEWORK)


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("check-data", "check_data"),
        ("download", "download_data"),
        ("convert", "convert_checkpoint"),
        ("compare", "compare_methods"),
        ("report", "report"),
        ("batch-train", "batch_train"),
        ("batch-test", "batch_test_simple"),
        ("batch-demo", "batch_demo"),
        ("sweep", "sweep"),
    ],
)
def test_a_script_and_its_command_are_the_same_code(name, script):
    assert load_script(script).main.__module__ == main.COMMANDS[name][0]


def test_an_unknown_command_is_one_sentence(typed):
    status, out, err = typed("tset")
    assert (status, out) == (2, "")
    assert err.startswith("error: no command 'tset': did you mean 'test'? known: batch-demo, batch-test, ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "framework", "rest"),
    [
        (["a.png", "-s", "4"], "torch", ["a.png", "-s", "4"]),
        (["--framework", "jittor", "a.png", "-s", "-4"], "jittor", ["a.png", "-s", "-4"]),
        (["--set", "a=1", "b=[1, 2]", "--framework=jittor"], "jittor", ["--set", "a=1", "b=[1, 2]"]),
        (["--", "-a.png"], "torch", ["--", "-a.png"]),
    ],
)
def test_only_the_framework_is_taken_away(typed, monkeypatch, line, framework, rest):
    seen = []
    monkeypatch.setattr(entry, "run", lambda run, name, load_tree: seen.append((run, name, load_tree, sys.argv)))
    assert typed("train", *line)[0] == 0
    ((called, name, load_tree, arguments),) = seen
    assert (called, name, load_tree.__module__) == (train.train, framework, f"liif_{framework}")
    assert arguments == ["liif train", *rest]


def test_an_unknown_framework_is_refused(typed):
    status, _, err = typed("demo", "--framework", "tf")
    assert status == 2 and "error: argument --framework: invalid choice: 'tf'" in err

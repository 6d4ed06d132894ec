"""What the commands say to bad input: one sentence, exit status 2, nothing lost."""

import copy
import errno
import os
import pickle
import re
import shutil
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from helpers import made_images
from helpers.small_run import contents, model_spec, test_config, train_config, write_yaml
from liif_core import errors
from liif_core.checkpoints import formats, native
from liif_core.commands import entry, train
from liif_core.system import devices
from liif_core.system.places import PRETRAINED

# Bad configs and data


def with_train_folder(good: dict, folder: Path, **wrapper) -> dict:
    good["train_dataset"]["dataset"]["args"] = {"root_path": str(folder)}
    good["train_dataset"]["wrapper"]["args"] |= wrapper
    return good


def with_value(*keys_and_value):
    """What sets a value below keys of a config."""

    def change(good: dict, image_folders: Path, place: Path) -> dict:
        *path, key, value = keys_and_value
        inner = good
        for step in path:
            inner = inner[step]
        inner[key] = value
        return good

    return change


def with_empty_folder(good: dict, image_folders: Path, place: Path) -> dict:
    (place / "none").mkdir()
    return with_train_folder(good, place / "none")


def with_small_image(good: dict, image_folders: Path, place: Path) -> dict:
    return with_train_folder(good, made_images.folder(place / "p", {"tiny.png": (20, 60)}), scale_min=2)


def with_bad_image(cut: bool):
    def change(good: dict, image_folders: Path, place: Path) -> dict:
        folder = made_images.folder(place / "p", {"a.png": (30, 30), "z.png": (30, 30)})
        whole = (folder / "z.png").read_bytes()
        (folder / "z.png").write_bytes(whole[: len(whole) // 2] if cut else b"text")
        return with_train_folder(good, folder)

    return change


ENCODER, IMNET = ("model", "args", "encoder_spec"), ("model", "args", "imnet_spec")
NESTEROV = {"name": "sgd", "args": {"lr": 0.1, "nesterov": True}}
# What is made of a good config, image_folders and a folder for what it needs; and the sentence.
SRRESNET = {"name": "srresnet", "args": {"scale": 2, "n_resblocks": 1, "n_feats": 4}}


SRNO = {"width": 16, "blocks": 16}
FEATURES = {"name": "edsr-baseline", "args": {"n_resblocks": 1, "n_feats": 4, "no_upsampling": True}}


def with_crops(good: dict, scale: int = 2) -> dict:
    """A config of a model of one factor."""
    crops = {"name": "sr-patches-downsampled", "args": {"scale": scale, "inp_size": 8}}
    parts = {part: good[part] | {"wrapper": crops} for part in ("train_dataset", "val_dataset")}
    return copy.deepcopy(good | parts | {"model": {"name": "srresnet", "args": SRRESNET["args"] | {"scale": scale}}})


BROKEN = {
    "unknown key": (with_value("epoch_maxx", 3), "unknown key 'epoch_maxx': did you mean 'epoch_max'"),
    "unknown model": (with_value("model", "name", "lif"), "unknown model 'lif': did you mean 'liif'"),
    "unknown encoder": (
        with_value(*ENCODER, "name", "edsr-baselin"),
        "unknown model 'edsr-baselin': did you mean 'edsr-baseline'",
    ),
    "unknown argument": (
        with_value("optimizer", "args", "beta", 0.9),
        "optimizer 'adam': unknown key 'beta': did you mean 'betas'",
    ),
    "no learning rate": (with_value("optimizer", "args", {}), "optimizer 'adam': key 'lr' is missing"),
    "negative learning rate": (with_value("optimizer", "args", "lr", -1), "optimizer 'adam': 'lr' is -1"),
    "nesterov alone": (with_value("optimizer", NESTEROV), "nesterov needs a momentum above 0"),
    "features for images": (
        with_value(*IMNET, None),
        "without imnet_spec the encoder must end in 3 channels, not 8",
    ),
    "encoder for model": (
        lambda good, *_: good | {"model": good["model"]["args"]["encoder_spec"]},
        "'edsr-baseline' gives features, not images",
    ),
    "wrong type": (with_value("epoch_max", "many"), "'epoch_max' is 'many'"),
    "wrong type inside": (with_value(*IMNET, "args", "hidden_list", "wide"), "model 'mlp': 'hidden_list' is 'wide'"),
    "syntax": (lambda *_: "model: [1, 2\nepoch_max: 3\n", "line 2: not valid YAML"),
    "empty": (lambda *_: "", "a config is a mapping of keys to values"),
    "a test config": (
        lambda good, image_folders, place: test_config(image_folders),
        "'test_dataset': it is not a config for train.py",
    ),
    "missing folder": (
        lambda good, image_folders, place: with_train_folder(good, place / "nowhere"),
        "no folder or file '.*nowhere'",
    ),
    "no images": (with_empty_folder, "no images in .*none: put image files"),
    "a file for a folder": (
        lambda good, image_folders, place: with_train_folder(good, image_folders / "input.png"),
        "input.png is not a folder",
    ),
    "too small": (with_small_image, "'tiny' is 20x60, smaller than the 24x24 crop"),
    "more queries than pixels": (
        with_value("train_dataset", "wrapper", "args", "sample_q", 100_000),
        "sample_q is 100000, but the smallest crop",
    ),
    "crops for coordinates": (
        with_value("train_dataset", "wrapper", {"name": "sr-patches-downsampled", "args": {"scale": 2, "inp_size": 8}}),
        "gives crops at x2, model 'liif' is of any factor: take one of the wrappers sr-implicit-",
    ),
    "coordinates for crops": (
        with_value("model", SRRESNET),
        "model 'srresnet' takes whole crops at x2: take sr-patches-",
    ),
    "another factor": (
        lambda good, *more: with_value("train_dataset", "wrapper", "args", "scale", 3)(with_crops(good), *more),
        "train_dataset: wrapper 'sr-patches-downsampled' gives crops at x3, model 'srresnet' upscales x2",
    ),
    "validation at another factor": (
        lambda good, image_folders, place: (
            with_crops(good, 3)
            | {"val_dataset": test_config(image_folders)["test_dataset"], "eval_type": "benchmark-2"}
        ),
        "eval_type: 'benchmark-2' is not of the only factor of model 'srresnet', x3",
    ),
    "a border as wide as the crop": (
        lambda good, *_: with_crops(good) | {"method": {"name": "regression", "args": {"border": 8}}},
        "a border of 8 leaves nothing of crops of 16x16 pixels",
    ),
    "heads of one number": (
        lambda good, *_: good | {"model": {"name": "sronet", "args": SRNO | {"encoder_spec": FEATURES}}},
        "expected a width that is a multiple of blocks, twice it at least, got 16 and 16",
    ),
    "luma for colours": (
        lambda good, *_: with_crops(good) | {"model": {"name": "srcnn", "args": {"scale": 2}}},
        "the model restores luma alone, so that channels must be y, not rgb",
    ),
    "two starts": (
        lambda good, *_: good | {"resume": "a.safetensors", "start_from": "b.safetensors"},
        "resume and start_from are both given; accepted is one of them",
    ),
    "a warm-up without end": (
        lambda good, *_: good | {"epoch_max": 3, "warmup": {"epochs": 3}},
        "yaml: warmup.epochs is 3; accepted is less than epoch_max, 3$",
    ),
    "no run beside": (
        with_value("start_from", "srresnet-x4"),
        "start_from 'srresnet-x4': no checkpoint in .*train it first",
    ),
    "start of another model": (
        with_value("start_from", str(PRETRAINED)),
        "start_from: .*bsds400.*safetensors has the model .*, the config has ",
    ),
    "truncated image": (with_bad_image(cut=True), "z.png as an image .truncated"),
    "no image": (with_bad_image(cut=False), "z.png as an image .truncated or not an image.*skip_broken: true"),
}


def broken(kind: str, image_folders: Path, place: Path) -> dict | str:
    """A training config with one thing wrong; what it needs is made in `place`."""
    return BROKEN[kind][0](train_config(image_folders), image_folders, place)


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_config_or_folder_is_one_sentence(expect_error, image_folders, tmp_path, kind):
    config = write_yaml(tmp_path / "config.yaml", broken(kind, image_folders, tmp_path))
    expect_error(BROKEN[kind][1], "train", "--config", config, "--name", "run", "--save-dir", tmp_path / "save")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_broken_images_can_be_left_out(run_command, image_folders, tmp_path):
    content = broken("truncated image", image_folders, tmp_path)
    content["train_dataset"]["dataset"]["args"] |= {"skip_broken": True, "repeat": 2}
    config = write_yaml(tmp_path / "config.yaml", content | {"epoch_max": 1})
    status, out, err = run_command("train", "--config", config, "--name", "run", "--save-dir", tmp_path)
    assert status == 0, err
    assert "z.png" in out + err and "train: 2 samples" in out


def test_a_missing_config_is_one_sentence(expect_error):
    expect_error(
        "no config 'test-set5-4.yaml': did you mean 'test/test-set5-4.yaml'", "test", "--config", "test-set5-4.yaml"
    )
    expect_error("no config 'nowhere.yaml': looked for the YAML file", "train", "--config", "nowhere.yaml")
    expect_error(
        "no config 'nowhere.yaml': looked for the YAML file", "test", "--config", "nowhere.yaml", "--model", "bicubic"
    )


def test_a_train_config_for_test_is_recognised(expect_error, image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    expect_error("'train_dataset': it is not a config for test.py", "test", "--config", config, "--model", "bicubic")


def test_folders_that_do_not_pair_up_are_one_sentence(expect_error, image_folders, tmp_path):
    shutil.copytree(image_folders / "LR", tmp_path / "LR")
    (tmp_path / "LR" / "bx2.png").unlink()
    content = test_config(image_folders)
    content["test_dataset"]["dataset"]["args"]["root_path_1"] = str(tmp_path / "LR")
    config = write_yaml(tmp_path / "config.yaml", content)
    expect_error("do not pair up: no partner for b.png", "test", "--config", config, "--model", "bicubic")


# Bad checkpoints


class Evil:
    """Pickles to a call that makes a file."""

    def __init__(self, sentinel):
        self.sentinel = str(sentinel)

    def __reduce__(self):
        return open, (self.sentinel, "w")


@pytest.mark.parametrize("command", ["test", "demo", "train"])
@pytest.mark.parametrize("kind", ["truncated", "code", "code in an archive", "missing", "no checkpoint", "NaN"])
def test_a_bad_checkpoint_is_one_sentence(expect_error, image_folders, trained, tmp_path, command, kind):
    sentinel = tmp_path / "sentinel"
    path = tmp_path / ("model.pth" if kind.startswith("code") else "model.safetensors")
    if kind == "truncated":
        whole = (trained / "epoch-last.safetensors").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        message = "not a whole safetensors file .cut short or damaged"
    elif kind == "code":
        path.write_bytes(pickle.dumps(Evil(sentinel)))
        message = "refused: it contains the name"
    elif kind == "code in an archive":
        torch.save({"model": {"name": "liif", "args": {}, "sd": {"w": Evil(sentinel)}}}, path)
        message = "refused: it contains the name"
    elif kind == "no checkpoint":
        safetensors.numpy.save_file({"w": np.zeros(3, np.float32)}, path)
        message = "holds another model" if command == "train" else "not a checkpoint of this project"
    elif kind == "NaN":
        found = formats.load(trained / "epoch-last.safetensors")
        found.state["model"].parameters["imnet.layers.0.bias"][2] = np.nan
        native.save(path, found)
        message = "no numbers: imnet.layers.0.bias is NaN or infinite in 1 of 16 values"
    else:
        message = "no checkpoint '.*model.safetensors'"
    if command == "train":
        config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, resume=str(path)))
        arguments = ["--config", config, "--name", "run", "--save-dir", tmp_path]
    elif command == "test":
        arguments = ["--config", write_yaml(tmp_path / "config.yaml", test_config(image_folders)), "--model", path]
    else:
        arguments = [
            "--input",
            image_folders / "input.png",
            "--scale",
            2,
            "--output",
            tmp_path / "out.png",
            "--model",
            path,
        ]
    expect_error(message, command, *arguments)
    assert not sentinel.exists()
    assert not (tmp_path / "out.png").exists()


def test_a_checkpoint_of_another_architecture_names_what_differs(expect_error, image_folders, trained, tmp_path):
    source = trained / "epoch-last.safetensors"
    before = contents(trained)
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, model=model_spec(9), resume=str(source)))
    message = expect_error("holds another model", "train", "--config", config, "--name", "run", "--save-dir", tmp_path)
    assert "encoder.body.0.body.0.weight (8x8x3x3 in the file, 9x9x3x3 in the model)" in message
    assert contents(trained) == before


def test_a_checkpoint_to_begin_from_that_is_not_there_leaves_no_folder(expect_error, image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders, resume="nowhere.safetensors"))
    expect_error("no checkpoint 'nowhere.safetensors'", "train", "--config", config, "--save-dir", tmp_path / "save")
    assert not (tmp_path / "save").exists()


def test_wandb_that_is_not_installed_leaves_no_folder(expect_error, image_folders, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    saving = ["--save-dir", tmp_path / "save", "--wandb", "faces"]
    expect_error("the Python package 'wandb' is not installed: run", "train", "--config", config, *saving)
    assert not (tmp_path / "save").exists()


def test_damaged_checkpoints_are_neither_used_nor_replaced(expect_error, image_folders, trained, tmp_path):
    """One of them is got over: tests/robustness/test_kill_runs.py."""
    shutil.copytree(trained, tmp_path / "run")
    for path in (tmp_path / "run").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-9])
    (tmp_path / "run" / "run.lock").touch()
    before = contents(tmp_path / "run")
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    expect_error(
        "no checkpoint in .* is whole", "train", "--config", config, "--name", "run", "--save-dir", tmp_path, "--resume"
    )
    after = contents(tmp_path / "run")
    assert {name: content for name, content in after.items() if name != "run.lock"} == {
        name: content for name, content in before.items() if name != "run.lock"
    }


# Bad places and devices


def test_a_gpu_that_is_not_there(expect_error, image_folders, monkeypatch, tmp_path):
    monkeypatch.setattr(devices, "count_gpus", lambda: 0)
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    expect_error("--gpu 7: this machine has no GPU at all; --gpu cpu", "train", "--config", config, gpu="7")
    expect_error("--gpu 'one' is not understood", "train", "--config", config, gpu="one")


def places_that_cannot_be_written(tmp_path) -> list[Path]:
    (tmp_path / "file").write_text("")
    closed = tmp_path / "closed"
    closed.mkdir(exist_ok=True)
    closed.chmod(0o500)
    # Permissions do not hold root back; a path below a file holds back everybody.
    return [tmp_path / "file"] + ([] if os.geteuid() == 0 else [closed])


def test_a_run_folder_that_cannot_be_made(expect_error, image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    for place in places_that_cannot_be_written(tmp_path):
        expect_error("cannot write the run folder", "train", "--config", config, "--name", "run", "--save-dir", place)
    arguments = ["--config", config, "--name", "file", "--save-dir", tmp_path]
    expect_error("run folder .*file", "train", *arguments)
    expect_error("run folder .*file", "train", *arguments, "--resume")


def test_an_output_that_cannot_be_written(expect_error, image_folders, tmp_path):
    arguments = ["--input", image_folders / "input.png", "--scale", 2, "--output"]
    for place in places_that_cannot_be_written(tmp_path):
        expect_error("cannot write", "demo", *arguments, place / "out.png")
    (tmp_path / "folder" / "input.png").mkdir(parents=True)
    expect_error("it is a folder; name a file", "demo", *arguments, tmp_path / "folder")
    expect_error("cannot tell an image format from 'out.xyz'", "demo", *arguments, tmp_path / "out.xyz")


def test_scores_that_cannot_be_written(expect_error, image_folders, tmp_path):
    configs = [tmp_path / "a" / "test.yaml", tmp_path / "b" / "test.yaml"]
    for config in configs:
        config.parent.mkdir()
        write_yaml(config, test_config(image_folders))
    (tmp_path / "scores.json").write_text("")
    bicubic = ["--model", "bicubic", "--json"]
    expect_error("cannot write .*scores.json", "test", "--config", configs[0], *bicubic, tmp_path / "scores.json")
    expect_error(
        "two configs of one name would write the same file", "test", "--config", *configs, *bicubic, tmp_path / "c"
    )


def test_set_without_sense(expect_error, image_folders, tmp_path):
    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    arguments = ["train", "--config", config, "--name", "run", "--save-dir", tmp_path, "--set"]
    expect_error(
        "--set: expected KEY=VALUE like epoch_max=2 or train_dataset.batch_size=4, got 'epoch_max'",
        *arguments,
        "epoch_max",
    )
    expect_error("with --set epoch_maxx=3: unknown key 'epoch_maxx'", *arguments, "epoch_maxx=3")
    expect_error(
        "'image-folder': unknown key 'frist_k': did you mean 'first_k'",
        *arguments,
        "train_dataset.dataset.args.frist_k=3",
    )
    expect_error(
        "'test_dataset.batch_size' is 'many'",
        "test",
        "--config",
        write_yaml(tmp_path / "test.yaml", test_config(image_folders)),
        "--model",
        "bicubic",
        "--set",
        "test_dataset.batch_size=many",
    )
    assert not (tmp_path / "run").exists()


# Bad sizes and images for demo.py


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (["--resolution", "0,5"], "output size 0x5: height and width must be at least 1 pixel"),
        (["--resolution", "abc"], "--resolution: expected two whole numbers height,width like 320,480, got 'abc'"),
        (["--resolution", "3"], "expected two whole numbers"),
        (["--resolution=-3,5"], "expected two whole numbers"),
        (["--resolution", "3.5,4"], "expected two whole numbers"),
        (["--resolution", "100000,100000"], "output size 100000x100000: at most 700,000,000 pixels"),
        (["--scale", "nan"], "--outscale: expected a number like 4 or 1.5, got .nan"),
        (["--scale", "-1"], "--scale: expected a factor above 0 like 3.7, got -1.0"),
        (["--scale", "0"], "--scale: expected a factor above 0 like 3.7, got 0.0"),
        (["--scale", "inf"], "--outscale: expected a number like 4 or 1.5, got .inf"),
        (["--scale", "1e308"], r"--scale: expected a factor above 0 like 3.7, got 1e\+308"),
        (["--scale", "1e5"], "output size 1300000x1900000: at most"),
        ([], "no output size: give --scale FACTOR, --resolution H,W, --width W or --height H"),
    ],
)
def test_a_size_that_is_none_is_one_sentence(expect_error, image_folders, tmp_path, size, message):
    expect_error(message, "demo", "--input", image_folders / "input.png", "--output", tmp_path / "out.png", *size)
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
        ("text", "cannot read .*input.png: it is text, accepted are .png"),
        ("no bytes", "cannot read .*input.png: it is empty, accepted are .png"),
        ("truncated", "cannot read .*input.png as an image .truncated"),
        ("bomb", "input.png claims 100000x100000 pixels: at most 700,000,000 pixels are accepted"),
        ("folder", "no images in .*input.png: looked for .png"),
    ],
)
def test_an_input_that_is_no_image_is_one_sentence(expect_error, image_folders, tmp_path, kind, message):
    path = tmp_path / "input.png"
    if kind == "text":
        path.write_text("a text")
    elif kind == "no bytes":
        path.write_bytes(b"")
    elif kind == "truncated":
        whole = (image_folders / "input.png").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "bomb":
        write_bomb(path)
    elif kind == "folder":
        path.mkdir()
    expect_error(message, "demo", "--input", path, "--scale", 2, "--output", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


def test_the_bomb_is_one(tmp_path):
    write_bomb(tmp_path / "bomb.png")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "bomb.png")


def test_data_and_folder_are_looked_at_before_the_framework_is_imported(
    image_folders, framework, tmp_path, monkeypatch, capsys
):
    """Jittor may compile for minutes; a missing folder is said at once."""

    def no_import():
        raise AssertionError("the framework is imported")

    config = write_yaml(tmp_path / "config.yaml", train_config(image_folders))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "note.txt").write_text("mine")
    for message, changes in (
        ("the run folder .* exists", ["--name", "run"]),
        ("no folder or file 'nowhere'", ["--name", "new", "--set", "train_dataset.dataset.args.root_path=nowhere"]),
    ):
        arguments = ["train.py", "--config", str(config), "--save-dir", str(tmp_path), *changes]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as leaving:
            entry.run(train.train, framework, no_import)
        assert leaving.value.code == 2
        assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "new").exists()


MACHINES = {
    "an import without shared memory": (
        lambda: OSError(errno.EROFS, "Read-only file system"),
        1 << 20,
        "jittor cannot be started (Read-only file system): it needs a /dev/shm that can be written to, and open files",
    ),
    "an import without a library": (
        lambda: OSError("libx.so.1: cannot open shared object file"),
        1 << 20,
        "the Python package 'jittor' is installed, but cannot be imported (OSError: libx.so.1",
    ),
    "no files left": (lambda: RuntimeError("Compile failed"), 3, "only 3 more files can be opened: raise their number"),
}


@pytest.mark.parametrize("kind", MACHINES)
def test_what_the_machine_lacks_is_one_sentence(kind, monkeypatch, capsys):
    error, left, expected = MACHINES[kind]

    def fail(*_):
        raise error()

    monkeypatch.setattr(errors, "left_to_open", lambda: left)
    command, load = (fail, None) if "files" in kind else (lambda framework, load_tree: load_tree(), fail)
    with pytest.raises(SystemExit) as leaving:
        entry.run(command, "jittor", load)
    said = capsys.readouterr().err
    assert leaving.value.code == 2 and said.startswith(f"error: {expected}") and said.count("\n") == 1, said


def test_files_left_to_open_are_counted():
    before = errors.left_to_open()
    with open(os.devnull), open(os.devnull):
        assert errors.left_to_open() == before - 2

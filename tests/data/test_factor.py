"""The factor of the data is compared with the protocol's before anything is measured."""

import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from helpers import made_images
from helpers.small_run import train_config
from liif_core.commands import check_data
from liif_core.commands import test as test_command
from liif_core.commands import train as train_command
from liif_core.config.schema import Data, TrainConfig
from liif_core.data import sets
from liif_core.data.check import Checker
from liif_core.errors import UserError
from liif_core.evaluation import evaluate
from liif_core.images import rgb8
from liif_core.images.normalisation import Normalisation
from liif_core.inference import network
from liif_core.training import loop

HIGH = {"a.png": (40, 53), "b.png": (41, 56), "c.png": (43, 64)}
VARIES, SCALES = "the factor of size_min and size_max is", "the factor of scale_min and scale_max is"
DOWNSAMPLED, VARIED = "sr-implicit-downsampled", "sr-implicit-uniform-varied"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """HR and, of it, low resolutions at x2 and x4, and at x4 for the first image alone; rounded down."""
    root = tmp_path_factory.mktemp("images")
    made_images.folder(root / "HR", HIGH)
    for name, factors in {"X2": (2, 2, 2), "X4": (4, 4, 4), "mixed": (4, 2, 2)}.items():
        sizes = zip(HIGH.items(), factors, strict=True)
        made_images.folder(root / name, {image: (h // f, w // f) for (image, (h, w)), f in sizes})
    return root


def single(images, wrapper=DOWNSAMPLED, **arguments):
    dataset = {"name": "image-folder", "args": {"root_path": str(images / "HR")}}
    return {"dataset": dataset, "wrapper": {"name": wrapper, "args": arguments}, "batch_size": 1}


def pairs(images, low, wrapper="sr-implicit-paired", cache="none", **arguments):
    roots = {"root_path_1": str(images / low), "root_path_2": str(images / "HR"), "cache": cache}
    dataset = {"name": "paired-image-folders", "args": roots}
    return {"dataset": dataset, "wrapper": {"name": wrapper, "args": arguments}, "batch_size": 1}


def problem(spec, eval_type):
    """What is said of a data set under a protocol, None where it is good."""
    try:
        sets.make(spec, 0, False, eval_type)
    except UserError as error:
        return str(error).partition(": ")[2]
    return None


def test_a_factor_other_than_the_protocols_is_refused(images):
    cases = [
        (pairs(images, "X2"), "benchmark-2", None),
        (pairs(images, "X4"), "div2k-4", None),
        (pairs(images, "X4"), None, None),
        (
            pairs(images, "X4", cache="in_memory"),
            "benchmark-2",
            "the pairs' factor is 4, the protocol benchmark-2 says 2: expected data at x2, or eval_type benchmark-4",
        ),
        (
            pairs(images, "X2", inp_size=8),
            "div2k-2.5",
            "the pairs' factor is 2, the protocol div2k-2.5 says 2.5: expected data at x2.5, or eval_type div2k-2",
        ),
        (
            pairs(images, "mixed"),
            "benchmark-2",
            "the pairs' factor is 4 of a, the protocol benchmark-2 says 2: expected data at x2, or eval_type "
            "benchmark-4",
        ),
        (
            pairs(images, "mixed"),
            "benchmark-3",
            "the pairs' factor is 4 of a; 2 of b, c, the protocol benchmark-3 says 3: expected data at x3",
        ),
        (single(images, scale_min=2.5), "benchmark-2.5", None),
        (single(images, scale_min=3, scale_max=3.0), "benchmark-3", None),
        (
            single(images, scale_min=2.5, scale_max=2.5),
            "benchmark-3",
            f"{SCALES} 2.5, the protocol benchmark-3 says 3: expected data at x3, or eval_type benchmark-2.5",
        ),
        (
            single(images),
            "benchmark-2",
            f"{SCALES} 1, the protocol benchmark-2 says 2: expected data at x2, or eval_type benchmark-1",
        ),
        (
            single(images, scale_min=2, scale_max=4, inp_size=5),
            "benchmark-2",
            f"{SCALES} another for each image, the protocol benchmark-2 says 2: expected data at x2",
        ),
        (pairs(images, "X4", VARIED, size_min=20), "benchmark-2", None),
        (
            pairs(images, "X4", VARIED, size_min=20, size_max=40),
            "benchmark-2",
            f"{VARIES} 3 of b; 4 of c, the protocol benchmark-2 says 2: expected data at x2",
        ),
        (
            pairs(images, "X4", VARIED, size_min=20, gt_resize=25),
            "div2k-2",
            f"{VARIES} 2.5, the protocol div2k-2 says 2: expected data at x2, or eval_type div2k-2.5",
        ),
    ]
    for spec, eval_type, expected in cases:
        assert problem(spec, eval_type) == expected


def test_the_sentence_names_the_folders_and_pairs_that_do_not_fit_have_their_own(images, tmp_path):
    spec = pairs(images, "X4")
    with pytest.raises(UserError) as caught:
        sets.make(spec, 0, False, "benchmark-2")
    assert str(caught.value).startswith(f"{images / 'X4'} and {images / 'HR'}: the pairs' factor is 4")
    made_images.folder(tmp_path / "up", {"a.png": (10, 14), "b.png": (11, 14), "c.png": (11, 16)})  # 53 / 4 rounded up
    spec["dataset"]["args"]["root_path_1"] = str(tmp_path / "up")
    with pytest.raises(UserError, match="'a': low resolution 10x14 and high resolution 40x53 do not differ by one"):
        sets.make(spec, 0, False, "benchmark-2")


def no_tree():
    raise AssertionError("the framework is loaded")


def test_test_and_train_refuse_before_a_framework_is_loaded(images, tmp_path, monkeypatch, capsys):
    test = tmp_path / "test.yaml"
    test.write_text(yaml.safe_dump({"test_dataset": pairs(images, "X4"), "eval_type": "benchmark-2"}))
    training = train_config(images, val_dataset=single(images, scale_min=2.5), eval_type="div2k-3")
    training["train_dataset"]["dataset"]["args"]["root_path"] = str(images / "HR")
    train = tmp_path / "train.yaml"
    train.write_text(yaml.safe_dump(training))
    for name, config, command, sentence in (
        ("test", test, test_command.test, "the pairs' factor is 4, the protocol benchmark-2 says 2"),
        ("train", train, train_command.train, "is 2.5, the protocol div2k-3 says 3"),
    ):
        arguments = [name, "--config", str(config), *(["--save-dir", str(tmp_path)] if name == "train" else [])]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(UserError, match=sentence):
            command("torch", no_tree)
    monkeypatch.setattr(sys, "argv", ["check_data", str(test), str(train)])
    assert check_data.main() == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[2] for line in lines if line.startswith("  error: ")] == [
        "the pairs' factor is 4, the protocol benchmark-2 says 2: expected data at x2, or eval_type benchmark-4",
        "the factor of scale_min and scale_max is 2.5, the protocol div2k-3 says 3: expected data at x3, or eval_type "
        "div2k-2.5",
    ]


def test_a_check_says_the_factor_of_the_pairs_that_fit(images, tmp_path):
    made_images.folder(tmp_path / "LR", {"a.png": (10, 13), "b.png": (11, 14), "c.png": (10, 16)})
    spec = pairs(images, "X4")
    spec["dataset"]["args"]["root_path_1"] = str(tmp_path / "LR")
    found = Checker().examine(Data.model_validate(spec), False, False, "benchmark-2").problems
    assert len(found) == 2 and "'b': low resolution 11x14" in found[0] and "pairs' factor is 4" in found[1]


def test_validation_measures_under_a_fractional_protocol(images, monkeypatch):
    """Against the formula, with a border of three pixels."""
    config = TrainConfig.model_validate(
        train_config(images, train_dataset=single(images), val_dataset=single(images, scale_min=2.5))
        | {"eval_type": "benchmark-2.5", "metrics": ["psnr", "ssim"]}
    )
    _, val_set = loop.make_data_sets(config)
    shapes = [tuple(image.shape[:2] for image in val_set.pair(index)) for index in range(3)]
    # 53 / 2.5 is 21.2, and 21 * 2.5 = 52.5 is rounded to the even 52, as Python's round has it in LIIF's code.
    assert shapes == [((16, 21), (40, 52)), ((16, 22), (40, 55)), ((17, 25), (42, 62))]
    monkeypatch.setattr(evaluate, "Network", lambda *_: network.bicubic)
    engine = SimpleNamespace(total=lambda scores: scores)
    values = evaluate.validate(engine, list, val_set, config, Normalisation(config.data_norm))
    expected = []
    for index in range(3):
        low, high = val_set.pair(index)
        error = (rgb8.resize(low, *high.shape[:2]) / 255 - high / 255) @ np.array([65.738, 129.057, 25.064]) / 256
        expected.append(-10 * math.log10(np.mean(error[3:-3, 3:-3] ** 2)))
    assert values["psnr"] == pytest.approx(np.mean(expected), abs=1e-4)  # float32

"""scripts/check_data.py: everything that is wrong with the data of a config, one sentence each."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from helpers import ROOT, made_images
from liif_core.config import load as configs
from liif_core.config.schema import Data
from liif_core.data.catalogue import known_count
from liif_core.data.check import Checker
from liif_core.images import rgb8

DOWNSAMPLED = {"name": "sr-implicit-downsampled", "args": {"inp_size": 8, "scale_max": 4, "sample_q": 20}}
PAIRED = {"name": "sr-implicit-paired", "args": {"inp_size": 4}}


def examine(dataset, wrapper, quick=False, training=True, batches=True, batch_size=2):
    spec = Data.model_validate({"dataset": dataset, "wrapper": wrapper, "batch_size": batch_size})
    return Checker(quick).examine(spec, training=training, batches=batches)


def single(root, **arguments):
    return {"name": "image-folder", "args": {"root_path": str(root), **arguments}}


def pair(low, high, **arguments):
    return {"name": "paired-image-folders", "args": {"root_path_1": str(low), "root_path_2": str(high), **arguments}}


def assert_problems(finding, *patterns):
    """Each problem is one of these and each of these is a problem, in whatever order."""
    assert len(finding.problems) == len(patterns), finding.problems
    for pattern in patterns:
        assert any(pattern in problem for problem in finding.problems), (pattern, finding.problems)


@pytest.fixture
def folder(tmp_path):
    return made_images.folder(tmp_path / "train", {"a.png": (40, 50), "b.png": (50, 40), "c.png": (33, 90)})


@pytest.fixture
def pairs(tmp_path):
    low = made_images.folder(tmp_path / "LR", {"ax2.png": (5, 7), "bx2.png": (6, 5), "cx2.png": (4, 9)})
    high = made_images.folder(tmp_path / "HR", {"a.png": (10, 14), "b.png": (12, 11), "c.png": (8, 18)})
    return low, high


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


@pytest.mark.parametrize("quick", [False, True])
def test_good_data_has_no_problem(folder, pairs, quick):
    found = examine(single(folder), DOWNSAMPLED, quick)
    assert (found.problems, found.notes) == ([], [])
    assert found.summary == f"{folder} (3 images, sides of 33 to 90)"
    assert examine(pair(*pairs), PAIRED, quick).problems == []


def test_everything_that_is_wrong_with_a_folder_is_said(folder):
    made_images.write(folder / "low.png", 31, 60)
    made_images.write(folder / "small.png", 8, 9)
    made_images.write(folder / "torn.png", 40, 40)
    truncate(folder / "torn.png")
    (folder / "notes.jpg").write_text("no image")
    found = examine(single(folder), DOWNSAMPLED)
    assert_problems(found, "notes.jpg as an image", "torn.png as an image", "'low' is 31x60", "'small' is 8x9")
    assert_problems(
        examine(single(folder), DOWNSAMPLED, quick=True),
        "notes.jpg as an image",
        "'low' is 31x60",
        "'small' is 8x9",
    )
    skipping = examine(single(folder, skip_broken=True), DOWNSAMPLED)
    assert_problems(skipping, "'low' is 31x60", "'small' is 8x9")
    assert len(skipping.notes) == 2 and all(note.startswith("left out: ") for note in skipping.notes)


def test_everything_that_is_wrong_with_pairs_is_said(pairs):
    low, high = pairs
    made_images.write(low / "lonely.png", 5, 5)
    made_images.write(high / "b.png", 18, 10)
    made_images.write(low / "tornx2.png", 9, 9)
    made_images.write(high / "torn.png", 18, 18)
    truncate(high / "torn.png")
    assert_problems(
        examine(pair(low, high), PAIRED),
        "torn.png as an image",
        "no partner for lonely.png",
        "'b': low resolution 6x5 and high resolution 18x10 do not differ",
    )


def test_pairs_that_were_rounded_up_are_one_problem(tmp_path):
    sizes = {f"{name}.png": size for name, size in zip("abcd", [(50, 73), (51, 76), (48, 72), (49, 49)], strict=True)}
    high = made_images.folder(tmp_path / "HR", sizes)
    low = made_images.folder(tmp_path / "LR", {name: (-(-h // 4), -(-w // 4)) for name, (h, w) in sizes.items()})
    finding = examine(pair(low, high, repeat=2), PAIRED)
    assert_problems(finding, "'a': low resolution 13x19 and high resolution 50x73 do not differ by one integer factor")
    assert "crop the low one to 12x18 and the high one to 48x72; 2 more pairs are like that" in finding.problems[0]


def test_what_is_no_image_by_its_ending_is_a_note(folder):
    for name in ("Thumbs.db", "readme.txt", "checksums"):
        (folder / name).write_text("no image")
    (folder / "photo").write_bytes((folder / "a.png").read_bytes())
    found = examine(single(folder), DOWNSAMPLED)
    assert found.problems == [] and found.summary.startswith(f"{folder} (4 images")
    names = "Thumbs.db, checksums, readme.txt"
    assert found.notes == [f"{folder}: not looked at, for they do not end like images: {names}"]


def test_two_files_of_one_name_make_no_pair_and_are_noted_elsewhere(pairs):
    low, high = pairs
    made_images.write(high / "a.jpg", 10, 14)
    assert_problems(examine(pair(low, high), PAIRED), f"{high} has a.jpg and a.png, which differ in their ending alone")
    found = examine(single(high), {"name": "sr-implicit-downsampled", "args": {"inp_size": 2}})
    assert found.problems == [] and found.notes == [
        f"{high} has a.jpg and a.png: both are taken, and named with endings"
    ]


def test_both_folders_of_pairs_are_looked_for(tmp_path):
    found = examine(pair(tmp_path / "a", tmp_path / "b"), PAIRED)
    assert_problems(found, f"no folder or file '{tmp_path / 'a'}'", f"no folder or file '{tmp_path / 'b'}'")


def test_the_split_is_checked(folder, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["a.png", *(f"{n}.png" for n in range(5))], "val": ["c.png"]}))
    arguments = {"split_file": str(split)}
    missing = examine(single(folder, split_key="train", **arguments), DOWNSAMPLED)
    assert_problems(missing, "names 0.png, 1.png, 2.png and 2 more under 'train', which is not in")
    assert_problems(examine(single(folder, split_key="test", **arguments), DOWNSAMPLED), "no split 'test'")
    assert examine(single(folder, split_key="val", **arguments), DOWNSAMPLED).problems == []
    split.write_text("[]")
    assert_problems(examine(single(folder, split_key="val", **arguments), DOWNSAMPLED), "is no split file")


def test_only_what_the_config_takes_is_checked(folder):
    made_images.write(folder / "small.png", 8, 9)
    assert examine(single(folder, first_k=3), DOWNSAMPLED).problems == []


def test_samples_that_make_no_batch(folder):
    whole = {"name": "sr-implicit-downsampled", "args": {"scale_min": 2}}
    assert_problems(examine(single(folder), whole), "the samples of a batch differ in size")
    assert examine(single(folder), whole, batches=False).problems == []
    many = {"name": "sr-implicit-downsampled", "args": {"inp_size": 4, "sample_q": 50}}
    assert_problems(examine(single(folder), many), "sample_q is 50")


def test_a_check_writes_no_cache(folder):
    assert examine(single(folder, cache="bin"), DOWNSAMPLED).problems == []
    assert [path.name for path in folder.parent.iterdir()] == ["train"]


def test_a_wrapper_that_does_not_fit_is_one_problem(folder, pairs):
    finding = examine(single(folder), PAIRED)
    assert_problems(finding, "data set 'image-folder' gives single images, wrapper 'sr-implicit-paired' takes pairs")
    assert_problems(examine(pair(*pairs), DOWNSAMPLED), "'paired-image-folders' gives pairs")


def test_public_sets_that_are_incomplete_are_noted(tmp_path):
    root = made_images.folder(tmp_path / "load" / "div2k" / "DIV2K_train_HR", {"0001.png": (40, 40)})
    found = examine(single(root), DOWNSAMPLED)
    assert found.problems == [] and found.notes == [f"{root} holds 1 files; the complete set has 800"]
    assert known_count(tmp_path / "load/benchmark/Urban100/LR_bicubic/X3") == 100
    assert known_count(tmp_path / "mydiv2k/DIV2K_train_HR") is None


def test_a_folder_that_several_configs_name_is_decoded_once(folder, monkeypatch):
    read = []
    from liif_core.data import folders

    original = folders.rgb8.read_image
    monkeypatch.setattr(folders.rgb8, "read_image", lambda path: read.append(path) or original(path))
    checker = Checker()
    spec = Data.model_validate({"dataset": single(folder), "wrapper": DOWNSAMPLED, "batch_size": 1})
    for _ in range(3):
        checker.examine(spec, training=True, batches=True)
    assert len(read) == 3 + 3  # each image once, and the first sample of each config


def test_known_counts_agree_with_the_names_in_the_configs():
    """Every public folder of photographs that a shipped config reads is one whose count is known."""
    for path in (ROOT / "configs" / "test").glob("*.yaml"):
        arguments = configs.load(path, "test").test_dataset.dataset.args
        for key, value in arguments.items():
            if key.startswith("root_path") and not re.search("celebAHQ|emoji", value):
                assert known_count(ROOT / value) in (5, 14, 100), value


# The command


def command(*arguments):
    program = [sys.executable, str(ROOT / "scripts" / "check_data.py"), *map(str, arguments)]
    return subprocess.run(program, capture_output=True, text=True, timeout=120)


@pytest.fixture
def config(folder, tmp_path):
    content = yaml.safe_load((ROOT / "configs/train-bsds400/train_edsr-baseline-liif.yaml").read_text())
    content["train_dataset"] = {"dataset": single(folder), "wrapper": DOWNSAMPLED, "batch_size": 2}
    content["val_dataset"] = {"dataset": single(folder, first_k=1), "wrapper": DOWNSAMPLED, "batch_size": 2}
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_command_says_ok_for_every_data_set(config, pairs, tmp_path):
    test = tmp_path / "test.yaml"
    test.write_text(yaml.safe_dump({"test_dataset": {"dataset": pair(*pairs), "wrapper": PAIRED, "batch_size": 1}}))
    result = command(config, test, "--quick")
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert [line.split(": ")[1:3] for line in lines] == [
        ["train_dataset", "ok"],
        ["val_dataset", "ok"],
        ["test_dataset", "ok"],
    ]


def test_the_command_lists_all_problems_of_all_configs_and_fails(config, folder, tmp_path):
    made_images.write(folder / "a.png", 8, 9)
    truncate(folder / "b.png")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(config.read_text().replace("epoch_max", "epoch_maximum"))
    result = command(config, wrong, "nowhere.yaml")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    errors = [line for line in result.stdout.splitlines() if line.startswith("  error: ")]
    assert len(errors) == 5, result.stdout
    for part in ("b.png as an image", "'a' is 8x9", "unknown key 'epoch_maximum'", "no config 'nowhere.yaml'"):
        assert any(part in error for error in errors), part
    assert f"{config}: train_dataset: 2 problems" in result.stdout
    assert f"{config}: val_dataset: 1 problem:" in result.stdout
    assert result.stderr.splitlines()[-1] == "5 problems"


def test_the_command_draws_a_sheet_of_one_config(config, tmp_path):
    result = command(config, "--quick", "--sheet", tmp_path / "sheet.png")
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"3 samples, input beside target: {tmp_path / 'sheet.png'}" in result.stdout
    assert rgb8.read_size(tmp_path / "sheet.png") == (26 + 192, 3 * 385 + 2 * 8)
    result = command(config, "--quick", "--sheet", tmp_path / "sheet.png")
    assert result.returncode == 2 and "sheet.png exists already: --overwrite replaces it" in result.stderr
    result = command(config, config, "--sheet", tmp_path / "other.png")
    assert (result.returncode, result.stderr) == (2, "error: --sheet: expected one config, got 2\n")


def test_the_command_goes_on_after_a_wrapper_that_does_not_fit(config, folder, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"test_dataset": {"dataset": single(folder), "wrapper": PAIRED, "batch_size": 1}}))
    result = command(wrong, config, "--quick")
    assert (result.returncode, result.stderr) == (1, "1 problem\n")
    assert f"{config}: val_dataset: ok" in result.stdout


def test_ctrl_c_is_no_traceback(config):
    program = "import runpy, sys, signal; from liif_core.data.check import Checker; "
    program += "Checker.examine = lambda *_, **__: signal.raise_signal(signal.SIGINT); "
    program += f"sys.argv = ['check_data.py', {str(config)!r}]; "
    program += f"runpy.run_path({str(ROOT / 'scripts' / 'check_data.py')!r}, run_name='__main__')"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (130, "")

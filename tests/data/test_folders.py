"""Folders as they are: names, splits, pairs, broken files."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import made_images
from liif_core.data import names, sets
from liif_core.data.registries import DATASETS
from liif_core.errors import UserError


def image_folder(root, **arguments):
    return DATASETS.make({"name": "image-folder", "args": {"root_path": str(root), **arguments}})


@pytest.fixture
def folder(tmp_path):
    sizes = {"b.png": (9, 13), "a.png": (11, 8), "10.jpg": (7, 20), "c.bmp": (6, 6)}
    return made_images.folder(tmp_path / "images", sizes)


def test_pairs_of_one_name_in_two_folders_keep_their_folders(tmp_path):
    for part, side in (("LR", 4), ("HR", 8)):
        made_images.folder(tmp_path / part, {f"{folder}/1.png": (side, side) for folder in ("a", "b")})
    (tmp_path / "split.json").write_text('{"test": ["a/1.png", "b/1.png"]}')
    roots = {f"root_path_{k + 1}": str(tmp_path / part) for k, part in enumerate(("LR", "HR"))}
    split = {"split_file": str(tmp_path / "split.json"), "split_key": "test"}
    pairs = DATASETS.make({"name": "paired-image-folders", "args": roots | split})
    assert [pairs.name(index) for index in range(2)] == ["a/1.png", "b/1.png"]


def test_a_folder_is_sorted_and_leaves_hidden_files_and_folders_out(folder):
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / ".hidden.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "deeper").mkdir()
    dataset = image_folder(folder)
    assert [dataset.name(i) for i in range(len(dataset))] == ["10", "a", "b", "c"]
    np.testing.assert_array_equal(dataset[1], np.asarray(Image.open(folder / "a.png")))
    assert dataset[1].shape == (11, 8, 3) and dataset[1].dtype == np.uint8


def test_first_k_and_repeat(folder):
    dataset = image_folder(folder, first_k=2, repeat=3)
    assert len(dataset) == 6
    assert [dataset.name(i) for i in range(6)] == ["10", "a"] * 3
    np.testing.assert_array_equal(dataset[5], dataset[1])


def test_a_split_file_gives_names_in_its_own_order(folder, tmp_path):
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["b.png", "10.jpg"], "test": ["a.png"]}))
    dataset = image_folder(folder, split_file=str(split), split_key="train")
    assert [dataset.name(i) for i in range(2)] == ["b", "10"]
    with pytest.raises(UserError, match="no split 'trian'.*known: train, test"):
        image_folder(folder, split_file=str(split), split_key="trian")
    split.write_text("{")
    with pytest.raises(UserError, match="cannot read the split file"):
        image_folder(folder, split_file=str(split), split_key="train")
    split.write_text(json.dumps({"train": ["missing.png"]}))
    with pytest.raises(UserError, match="missing.png"):
        image_folder(folder, split_file=str(split), split_key="train")


def test_in_memory_equals_none(folder):
    held, read = image_folder(folder, cache="in_memory"), image_folder(folder)
    for index in range(4):
        np.testing.assert_array_equal(held[index], read[index])
        assert held[index].dtype == np.uint8
    shutil.rmtree(folder)
    held[0]
    with pytest.raises(UserError, match="no such image"):
        read[0]


def truncate(path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


@pytest.mark.parametrize("cache", ["none", "in_memory"])
def test_a_truncated_image_is_named_or_left_out(folder, cache, capsys):
    truncate(folder / "b.png")
    with pytest.raises(UserError, match="b.png"):
        image_folder(folder, cache=cache)[2]
    dataset = image_folder(folder, cache=cache, skip_broken=True)
    assert [dataset.name(i) for i in range(len(dataset))] == ["10", "a", "c"]
    output = "".join(capsys.readouterr())
    assert "left out" in output and "b.png" in output


def test_a_file_that_ends_like_an_image_and_is_none_is_named_at_once_or_left_out(folder):
    (folder / "notes.HEIC").write_text("not an image")
    with pytest.raises(UserError, match="notes.HEIC as an image.*skip_broken"):
        image_folder(folder)
    assert len(image_folder(folder, skip_broken=True)) == 4


OTHERS = {
    "Thumbs.db": b"\xd0\xcf",
    "desktop.ini": b"[x]",
    "readme.txt": b"P3",
    "SHA256SUMS": b"ab  a.png",
    "a.json": b"{}",
}


@pytest.mark.parametrize("cache", ["none", "bin", "in_memory"])
def test_what_does_not_end_like_an_image_is_not_looked_at(folder, cache):
    for name, content in OTHERS.items():
        (folder / name).write_bytes(content)
    shutil.copy(folder / "a.png", folder / "a.png.bak")
    shutil.copy(folder / "a.png", folder / "bare")  # without any ending it is the content that counts
    dataset = image_folder(folder, cache=cache)
    assert [dataset.name(i) for i in range(len(dataset))] == ["10", "a", "b", "bare", "c"]
    np.testing.assert_array_equal(dataset[3], dataset[1])
    if cache == "bin":
        before = names_of(folder.parent / "_bin_images")
        (folder / "readme.txt").write_text("longer than before")
        image_folder(folder, cache=cache)
        assert names_of(folder.parent / "_bin_images") == before  # nothing was decoded again
    for path in folder.glob("*[gpe]"):
        path.unlink()
    with pytest.raises(UserError, match=f"no images in {folder}"):
        image_folder(folder, cache=cache)


def names_of(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("cache", ["none", "bin", "in_memory"])
def test_two_files_of_one_name(folder, cache):
    made_images.write(folder / "a.jpg", 12, 12)
    dataset = image_folder(folder, cache=cache)
    assert [dataset.name(i) for i in range(len(dataset))] == ["10", "a.jpg", "a.png", "b", "c"]
    with pytest.raises(UserError, match="images has a.jpg and a.png, which differ in their ending alone"):
        paired_folders(folder, folder, cache=cache)


@pytest.mark.parametrize("cache", ["none", "bin", "in_memory"])
def test_sizes_are_known_without_the_pixels_and_all_of_them_are_checked(folder, cache):
    dataset = image_folder(folder, cache=cache, repeat=2)
    assert [dataset.sizes(i) for i in range(5)] == [((7, 20),), ((11, 8),), ((9, 13),), ((6, 6),), ((7, 20),)]
    spec = {
        "dataset": {"name": "image-folder", "args": {"root_path": str(folder), "cache": cache, "repeat": 2}},
        "wrapper": {"name": "sr-implicit-downsampled", "args": {"inp_size": 2, "scale_max": 3.7}},
    }
    with pytest.raises(UserError, match=r"images: image 'c' is 6x6, smaller than the 7x7 .* leave the image out$"):
        sets.make(spec, seed=0, training=True)
    spec["wrapper"]["args"]["scale_max"] = 4
    with pytest.raises(UserError, match=r"image '10' is 7x20.*\(and 1 more, which scripts/check_data.py names\)$"):
        sets.make(spec, seed=0, training=True)


def test_a_thousand_headers_take_a_second_or_so(tmp_path):
    made_images.write(tmp_path / "images" / "0.png", 21, 30)
    for number in range(1, 1000):
        os.link(tmp_path / "images" / "0.png", tmp_path / "images" / f"{number}.png")
    began = time.process_time()
    assert image_folder(tmp_path / "images").sizes(999) == ((21, 30),)
    assert time.process_time() - began < 3


@pytest.mark.parametrize("cache", ["none", "in_memory"])
def test_a_broken_image_takes_its_partner_along(tmp_path, cache):
    low = made_images.folder(tmp_path / "low", {"ax2.png": (5, 7), "bx2.png": (6, 5), "cx2.png": (4, 9)})
    high = made_images.folder(tmp_path / "high", {"a.png": (10, 14), "b.png": (12, 10), "c.png": (8, 18)})
    truncate(low / "ax2.png")
    truncate(high / "c.png")
    dataset = paired_folders(low, high, cache=cache, skip_broken=True)
    assert [dataset.name(i) for i in range(len(dataset))] == ["b"]
    assert dataset[0][0].shape[:2] == (6, 5) and dataset[0][1].shape[:2] == (12, 10)


def test_a_split_that_names_what_is_not_there(folder, tmp_path):
    split = tmp_path / "split.json"
    split.write_text('{"train": ["a.png", "zebra.png"], "val": 3}')
    with pytest.raises(UserError, match="names zebra.png under 'train', which is not in"):
        image_folder(folder, split_file=str(split), split_key="train")
    with pytest.raises(UserError, match="'val' is not a list of file names"):
        image_folder(folder, split_file=str(split), split_key="val")


def test_a_folder_without_images_and_a_folder_that_is_none(tmp_path):
    with pytest.raises(UserError, match=f"no images in {tmp_path}"):
        image_folder(tmp_path)
    with pytest.raises(UserError, match="no folder or file 'nowhere/at/all'"):
        image_folder("nowhere/at/all")
    (tmp_path / "file.png").write_bytes(b"")
    with pytest.raises(UserError, match="file.png is not a folder"):
        image_folder(tmp_path / "file.png")


@pytest.mark.parametrize("arguments", [{"repeat": 0}, {"repeat": -1}, {"first_k": 0}, {"first_k": -1}])
def test_numbers_that_leave_no_image_are_refused(folder, arguments):
    with pytest.raises(UserError, match=f"'{next(iter(arguments))}'"):
        image_folder(folder, **arguments)


def paired_folders(low, high, **arguments):
    spec = {"root_path_1": str(low), "root_path_2": str(high), **arguments}
    return DATASETS.make({"name": "paired-image-folders", "args": spec})


def test_pairs_go_by_name_whatever_the_suffix_does_to_their_order(tmp_path):
    # As text 1.png comes before 10.png, but 10x2.png before 1x2.png.
    names = ["1", "10", "2", "a", "a-b"]
    high = made_images.folder(tmp_path / "HR", {f"{name}.png": (8, 2 * i + 4) for i, name in enumerate(names)})
    low = made_images.folder(tmp_path / "LR", {f"{name}x2.png": (4, i + 2) for i, name in enumerate(names)})
    dataset = paired_folders(low, high)
    assert sorted(dataset.name(i) for i in range(5)) == sorted(names)
    for index in range(5):
        small, large = dataset[index]
        assert large.shape[1] == 2 * small.shape[1]
        assert large.shape[1] == 4 + 2 * names.index(dataset.name(index))
    assert [len(paired_folders(low, high, first_k=k)) for k in (1, 2, 4)] == [1, 2, 4]


# high, low, and the low one's name for each of the high ones: equal names first, then a suffix less.
PAIRS = {
    "a suffix": ("a b", "ax4 bx4", "ax4 bx4"),
    "or none": ("a b", "a bx2", "a bx2"),
    "sizes in names": (
        "photo_640x480 photo_800x600",
        "photo_640x480x2 photo_800x600x2",
        "photo_640x480x2 photo_800x600x2",
    ),
    "equal sizes in names": (
        "photo_640x480 photo_640x960",
        "photo_640x960 photo_640x480",
        "photo_640x480 photo_640x960",
    ),
    "names that end in a factor": ("boxx2 boxx3", "boxx2x2 boxx3x2", "boxx2x2 boxx3x2"),
    "one name within another": ("box boxx2", "boxx2 boxx2x2", "boxx2 boxx2x2"),
    "another separator": ("a_1 a_2", "a_1_x2.5 a_2-X2.5", "a_1_x2.5 a_2-X2.5"),
    "factor first": ("a b", "a_4x b_4x", "a_4x b_4x"),
    "marks on both": ("bird_HR_x2 a_HR_x2", "bird_LR_x2 a_LR_x2", "bird_LR_x2 a_LR_x2"),
    "marks without factor": ("bird_HR a_HR", "a_LR bird_LR", "bird_LR a_LR"),
    "small marks": ("bird-gt a", "bird-lq a_lr", "bird-lq a_lr"),
    "SRF": (
        "img_001_SRF_2_HR img_002_SRF_2_HR",
        "img_001_SRF_2_LR img_002_SRF_2_LR",
        "img_001_SRF_2_LR img_002_SRF_2_LR",
    ),
    "SRF on one": ("img_001 img_002", "img_001_SRF_2_LR img_002_SRF_2_LR", "img_001_SRF_2_LR img_002_SRF_2_LR"),
    "LRBI": ("baby_HR_x2 bird", "baby_LRBI_x2 bird_bicLRx2", "baby_LRBI_x2 bird_bicLRx2"),
    "the other way round": ("ax2 bx2", "a b", "a b"),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_names_that_belong_together(kind):
    high, low, expected = ([f"{name}.png" for name in text.split()] for text in PAIRS[kind])
    for order in (low, low[::-1]):
        found, problems = names.pairs((Path("LR"), Path("HR")), order, high)
        assert (found, problems) == (list(zip(expected, high, strict=True)), [])


NO_PAIRS = {
    "a suffix on a name that is there, too": ("a ax2 b", "a b bx2", "ax2.png, bx2.png"),
    "two for one": ("a b", "ax2 ax3 b", "a.png, ax2.png, ax3.png"),
    "other sizes": ("photo_640x480", "photo_640x960", "photo_640x480.png, photo_640x960.png"),
    "another factor": ("a_HR_x2", "a_LR_x4", "a_HR_x2.png, a_LR_x4.png"),
    "nothing but a suffix": ("x2", "x2x2 x3", "x3.png"),
}


@pytest.mark.parametrize("kind", NO_PAIRS)
def test_names_that_do_not_belong_together(kind):
    high, low = ([f"{name}.png" for name in text.split()] for text in NO_PAIRS[kind][:2])
    _, problems = names.pairs((Path("LR"), Path("HR")), low, high)
    assert len(problems) == 1 and f"no partner for {NO_PAIRS[kind][2]}; equal names belong together" in problems[0]


def test_a_pattern_says_how_names_differ(tmp_path):
    high = made_images.folder(tmp_path / "HR", {"gt-1.png": (8, 8), "gt-2.png": (8, 6)})
    low = made_images.folder(tmp_path / "LR", {"1 small.png": (4, 4), "2 small.png": (4, 3)})
    with pytest.raises(UserError, match="no partner for 1 small.png.*or set low_name and high_name, like {name}x4"):
        paired_folders(low, high)
    patterns = {"low_name": "{name} small", "high_name": "gt-{name}.png"}
    dataset = paired_folders(low, high, **patterns)
    assert [dataset.name(i) for i in range(2)] == ["gt-1", "gt-2"] and dataset[1][0].shape == (4, 3, 3)
    made_images.write(high / "2.png", 8, 6)
    with pytest.raises(
        UserError, match="no partner for 2.png; the config says low_name '{name} small' and high_name 'gt"
    ):
        paired_folders(low, high, **patterns)
    for text in ("x4", "{name}{name}", "{nam}x4", "x4/{name}"):
        with pytest.raises(UserError, match="pattern is '.*': expected {name} in it once"):
            paired_folders(low, high, low_name=text)


def test_the_first_pairs_are_those_of_the_first_high_ones(tmp_path):
    high = made_images.folder(tmp_path / "HR", {f"photo_{n}x480.png": (8, 2 * n) for n in (3, 4, 5)})
    low = made_images.folder(tmp_path / "LR", {f"photo_{n}x480x2.png": (4, n) for n in (5, 4, 3, 9)})
    dataset = paired_folders(low, high, first_k=2, repeat=2)
    assert [dataset[i][0].shape[1] for i in range(len(dataset))] == [3, 4, 3, 4]
    with pytest.raises(UserError, match="no partner for photo_9x480x2.png"):
        paired_folders(low, high)


def test_folders_that_do_not_pair_up_name_the_odd_one_out(tmp_path):
    high = made_images.folder(tmp_path / "HR", {"a.png": (8, 8), "b.png": (8, 8)})
    low = made_images.folder(tmp_path / "LR", {"ax2.png": (4, 4), "cx2.png": (4, 4)})
    with pytest.raises(UserError, match=r"do not pair up: no partner for b.png, cx2.png"):
        paired_folders(low, high)
    (low / "cx2.png").unlink()
    with pytest.raises(UserError, match=r"\(1 images\).*\(2\) do not pair up"):
        paired_folders(low, high)


def test_make_joins_data_set_and_wrapper(folder):
    spec = {
        "dataset": {"name": "image-folder", "args": {"root_path": str(folder), "repeat": 2}},
        "wrapper": {"name": "sr-implicit-downsampled", "args": {"inp_size": 4, "sample_q": 9}},
        "batch_size": 3,
    }
    wrapper = sets.make(spec, seed=4, training=True)
    assert len(wrapper) == 8 and wrapper.seed == 4 and wrapper.training
    assert wrapper.sample(7, 1)["inp"].shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("dataset", "wrapper", "arguments"),
    [
        ("image-folder", "sr-implicit-paired", {}),
        ("image-folder", "sr-implicit-uniform-varied", {"size_min": 4}),
        ("paired-image-folders", "sr-implicit-downsampled", {}),
    ],
)
def test_a_data_set_and_a_wrapper_that_do_not_fit_are_refused_before_anything_is_read(dataset, wrapper, arguments):
    roots = {"root_path": "/nowhere"} if dataset == "image-folder" else {"root_path_1": "/no", "root_path_2": "/where"}
    spec = {"dataset": {"name": dataset, "args": roots}, "wrapper": {"name": wrapper, "args": arguments}}
    with pytest.raises(UserError) as caught:
        sets.make(spec, seed=0, training=True)
    message = str(caught.value)
    fit = {"image-folder": ("downsampled", "paired-image-folders")}.get(dataset, ("paired' or", "'image-folder'"))
    assert f"'{dataset}' gives" in message and f"'{wrapper}' takes" in message
    assert all(part in message.partition(": take ")[2] for part in fit)

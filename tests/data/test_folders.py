"""Folders as they are: names, splits, pairs, broken files."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from helpers import made_images
from liif_core.data import sets
from liif_core.data.registries import DATASETS
from liif_core.errors import UserError


def image_folder(root, **arguments):
    return DATASETS.make({"name": "image-folder", "args": {"root_path": str(root), **arguments}})


@pytest.fixture
def folder(tmp_path):
    sizes = {"b.png": (9, 13), "a.png": (11, 8), "10.jpg": (7, 20), "c.bmp": (6, 6)}
    return made_images.folder(tmp_path / "images", sizes)


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


def test_a_file_that_is_no_image_is_named_at_once_or_left_out(folder):
    (folder / "notes.txt").write_text("not an image")
    with pytest.raises(UserError, match="notes.txt is not a readable image.*skip_broken"):
        image_folder(folder)
    assert len(image_folder(folder, skip_broken=True)) == 4


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

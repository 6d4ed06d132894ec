"""Data: samples as a pure function of (seed, epoch, index), crops from the right place, folders as they are."""

import json
import math
import shutil
from collections import Counter

import numpy as np
import pictures
import pytest
from PIL import Image
from torchvision import transforms

from liif_core import coords, data, imaging
from liif_core.data import DATASETS, WRAPPERS, sampling
from liif_core.data.batching import Batches, checked
from liif_core.errors import UserError
from liif_torch.datasets import make_loader


class Pictures:
    """A data set of pictures in memory, in which colour tells the place: red is the row, green the column."""

    def __init__(self, *sizes):
        self.images = []
        for number, (height, width) in enumerate(sizes):
            image = pictures.picture(height, width, seed=number)
            image[..., 0] = np.arange(height)[:, None]
            image[..., 1] = np.arange(width)
            self.images.append(image)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]

    def name(self, index):
        return f"p{index}"


class Pairs(Pictures):
    """Low-resolution pictures, and high-resolution ones in which each pixel is a block of scale x scale."""

    def __init__(self, scale, *sizes):
        super().__init__(*sizes)
        self.scale = scale

    def __getitem__(self, index):
        low = self.images[index]
        return low, low.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


SIZES = [(41, 67), (90, 50), (64, 200)]
DOWNSAMPLED = {"inp_size": 8, "scale_max": 4, "augment": True, "sample_q": 50}


def wrap(dataset=None, name="sr-implicit-downsampled", seed=0, training=True, **arguments):
    dataset = dataset if dataset is not None else Pictures(*SIZES * 4)
    return WRAPPERS.make({"name": name, "args": arguments}, dataset=dataset, seed=seed, training=training)


def fetch(wrapper, workers=0, seed=0, epoch=1, start_batch=0, batch_size=4) -> list[dict]:
    return list(checked(make_loader(Batches(wrapper, batch_size, seed, epoch, start_batch), workers)))


def assert_same(found: list[dict], wanted: list[dict]) -> None:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.keys() == theirs.keys()
        for key, array in theirs.items():
            assert ours[key].dtype == array.dtype
            np.testing.assert_array_equal(ours[key], array)


# Sampling


def test_a_sample_is_a_pure_function_of_seed_epoch_and_index():
    first, second = wrap(**DOWNSAMPLED), wrap(**DOWNSAMPLED)
    forward = [first.sample(index, epoch=3) for index in range(12)]
    np.random.seed(0)  # no global state takes part, nor the order of access
    backward = [second.sample(index, epoch=3) for index in reversed(range(12))]
    assert_same(forward, backward[::-1])


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 4}, {"index": 3}])
def test_seed_epoch_and_index_all_matter(other):
    place = {"seed": 0, "epoch": 3, "index": 0} | other
    dataset = Pictures(*[(41, 67)] * 4)
    dataset.images[3] = dataset.images[0]
    first = wrap(dataset, **DOWNSAMPLED).sample(0, 3)
    second = wrap(dataset, seed=place["seed"], **DOWNSAMPLED).sample(place["index"], place["epoch"])
    assert not np.array_equal(first["coord"], second["coord"])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_a_bit(workers):
    wrapper = wrap(**DOWNSAMPLED)
    assert_same(fetch(wrapper, workers), fetch(wrapper))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_is_the_rest_of_the_epoch(workers):
    wrapper = wrap(**DOWNSAMPLED)
    whole = fetch(wrapper, epoch=5, batch_size=5)
    assert [len(batch["inp"]) for batch in whole] == [5, 5, 2]
    for start in (1, 2, 3):
        assert_same(fetch(wrapper, workers, epoch=5, start_batch=start, batch_size=5), whole[start:])


def test_an_epoch_visits_everything_once_in_an_order_of_its_own():
    orders = [np.concatenate(sampling.batches(0, epoch, 50, 7, shuffle=True)) for epoch in (1, 2)]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert list(orders[0]) != list(orders[1]) and list(orders[0]) != sorted(orders[0])
    assert list(np.concatenate(sampling.batches(0, 1, 50, 7, shuffle=False))) == list(range(50))


@pytest.mark.parametrize("arguments", [DOWNSAMPLED, {"inp_size": 8, "scale_max": 4, "sample_q": 50}])
def test_validation_sees_the_same_crops_every_epoch_and_for_every_seed(arguments):
    first = fetch(wrap(training=False, **arguments), seed=0, epoch=1)
    assert_same(fetch(wrap(training=False, seed=9, **arguments), seed=9, epoch=7), first)
    assert [batch["inp"].shape[0] for batch in first] == [4, 4, 4]


def test_validation_crops_are_not_training_crops():
    training, validation = (wrap(training=training, **DOWNSAMPLED).sample(0)["inp"] for training in (True, False))
    assert not np.array_equal(training, validation)


def test_flips_are_the_eight_symmetries_equally_often():
    rng = np.random.default_rng(0)
    image = pictures.picture(3, 3)
    seen = Counter(sampling.flip(image, *sampling.flips(rng)).tobytes() for _ in range(4000))
    assert len(seen) == 8
    assert min(seen.values()) > 500 - 4 * math.sqrt(4000 / 8 * 7 / 8)  # four standard deviations


def test_flip_names_what_it_does():
    image = pictures.picture(4, 6)
    np.testing.assert_array_equal(sampling.flip(image, True, False, False), np.flipud(image))
    np.testing.assert_array_equal(sampling.flip(image, False, True, False), np.fliplr(image))
    np.testing.assert_array_equal(sampling.flip(image, False, False, True), image.transpose(1, 0, 2))


def test_pick_draws_distinct_pixels_all_equally_likely():
    rng = np.random.default_rng(0)
    counts = np.zeros(20)
    for _ in range(2000):
        which = sampling.pick(rng, 20, 5)
        assert len(set(which)) == 5
        counts[which] += 1
    assert np.abs(counts - 500).max() < 4.5 * math.sqrt(500 * 0.75)


def test_crops_reach_every_place_also_the_last():
    rng = np.random.default_rng(0)
    assert {sampling.crop_start(rng, 10, 7) for _ in range(200)} == {0, 1, 2, 3}
    assert sampling.crop_start(rng, 7, 7) == 0


# Crops


def unflipped(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Undo the flips of a pair, read from the places that the colours of `high` tell."""
    if high[0, 0, 0] != high[0, -1, 0]:  # rows run to the right
        low, high = low.swapaxes(0, 1), high.swapaxes(0, 1)
    down, right = high[0, 0, 0] > high[-1, 0, 0], high[0, 0, 1] > high[0, -1, 1]
    return sampling.flip(low, down, right, False), sampling.flip(high, down, right, False)


@pytest.mark.parametrize("augment", [False, True])
def test_a_downsampled_crop_is_cut_from_its_picture_and_shrunk_by_pillow(augment):
    dataset = Pictures(*SIZES)
    wrapper = wrap(dataset, inp_size=8, scale_min=1.5, scale_max=4, augment=augment)
    scales, corners, turned = [], set(), 0
    for epoch in range(60):
        for index, image in enumerate(dataset.images):
            low, high = wrapper.pair(index, epoch)
            assert low.shape == (8, 8, 3) and high.shape[0] == high.shape[1]
            scales.append(high.shape[0] / 8)
            plain_low, plain_high = unflipped(low, high) if augment else (low, high)
            turned += not np.array_equal(plain_high, high)
            top, left = plain_high[0, 0, :2]
            corners.add((index, top, left))
            np.testing.assert_array_equal(image[top : top + len(high), left : left + len(high)], plain_high)
            shrunk = Image.fromarray(np.ascontiguousarray(plain_high)).resize((8, 8), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(plain_low, np.asarray(shrunk))
    assert len(corners) > 170  # of 180: places differ
    assert (turned > 0) == augment
    assert 1.5 <= min(scales) < 1.7 and 3.8 < max(scales) <= 4
    assert np.mean(scales) == pytest.approx(2.75, abs=0.2)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_paired_crop_is_the_same_place_in_both(scale, augment):
    dataset = Pairs(scale, *SIZES)
    wrapper = wrap(dataset, "sr-implicit-paired", inp_size=7, augment=augment)
    corners = set()
    for epoch in range(30):
        for index in range(3):
            low, high = wrapper.pair(index, epoch)
            assert low.shape == (7, 7, 3)
            np.testing.assert_array_equal(low.repeat(scale, axis=0).repeat(scale, axis=1), high)
            corners.add((index, low[..., 0].min(), low[..., 1].min()))
    assert len(corners) > 80


@pytest.mark.parametrize("size", [(41, 67), (67, 41), (48, 20)])
@pytest.mark.parametrize("scale", [2, 3, 3.7, 6, 12])
def test_a_whole_picture_keeps_height_and_width_in_order(size, scale):
    dataset = Pictures(size)
    low, high = wrap(dataset, scale_min=scale, training=False).pair(0)
    height, width = (math.floor(side / scale + 1e-9) for side in size)
    assert low.shape == (height, width, 3)
    assert high.shape == (round(height * scale), round(width * scale), 3)
    np.testing.assert_array_equal(high, dataset[0][: high.shape[0], : high.shape[1]])
    shrunk = Image.fromarray(np.ascontiguousarray(high)).resize((width, height), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(low, np.asarray(shrunk))


@pytest.mark.parametrize(("size", "scale"), [((41, 67), 2), ((90, 50), 6), ((33, 100), 3.7)])
def test_whole_pictures_equal_torchvisions_path(size, scale):
    """Upstream reads with ToTensor and shrinks with ToPILImage, Resize(bicubic), ToTensor; size is (h, w) there."""
    dataset = Pictures(size)
    low, high = wrap(dataset, scale_min=scale, training=False).pair(0)
    tensor = transforms.ToTensor()(Image.fromarray(dataset[0]))[:, : high.shape[0], : high.shape[1]]
    resize = transforms.Resize(low.shape[:2], transforms.InterpolationMode.BICUBIC)
    wanted_low = transforms.ToTensor()(resize(transforms.ToPILImage()(tensor)))
    np.testing.assert_array_equal(imaging.to_float(low).transpose(2, 0, 1), wanted_low.numpy())
    np.testing.assert_array_equal(imaging.to_float(high).transpose(2, 0, 1), tensor.numpy())


def test_crops_equal_torchvisions_path():
    low, high = wrap(Pictures((41, 67)), inp_size=8, scale_min=3.3).pair(0, epoch=2)
    tensor = transforms.ToTensor()(high.copy())
    resize = transforms.Resize(8, transforms.InterpolationMode.BICUBIC)  # one number, as upstream gives it for crops
    wanted = transforms.ToTensor()(resize(transforms.ToPILImage()(tensor)))
    np.testing.assert_array_equal(imaging.to_float(low).transpose(2, 0, 1), wanted.numpy())


def test_paired_whole_pictures_cut_what_the_low_resolution_does_not_cover():
    class Larger(Pairs):
        def __getitem__(self, index):
            low, high = super().__getitem__(index)
            return low, np.pad(high, ((0, 1), (0, 2), (0, 0)))

    low, high = wrap(Larger(3, (11, 17)), "sr-implicit-paired", training=False).pair(0)
    assert low.shape == (11, 17, 3) and high.shape == (33, 51, 3)


def test_queries_are_pixels_of_the_high_resolution_crop():
    wrapper = wrap(Pictures((41, 67)), inp_size=8, scale_min=2.5, augment=True, sample_q=60)
    sample = wrapper.sample(0, epoch=4)
    low, high = wrapper.pair(0, epoch=4)
    np.testing.assert_array_equal(sample["inp"], low)
    assert sample["coord"].shape == (60, 2) and sample["gt"].shape == (60, 3)
    side = high.shape[0]
    places = (sample["coord"].astype(np.float64) + 1) / 2 * side - 0.5
    np.testing.assert_allclose(places, places.round(), atol=1e-5)
    row, column = places.round().astype(int).T
    assert len({*zip(row, column, strict=True)}) == 60
    np.testing.assert_array_equal(sample["gt"], high[row, column])
    np.testing.assert_array_equal(sample["cell"], np.float32([2 / side, 2 / side]))


def test_without_sample_q_all_pixels_come_in_order():
    sample = wrap(Pictures((41, 67)), scale_min=2, training=False).sample(0)
    assert sample["inp"].shape == (20, 33, 3)
    np.testing.assert_array_equal(sample["coord"], coords.make_coord((40, 66)))
    np.testing.assert_array_equal(sample["cell"], np.float32([2 / 40, 2 / 66]))
    assert sample["gt"].shape == (40 * 66, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inp_size": 48, "scale_min": 4}, "'p0' is 41x67, smaller than the 192x192 crop.*lower inp_size"),
        ({"inp_size": 8, "sample_q": 65}, "sample_q is 65, but a crop of 'p0' has only 64 pixels"),
        ({"scale_min": 50}, "41x67: too small for x50"),
    ],
)
def test_pictures_that_are_too_small_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        wrap(Pictures((41, 67)), **arguments).sample(0)


@pytest.mark.parametrize("scales", [{"scale_min": 0.5}, {"scale_min": 3, "scale_max": 2}])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(UserError, match="1 <= scale_min <= scale_max"):
        wrap(**scales)


def test_pairs_must_differ_by_one_integer_factor():
    class Odd(Pictures):
        def __getitem__(self, index):
            return pictures.picture(10, 10), pictures.picture(20, 30)

    with pytest.raises(UserError, match="do not differ by one integer factor"):
        wrap(Odd((1, 1)), "sr-implicit-paired").pair(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_error_in_a_worker_is_the_same_sentence(workers):
    with pytest.raises(UserError, match="'p[0-9]+' is [0-9]+x[0-9]+, smaller than"):
        fetch(wrap(inp_size=60, scale_min=4), workers)


def test_samples_of_different_size_make_no_batch():
    with pytest.raises(UserError, match="differ in size: set inp_size and sample_q, or batch_size: 1"):
        fetch(wrap(scale_min=2))


# Folders


def image_folder(root, **arguments):
    return DATASETS.make({"name": "image-folder", "args": {"root_path": str(root), **arguments}})


@pytest.fixture
def folder(tmp_path):
    sizes = {"b.png": (9, 13), "a.png": (11, 8), "10.jpg": (7, 20), "c.bmp": (6, 6)}
    return pictures.folder(tmp_path / "pictures", sizes)


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
    (folder / "notes.txt").write_text("not a picture")
    with pytest.raises(UserError, match="notes.txt is not a readable image.*skip_broken"):
        image_folder(folder)
    assert len(image_folder(folder, skip_broken=True)) == 4


@pytest.mark.parametrize("cache", ["none", "in_memory"])
def test_a_broken_picture_takes_its_partner_along(tmp_path, cache):
    low = pictures.folder(tmp_path / "low", {"ax2.png": (5, 7), "bx2.png": (6, 5), "cx2.png": (4, 9)})
    high = pictures.folder(tmp_path / "high", {"a.png": (10, 14), "b.png": (12, 10), "c.png": (8, 18)})
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
def test_numbers_that_leave_no_picture_are_refused(folder, arguments):
    with pytest.raises(UserError, match=f"'{next(iter(arguments))}'"):
        image_folder(folder, **arguments)


@pytest.mark.parametrize("arguments", [{"inp_size": 0}, {"sample_q": 0}, {"inp_size": -3}])
def test_numbers_that_leave_no_pixel_are_refused(arguments):
    with pytest.raises(UserError, match=f"'{next(iter(arguments))}'"):
        wrap(**arguments)
    with pytest.raises(UserError, match=f"'{next(iter(arguments))}'"):
        wrap(name="sr-implicit-paired", **arguments)


def paired_folders(low, high, **arguments):
    spec = {"root_path_1": str(low), "root_path_2": str(high), **arguments}
    return DATASETS.make({"name": "paired-image-folders", "args": spec})


def test_pairs_go_by_name_whatever_the_suffix_does_to_their_order(tmp_path):
    # As text 1.png comes before 10.png, but 10x2.png before 1x2.png.
    names = ["1", "10", "2", "a", "a-b"]
    high = pictures.folder(tmp_path / "HR", {f"{name}.png": (8, 2 * i + 4) for i, name in enumerate(names)})
    low = pictures.folder(tmp_path / "LR", {f"{name}x2.png": (4, i + 2) for i, name in enumerate(names)})
    dataset = paired_folders(low, high)
    assert sorted(dataset.name(i) for i in range(5)) == sorted(names)
    for index in range(5):
        small, large = dataset[index]
        assert large.shape[1] == 2 * small.shape[1]
        assert large.shape[1] == 4 + 2 * names.index(dataset.name(index))
    assert [len(paired_folders(low, high, first_k=k)) for k in (1, 2, 4)] == [1, 2, 4]


def test_folders_that_do_not_pair_up_name_the_odd_one_out(tmp_path):
    high = pictures.folder(tmp_path / "HR", {"a.png": (8, 8), "b.png": (8, 8)})
    low = pictures.folder(tmp_path / "LR", {"ax2.png": (4, 4), "cx2.png": (4, 4)})
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
    wrapper = data.make(spec, seed=4, training=True)
    assert len(wrapper) == 8 and wrapper.seed == 4 and wrapper.training
    assert wrapper.sample(7, 1)["inp"].shape == (4, 4, 3)


# Pictures in and out


def test_modes_become_rgb(tmp_path):
    grey = Image.fromarray(pictures.picture(5, 7)[..., 0])
    for mode in ("L", "LA", "P", "1", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'tif' if mode == 'CMYK' else 'png'}"
        grey.convert(mode).save(path)
        assert imaging.read_image(path).shape == (5, 7, 3)
    sixteen = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1872
    Image.fromarray(sixteen).save(tmp_path / "16.png")
    np.testing.assert_array_equal(imaging.read_image(tmp_path / "16.png")[..., 0], sixteen >> 8)


def test_a_picture_that_lies_on_its_side_is_turned(tmp_path):
    image = pictures.picture(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(imaging.read_image(tmp_path / "a.png"), np.rot90(image, -1))


def test_numbers_are_rounded_not_truncated():
    values = np.array([-0.5, 0, 0.4999 / 255, 0.5001 / 255, 254.6 / 255, 1, 7])
    assert imaging.to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255, 255]
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(imaging.to_uint8(imaging.to_float(levels)), levels)


def test_writing_and_reading_back(tmp_path):
    image = pictures.picture(5, 9)
    imaging.write_image(tmp_path / "new" / "a.png", image)
    np.testing.assert_array_equal(imaging.read_image(tmp_path / "new" / "a.png"), image)


@pytest.mark.parametrize("name", ["a", "a.xyz", "a.psd", "a.txt"])
def test_endings_that_cannot_be_written_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(UserError, match="end it in .png"):
        imaging.check_writable(tmp_path / name)
    assert not list(tmp_path.iterdir())

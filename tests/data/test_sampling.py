"""Samples as a pure function of (seed, epoch, index), crops from the right place, ground truth of varied size."""

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from helpers import made_images
from liif_core.data import sampling
from liif_core.data.batching import Batches, checked
from liif_core.data.registries import WRAPPERS
from liif_core.data.sizes import fewest_pixels
from liif_core.errors import UserError
from liif_core.geometry import coords
from liif_core.images import rgb8
from liif_torch.datasets import make_loader


class Images:
    """A data set of images in memory, in which colour tells the place: red is the row, green the column."""

    def __init__(self, *sizes):
        self.images = []
        for number, (height, width) in enumerate(sizes):
            image = made_images.make_image(height, width, seed=number)
            image[..., 0] = np.arange(height)[:, None]
            image[..., 1] = np.arange(width)
            self.images.append(image)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]

    def name(self, index):
        return f"p{index}"

    def sizes(self, index):
        return (self.images[index].shape[:2],)


class Pairs(Images):
    """Low-resolution images, and high-resolution ones in which each pixel is a block of scale x scale."""

    def __init__(self, scale, *sizes):
        super().__init__(*sizes)
        self.scale = scale

    def __getitem__(self, index):
        low = self.images[index]
        return low, low.repeat(self.scale, axis=0).repeat(self.scale, axis=1)


SIZES = [(41, 67), (90, 50), (64, 200)]
DOWNSAMPLED = {"inp_size": 8, "scale_max": 4, "augment": True, "sample_q": 50}


def wrap(dataset=None, name="sr-implicit-downsampled", seed=0, training=True, **arguments):
    dataset = dataset if dataset is not None else Images(*SIZES * 4)
    return WRAPPERS.make({"name": name, "args": arguments}, dataset=dataset, seed=seed, training=training)


def test_how_much_larger_a_batch_may_be_is_known_from_the_sizes():
    pairs = Pairs(2, (10, 20), (30, 40), (5, 5))
    whole = wrap(pairs, "sr-implicit-paired", training=False)
    assert Batches(whole, 1).growth() == 6 and Batches(whole, 2).growth() == 1
    assert Batches(wrap(), 2).growth() == 1


def fetch(wrapper, workers=0, seed=0, epoch=1, start_batch=0, batch_size=4) -> list[dict]:
    return list(checked(make_loader(Batches(wrapper, batch_size, seed, epoch, start_batch), workers)))


def assert_same(found: list[dict], expected: list[dict]) -> None:
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
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
    dataset = Images(*[(41, 67)] * 4)
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
    image = made_images.make_image(3, 3)
    seen = Counter(sampling.flip(image, *sampling.flips(rng)).tobytes() for _ in range(4000))
    assert len(seen) == 8
    assert min(seen.values()) > 500 - 4 * math.sqrt(4000 / 8 * 7 / 8)  # four standard deviations


def test_flip_names_what_it_does():
    image = made_images.make_image(4, 6)
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
def test_a_downsampled_crop_is_cut_from_its_image_and_resized_by_pillow(augment):
    dataset = Images(*SIZES)
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
            downsampled = Image.fromarray(np.ascontiguousarray(plain_high)).resize((8, 8), Image.Resampling.BICUBIC)
            np.testing.assert_array_equal(plain_low, np.asarray(downsampled))
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


@pytest.mark.parametrize("inp_size", [8, None])
def test_whole_crops_are_those_that_queries_are_drawn_from(inp_size):
    """For the same seed, epoch and index: of high-resolution images alone, and of pairs."""
    alone, scale = Images(*SIZES), {"scale_min": 3, "scale_max": 3}
    pairs = Pairs(3, *SIZES)
    for dataset, name, implicit, drawn in (
        (alone, "sr-patches-downsampled", "sr-implicit-downsampled", scale),
        (pairs, "sr-patches-paired", "sr-implicit-paired", {}),
    ):
        wrapper = wrap(dataset, name, scale=3, inp_size=inp_size, augment=True)
        queries = wrap(dataset, implicit, inp_size=inp_size, augment=True, **drawn)
        for index in range(3):
            found, expected = wrapper.sample(index, 2), queries.sample(index, 2)
            assert found["gt"].dtype == np.uint8 and found["gt"].shape[0] == 3 * found["inp"].shape[0]
            np.testing.assert_array_equal(found["inp"], expected["inp"])
            np.testing.assert_array_equal(found["gt"].reshape(-1, 3), expected["gt"])


def test_pairs_of_another_factor_are_refused_by_name():
    wrapper = wrap(Pairs(2, *SIZES), "sr-patches-paired", scale=4)
    with pytest.raises(UserError, match="'p0': low resolution 41x67 and high resolution 82x134 differ by x2, .* is 4"):
        wrapper.check(0, (41, 67), (82, 134))


@pytest.mark.parametrize("size", [(41, 67), (67, 41), (48, 20)])
@pytest.mark.parametrize("scale", [2, 3, 3.7, 6, 12])
def test_a_whole_image_keeps_height_and_width_in_order(size, scale):
    dataset = Images(size)
    low, high = wrap(dataset, scale_min=scale, training=False).pair(0)
    height, width = (math.floor(side / scale + 1e-9) for side in size)
    assert low.shape == (height, width, 3)
    assert high.shape == (round(height * scale), round(width * scale), 3)
    np.testing.assert_array_equal(high, dataset[0][: high.shape[0], : high.shape[1]])
    downsampled = Image.fromarray(np.ascontiguousarray(high)).resize((width, height), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(low, np.asarray(downsampled))


@pytest.mark.parametrize(("size", "scale"), [((41, 67), 2), ((90, 50), 6), ((33, 100), 3.7)])
def test_whole_images_equal_torchvisions_path(size, scale):
    """The original LIIF reads with ToTensor and downsamples with ToPILImage, Resize(bicubic), ToTensor; size is (h, w)
    there."""
    dataset = Images(size)
    low, high = wrap(dataset, scale_min=scale, training=False).pair(0)
    tensor = transforms.ToTensor()(Image.fromarray(dataset[0]))[:, : high.shape[0], : high.shape[1]]
    resize = transforms.Resize(low.shape[:2], transforms.InterpolationMode.BICUBIC)
    expected_low = transforms.ToTensor()(resize(transforms.ToPILImage()(tensor)))
    np.testing.assert_array_equal(rgb8.to_float(low).transpose(2, 0, 1), expected_low.numpy())
    np.testing.assert_array_equal(rgb8.to_float(high).transpose(2, 0, 1), tensor.numpy())


def test_crops_equal_torchvisions_path():
    low, high = wrap(Images((41, 67)), inp_size=8, scale_min=3.3).pair(0, epoch=2)
    tensor = transforms.ToTensor()(high.copy())
    # one number, as the original LIIF gives it for crops
    resize = transforms.Resize(8, transforms.InterpolationMode.BICUBIC)
    expected = transforms.ToTensor()(resize(transforms.ToPILImage()(tensor)))
    np.testing.assert_array_equal(rgb8.to_float(low).transpose(2, 0, 1), expected.numpy())


def test_paired_whole_images_cut_what_the_low_resolution_does_not_cover():
    class Larger(Pairs):
        def __getitem__(self, index):
            low, high = super().__getitem__(index)
            return low, np.pad(high, ((0, 1), (0, 2), (0, 0)))

    low, high = wrap(Larger(3, (11, 17)), "sr-implicit-paired", training=False).pair(0)
    assert low.shape == (11, 17, 3) and high.shape == (33, 51, 3)


def test_queries_are_pixels_of_the_high_resolution_crop():
    wrapper = wrap(Images((41, 67)), inp_size=8, scale_min=2.5, augment=True, sample_q=60)
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
    sample = wrap(Images((41, 67)), scale_min=2, training=False).sample(0)
    assert sample["inp"].shape == (20, 33, 3)
    np.testing.assert_array_equal(sample["coord"], coords.make_coord((40, 66)))
    np.testing.assert_array_equal(sample["cell"], np.float32([2 / 40, 2 / 66]))
    assert sample["gt"].shape == (40 * 66, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inp_size": 48, "scale_min": 4}, "'p0' is 41x67, smaller than the 192x192 crop.*lower inp_size"),
        (
            {"inp_size": 8, "gt_downsample_max": 0.5},
            "'gt_downsample_max' is 0.5: input should be greater than or equal",
        ),
        ({"gt_downsample_max": 2}, "gt_downsample_max is of crops: expected an inp_size"),
        ({"inp_size": 8, "sample_q": 65}, r"sample_q is 65, but the smallest crop \(inp_size 8, scale_min 1\).* 64"),
        ({"scale_min": 2, "sample_q": 2641}, "sample_q is 2641, but a crop of 'p0' has only 2640 pixels"),
        ({"scale_min": 50}, "41x67: too small for x50"),
    ],
)
def test_images_that_are_too_small_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        wrap(Images((41, 67)), **arguments).sample(0)


@pytest.mark.parametrize("scales", [{"scale_min": 0.5}, {"scale_min": 3, "scale_max": 2}])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(UserError, match="1 <= scale_min <= scale_max"):
        wrap(**scales)


@pytest.mark.parametrize("size", [(20, 30), (29, 29), (29, 20), (20, 29), (22, 20), (9, 9), (10, 11)])
def test_pairs_must_differ_by_one_integer_factor(size):
    class Odd(Images):
        def __getitem__(self, index):
            return made_images.make_image(10, 10), made_images.make_image(*size)

    with pytest.raises(UserError, match="do not differ by one integer factor"):
        wrap(Odd((1, 1)), "sr-implicit-paired").pair(0)


@pytest.mark.parametrize(("low", "high"), [((160, 240), (321, 481)), ((80, 120), (323, 480)), ((10, 11), (10, 11))])
def test_pairs_may_have_what_is_left_of_a_division(low, high):
    wrap(Images((1, 1)), "sr-implicit-paired").check(0, low, high)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_users_error_in_a_worker_is_the_same_sentence(workers):
    with pytest.raises(UserError, match="'p[0-9]+' is [0-9]+x[0-9]+, smaller than"):
        fetch(wrap(inp_size=60, scale_min=4), workers)


def test_samples_of_different_size_make_no_batch():
    with pytest.raises(UserError, match="differ in size: set inp_size and sample_q, or batch_size: 1"):
        fetch(wrap(scale_min=2))


@pytest.mark.parametrize("arguments", [{"inp_size": 0}, {"sample_q": 0}, {"inp_size": -3}])
def test_numbers_that_leave_no_pixel_are_refused(arguments):
    with pytest.raises(UserError, match=f"'{next(iter(arguments))}'"):
        wrap(**arguments)
    with pytest.raises(UserError, match=f"'{next(iter(arguments))}'"):
        wrap(name="sr-implicit-paired", **arguments)


# Ground truth of varied size


VARIED = {"name": "sr-implicit-uniform-varied", "size_min": 9, "size_max": 30}


class OriginalVaried:
    """What LIIF's wrapper does, with torchvision: size by index, flip, resize again, cell of the result."""

    def __init__(self, dataset, size_min, size_max, gt_resize=None):
        self.dataset, self.sizes, self.gt_resize = dataset, (size_min, size_max), gt_resize

    def __call__(self, index, flip):
        low, high = (transforms.ToTensor()(image.copy()) for image in self.dataset[index])
        size = round(self.sizes[0] + (self.sizes[1] - self.sizes[0]) * (index / (len(self.dataset) - 1)))
        high = self.resize(high, size)
        if flip:
            low, high = low.flip(-1), high.flip(-1)
        if self.gt_resize is not None:
            high = self.resize(high, self.gt_resize)
        return low.numpy(), high.numpy(), np.float32([2 / high.shape[-2], 2 / high.shape[-1]])

    @staticmethod
    def resize(tensor, size):
        downsample = transforms.Resize(size, transforms.InterpolationMode.BICUBIC)
        return transforms.ToTensor()(downsample(transforms.ToPILImage()(tensor)))


@pytest.mark.parametrize("gt_resize", [None, 21])
def test_varied_ground_truth_equals_torchvisions_path(gt_resize):
    dataset = Pairs(4, (11, 17), (17, 11), (13, 13), (10, 23), (20, 9))
    ours = wrap(dataset, augment=True, gt_resize=gt_resize, **VARIED)
    theirs = OriginalVaried(dataset, 9, 30, gt_resize)
    flipped = Counter()
    for epoch in range(8):
        for index in range(5):
            sample = ours.sample(index, epoch)
            plain = np.array_equal(sample["inp"], dataset[index][0])
            flipped[plain] += 1
            low, high, cell = theirs(index, flip=not plain)
            np.testing.assert_array_equal(rgb8.to_float(sample["inp"]).transpose(2, 0, 1), low)
            np.testing.assert_array_equal(rgb8.to_float(sample["gt"]), high.transpose(1, 2, 0).reshape(-1, 3))
            np.testing.assert_array_equal(sample["cell"], cell)
            np.testing.assert_array_equal(sample["coord"], coords.make_coord(high.shape[1:]))
    assert min(flipped[True], flipped[False]) > 8  # of 40, with probability 1/2 each


def test_varied_sizes_grow_evenly_from_the_first_item_to_the_last():
    dataset = Pairs(4, *[(16, 24)] * 5)
    sizes = [wrap(dataset, name=VARIED["name"], size_min=16, size_max=32).pair(i)[1].shape[:2] for i in range(5)]
    assert sizes == [(16, 24), (20, 30), (24, 36), (28, 42), (32, 48)]
    fixed = wrap(dataset, name=VARIED["name"], size_min=20)
    assert {fixed.pair(i)[1].shape for i in range(5)} == {(20, 30, 3)}


def test_a_single_pair_gets_the_smallest_size():
    assert wrap(Pairs(4, (11, 17)), **VARIED).pair(0)[1].shape == (9, 13, 3)


def test_varied_flips_are_a_pure_function_and_only_from_left_to_right():
    dataset = Pairs(4, *[(11, 17)] * 6)
    first, second = wrap(dataset, augment=True, **VARIED), wrap(dataset, augment=True, **VARIED)
    lows = {index: second.pair(index, epoch=3)[0] for index in reversed(range(6))}
    for index in range(6):
        low = first.pair(index, epoch=3)[0]
        np.testing.assert_array_equal(low, lows[index])
        assert any(np.array_equal(low, expected) for expected in (dataset[index][0], np.fliplr(dataset[index][0])))
        np.testing.assert_array_equal(wrap(dataset, **VARIED).pair(index, epoch=3)[0], dataset[index][0])


def test_varied_samples_make_a_batch():
    batches = fetch(wrap(Pairs(4, *[(11, 17)] * 5), sample_q=100, **VARIED), batch_size=3)
    assert [batch["inp"].shape for batch in batches] == [(3, 11, 17, 3), (2, 11, 17, 3)]
    assert batches[0]["gt"].shape == (3, 100, 3)
    cells = np.concatenate([batch["cell"] for batch in batches])
    assert sorted(np.round(2 / cells[:, 0])) == [9, 14, 20, 25, 30]


def test_varied_pairs_of_different_aspect_are_refused():
    class Odd(Images):
        def __getitem__(self, index):
            return made_images.make_image(10, 10), made_images.make_image(20, 30)

    with pytest.raises(UserError, match="10x10 and high resolution 20x30 differ in aspect"):
        wrap(Odd((1, 1)), **VARIED).pair(0)


@pytest.mark.parametrize("arguments", [{}, {"size_min": 0}, {"size_min": 8, "inp_size": 8}, {"size_min": "large"}])
def test_varied_arguments_are_checked(arguments):
    with pytest.raises(UserError, match="'(size_min|inp_size)'"):
        wrap(Pairs(4, (11, 17)), name=VARIED["name"], **arguments)


# Sizes without pixels


@pytest.mark.parametrize(
    ("wrapper", "sizes", "message"),
    [
        ({"inp_size": 8, "scale_max": 4}, [(31, 90)], "'p0' is 31x90, smaller than the 32x32 crop"),
        (
            {"inp_size": 8, "scale_max": 4, "gt_downsample_max": 1.5},
            [(47, 90)],
            "'p0' is 47x90, smaller than the 48x48 crop",
        ),
        ({"scale_min": 50}, [(49, 90)], "'p0' is 49x90: too small for x50"),
        ({"name": "sr-implicit-paired", "inp_size": 8}, [(7, 9), (14, 18)], "'p0' is 7x9, smaller than the 8x8 crop"),
        ({"name": "sr-implicit-paired"}, [(7, 9), (14, 27)], "do not differ by one integer factor"),
        ({"name": "sr-implicit-paired"}, [(13, 19), (50, 73)], "2 rows and 3 columns larger.*12x18 .*48x72"),
        ({"name": "sr-implicit-paired"}, [(160, 241), (321, 481)], "0 rows and 1 columns .*160x240 .*320x480"),
        ({"name": "sr-implicit-paired", "sample_q": 253}, [(7, 9), (14, 18)], "'p0' has only 252 pixels"),
        (VARIED, [(10, 10), (20, 30)], "differ in aspect"),
    ],
)
def test_a_check_tells_from_sizes_what_some_sample_would_lack(wrapper, sizes, message):
    checker = wrap(Images((1, 1)), **wrapper)
    with pytest.raises(UserError, match=message):
        checker.check(0, *sizes)
    checker.check(0, *[(50 * (number + 1), 100 * (number + 1)) for number in range(len(sizes))])


@pytest.mark.parametrize(
    ("wrapper", "sizes", "pixels"),
    [
        ({"name": "sr-implicit-paired", "inp_size": 5}, [(7, 9), (14, 18)], 100),
        ({**VARIED, "size_min": 12}, [(10, 15), (20, 30)], 12 * 18),
        ({**VARIED, "gt_resize": 7}, [(15, 10), (30, 20)], 7 * 10),
    ],
)
def test_a_check_knows_how_many_pixels_a_sample_has(wrapper, sizes, pixels):
    wrap(Images((1, 1)), **wrapper, sample_q=pixels).check(0, *sizes)
    with pytest.raises(UserError, match=f"sample_q is {pixels + 1}, but a crop of 'p0' has only {pixels} pixels"):
        wrap(Images((1, 1)), **wrapper, sample_q=pixels + 1).check(0, *sizes)


@pytest.mark.parametrize(("low", "high"), [(2, 4), (1.5, 3.7), (2.5, 2.5)])
def test_the_fewest_pixels_are_those_of_the_worst_scale(low, high):
    size, scales = (37, 50), np.linspace(low, high, 20_001)
    cut = [np.round(np.floor(side / scales + 1e-9) * scales) for side in size]
    assert fewest_pixels(size, low, high) == (cut[0] * cut[1]).min() < 37 * 50


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_processes_together_have_the_batches_of_one(world_size):
    wrapper = wrap(Images(*SIZES * 3), **DOWNSAMPLED)  # the last batch has one sample
    alone = list(Batches(wrapper, 4, 7, 3))
    several = [Batches(wrapper, 4, 7, 3, 0, rank, world_size) for rank in range(world_size)]
    for k, batch in enumerate(alone):
        weights = [part.weights[k] for part in several]
        assert sum(weights) == pytest.approx(1, abs=1e-12)
        parts = [part[k] for part, weight in zip(several, weights, strict=True) if weight]
        for name, array in batch.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)
        for part, weight in zip(several, weights, strict=True):
            assert weight == (len(part[k]["inp"]) / len(batch["inp"]) if weight else 0)


def test_each_process_draws_others_in_a_step_and_the_first_what_one_alone_draws():
    drawn = [sampling.step_seed(3, 7, *rank) for rank in ((), (0,), (1,), (2,))]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3 and max(drawn) < 2**31

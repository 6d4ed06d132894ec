"""Samples and normalised batches are the bits of the plain formulation, whatever the fast path does to get there."""

import numpy as np
import pytest

from helpers import made_images, plain_samples
from liif_core.config.schema import DataNorm
from liif_core.data.batching import Batches, checked
from liif_core.data.registries import WRAPPERS
from liif_core.data.sets import make
from liif_core.images.normalisation import Normalisation
from liif_torch.datasets import make_loader

SIZES = [(41, 67), (90, 53), (64, 200), (37, 35), (48, 49)]
VARIED = "sr-implicit-uniform-varied"


class Singles:
    """Images that nobody may write to, like those of a memory map."""

    def __init__(self, scale=1, left_over=0):
        self.scale, self.left_over = scale, left_over
        self.images = [self.image(height, width, seed) for seed, (height, width) in enumerate(SIZES)]

    def image(self, height, width, seed):
        image = made_images.make_image(self.scale * height + self.left_over, self.scale * width + self.left_over, seed)
        image.flags.writeable = False
        return image

    def __len__(self):
        return 3 * len(self.images)

    def __getitem__(self, index):
        return self.images[index % len(self.images)]

    def name(self, index):
        return f"p{index}"


class Pairs(Singles):
    """With a low resolution beside; the high one has `left_over` rows and columns more than the factor."""

    def __getitem__(self, index):
        return made_images.make_image(*SIZES[index % len(SIZES)], seed=77), super().__getitem__(index)


CASES = [
    ("sr-implicit-downsampled", Singles(), {"inp_size": 8, "scale_max": 4, "sample_q": 50}),
    ("sr-implicit-downsampled", Singles(), {"inp_size": 9, "scale_min": 1, "sample_q": 81}),
    ("sr-implicit-downsampled", Singles(), {"inp_size": 8, "scale_min": 4, "sample_q": 200}),
    ("sr-implicit-downsampled", Singles(), {"inp_size": 7, "scale_min": 3.7}),
    ("sr-implicit-downsampled", Singles(), {"inp_size": 8, "scale_max": 2, "gt_downsample_max": 2, "sample_q": 60}),
    ("sr-implicit-downsampled", Singles(), {"scale_min": 3.7}),
    ("sr-implicit-downsampled", Singles(), {"scale_min": 1.3, "scale_max": 6, "sample_q": 20}),
    ("sr-implicit-downsampled", Singles(scale=5), {"inp_size": 40, "scale_max": 4, "sample_q": 1600}),
    ("sr-implicit-paired", Pairs(scale=3), {"inp_size": 7, "sample_q": 60}),
    ("sr-implicit-paired", Pairs(scale=2, left_over=1), {"sample_q": 99}),
    ("sr-implicit-paired", Pairs(scale=2, left_over=1), {}),
    (VARIED, Pairs(scale=4), {"size_min": 30, "size_max": 90, "sample_q": 77}),
    (VARIED, Pairs(scale=4), {"size_min": 30, "size_max": 90, "gt_resize": 41, "sample_q": 77}),
    (VARIED, Pairs(scale=2), {"size_min": 25}),
]


def assert_same_bits(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape)
        assert found[key].tobytes() == array.tobytes(), key


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize(("name", "dataset", "arguments"), CASES)
def test_samples_and_pairs_are_the_bits_of_the_plain_formulation(name, dataset, arguments, augment):
    spec = {"name": name, "args": {**arguments, "augment": augment}}
    for training, epoch in ((True, 1), (True, 2), (False, 1)):
        wrapper = WRAPPERS.make(spec, dataset=dataset, seed=5, training=training)
        for index in range(len(wrapper)):
            assert_same_bits(wrapper.sample(index, epoch), plain_samples.sample(wrapper, index, epoch))
            pairs = wrapper.pair(index, epoch), plain_samples.pair(wrapper, index, epoch)
            for found, expected in zip(*pairs, strict=True):
                np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_a_memory_mapped_folder_are_stacked_plain_samples(tmp_path, workers):
    root = made_images.folder(tmp_path / "train", {f"{number}.png": size for number, size in enumerate(SIZES)})
    spec = {
        "dataset": {"name": "image-folder", "args": {"root_path": str(root), "cache": "bin", "repeat": 3}},
        "wrapper": {
            "name": "sr-implicit-downsampled",
            "args": {"inp_size": 8, "scale_max": 4, "augment": True, "sample_q": 50},
        },
    }
    wrapper = make(spec, seed=3, training=True)
    batches = Batches(wrapper, 4, seed=3, epoch=2)
    found = list(checked(make_loader(batches, workers)))
    order = np.random.default_rng((0, 3, 2)).permutation(15)
    assert len(found) == 4
    for batch, first in zip(found, range(0, 15, 4), strict=True):
        expected = [plain_samples.sample(wrapper, int(index), 2) for index in order[first : first + 4]]
        assert_same_bits(batch, {key: np.stack([sample[key] for sample in expected]) for key in expected[0]})


NORMS = [([0.5], [0.5]), ([0], [1]), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]


@pytest.mark.parametrize(("sub", "div"), NORMS)
def test_normalised_are_the_bits_of_value_over_255_minus_sub_over_div(sub, div):
    norm = {"sub": sub, "div": div}
    normalisation = Normalisation(DataNorm.model_validate({"inp": norm, "gt": norm}))
    sub32, div32 = np.float32(sub), np.float32(div)
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    images = np.concatenate([levels, made_images.make_image(16, 16)[None], levels[:, ::-1]])
    expected = (images.astype(np.float32) / np.float32(255) - sub32) / div32
    batch = {"inp": images, "gt": images.reshape(3, 256, 3), "coord": np.zeros((3, 256, 2), np.float32)}
    found = normalisation.batch(batch)
    assert found["inp"].dtype == found["gt"].dtype == np.float32
    assert found["inp"].shape == (3, 3, 16, 16) and found["gt"].shape == (3, 256, 3)
    assert found["inp"].tobytes() == expected.transpose(0, 3, 1, 2).tobytes()
    assert found["gt"].tobytes() == expected.tobytes()
    assert found["coord"] is batch["coord"]
    assert normalisation.inp(images[0, :7]).tobytes() == expected[:1, :7].transpose(0, 3, 1, 2).tobytes()
    prediction = expected * np.float32(1.1)
    before = prediction.copy()
    restored = np.clip(before * div32 + sub32, 0, 1)
    assert normalisation.rgb(prediction).tobytes() == restored.tobytes()
    np.testing.assert_array_equal(prediction, before)  # the caller's own
